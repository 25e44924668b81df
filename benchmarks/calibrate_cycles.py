"""Fit the tables of core/plan/latency.json to the real kernels: instructions and estimated cycles of every op of random
small networks under QEMU (engine/timing/layer_cycles.py).

    python benchmarks/calibrate_cycles.py [--count 40] [--seed 0] [--write]

Prints the tables or writes them to core/plan/latency.json, and per row the error over all of its ops together. Takes
minutes. benchmarks/latency.py then measures the error on whole networks that had no part in the fit.
"""

import argparse
import json
import tempfile
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls
from tqdm import tqdm

from nni_mcunet.core.boards import CORE_BOARDS, Board, get_board
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan import latency
from nni_mcunet.core.plan.kernel_facts import kernel_of
from nni_mcunet.core.plan.plan import Plan, plan, schedules
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.model import PIXELS, PROBABILITY, QuantModel, QuantWeights, Scale
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.timing.layer_cycles import Layer, run_profiled

# Row -> the features it is fitted on; the others say nothing new about that kernel, or nothing.
FITTED = {
    "conv_pw": ("macs", "weights", "singles", "repeated", "outputs", "positions", "lines", "residual"),
    "conv_dense": ("macs", "weights", "singles", "repeated", "outputs", "positions", "lines"),
    "conv_dw": ("macs", "outputs", "inputs"),
    **{f"conv_dw{k}s{s}": ("outputs", "inputs", "edges", "lines", "channels") for k in (3, 5, 7) for s in (1, 2)},
    "conv_group": ("macs", "outputs", "gathers"),
    "gap": ("inputs", "channels"),
    "maxpool": ("macs", "outputs"),
    "avgpool": ("macs", "outputs"),
    **dict.fromkeys(
        (
            "upsample",
            "pad",
            "take",
            "take_run",
            "space_to_depth",
            "depth_to_space",
            "add",
            "mul",
            "act",
            "concat",
            "softmax",
        ),
        ("outputs", "positions"),
    ),
    **dict.fromkeys(("attention_scores", "attention_sum"), ("macs", "outputs")),
    "image": ("inputs",),
    "halo": ("copied", "copies"),
}


KINDS = ("pw", "pw", "residual", "dw", "dw", "dw", "dense", "maxpool", "upsample", "large", "avgpool", "group", "act",
         "softmax", "pad", "add", "mul", "concat", "gate", "take", "space_to_depth", "depth_to_space",
         "attention")  # fmt: skip


def random_network(rng: np.random.Generator) -> Graph:
    """A first convolution, then a dozen random ops (sums, products and concatenations with a branch): every kernel,
    k, stride, odd and even sizes, channels 8..200."""
    ops: list[Op] = []
    x = Tensor("image", int(rng.integers(24, 90)), int(rng.integers(24, 90)), 3)
    image = x

    def add(kind, cout, k=1, s=1, groups=1, residual=None, second=None, channels=()):
        nonlocal x
        pad = (k // 2,) * 4 if kind in ("conv", "avgpool") else (1, 2, 0, 1) if kind == "pad" else (0,) * 4
        name, act = f"b{len(ops)}_{kind}", {"conv": "relu6", "act": "hswish"}.get(kind)
        size = (s, s) if kind in ("maxpool", "space_to_depth") else (k, k)
        inputs = (x.name,) if second is None else (x.name, second.name)
        ops.append(Op(name, kind, inputs, cout, size, (s, s), pad, groups, act, residual,
                      block=len(ops), channels=channels))  # fmt: skip
        x = Graph("g", (image,), tuple(ops), ()).tensors[name]

    add("conv", 8 * int(rng.integers(1, 5)), 3, 2)
    for _ in range(12):
        small = min(x.h, x.w)
        kind = str(rng.choice(KINDS))
        if kind == "dw" and small > 2:
            add("conv", x.c, int(rng.choice([3, 5, 7])), int(rng.choice([1, 1, 2])), x.c)
        elif kind == "large" and small > 8:
            add("conv", x.c, int(rng.choice([9, 11])), int(rng.choice([1, 2, 3])), x.c)
        elif kind == "dense" and small > 2 and x.c <= 64:
            add("conv", 8 * int(rng.integers(1, 5)), 3, int(rng.choice([1, 2])))
        elif kind == "maxpool" and small > 4:
            add("maxpool", x.c, s=2)
        elif kind == "avgpool" and small > 4:
            add("avgpool", x.c, int(rng.choice([2, 3, 5])), int(rng.choice([1, 2])))
        elif kind == "group":
            groups = int(rng.choice([2, 4, x.c]))
            add("conv", groups * int(rng.integers(1, 3)) if groups == x.c else x.c, 3, groups=groups)
        elif kind in ("act", "softmax", "pad"):
            add(kind, x.c)
        elif kind in ("add", "mul", "concat") and x.c < 100:
            skip = x
            add("conv", x.c)
            add(kind, x.c * (1 + (kind == "concat")), second=skip)
        elif kind == "gate":
            skip = x
            add("gap", x.c)
            gate, x = x, skip
            add("mul", x.c, second=gate)
        elif kind == "take":
            chosen = rng.permutation(x.c) if rng.random() < 0.7 else np.arange(x.c // 2, x.c)
            add("take", len(chosen), s=int(rng.choice([1, 1, 2])) if small > 4 else 1, channels=tuple(chosen.tolist()))
        elif kind == "space_to_depth" and small > 4 and x.h % 2 == x.w % 2 == 0 and x.c < 60:
            add("space_to_depth", 4 * x.c, s=2)
        elif kind == "depth_to_space" and small < 16 and x.c % 4 == 0:
            add("depth_to_space", x.c // 4, s=2)
        elif kind == "upsample" and small < 16:
            add("upsample", x.c, s=2)
        elif kind == "attention" and 1 < x.h * x.w <= 200 and x.c <= 128:
            heads = int(rng.choice([g for g in (1, 2, 4) if x.c % g == 0]))
            keys = x
            add("conv", x.c)
            add("attention_scores", x.h * x.w, groups=heads, second=keys)
            add("softmax", x.c)
            add("attention_sum", keys.c, groups=heads, second=keys)
        elif kind == "residual":
            skip = x
            add("conv", 8 * int(rng.integers(1, 20)))
            add("conv", skip.c, residual=skip.name)
        else:
            add("conv", 8 * int(rng.integers(1, 26 if small < 20 else 8)))
    add("gap", x.c)
    return Graph("random", (image,), tuple(ops), (x.name,)).verify()


def random_integers(graph: Graph, rng: np.random.Generator) -> QuantModel:
    scales, weights = {t.name: PIXELS for t in graph.inputs}, {}
    for op in graph.ops:
        scales[op.name] = scales[op.inputs[0]] if op.kind != "conv" else Scale(0.05, int(rng.integers(-100, 100)))
        if op.act == "relu6":  # as calibrated: its ends are those of int8, which costs nothing
            scales[op.name] = Scale(float(rng.uniform(5, 6)) / 255, -128)
        if op.kind.startswith("attention"):
            scales[op.name] = Scale(150 * scales[op.inputs[0]].scale * scales[op.inputs[1]].scale, 0)
        if op.kind == "softmax":
            scales[op.name] = PROBABILITY
        if op.kind == "conv":
            shape = (op.cout, graph.input_of(op).c // op.groups, *op.k)
            weight = rng.integers(-127, 128, shape).astype(np.int8)
            fan = np.float32(np.prod(shape[1:]))
            channel = np.full(op.cout, 0.05 / (73 * scales[op.inputs[0]].scale * 50 * np.sqrt(fan)), np.float32)
            weights[op.name] = QuantWeights(weight, channel, rng.integers(-999, 999, op.cout).astype(np.int32))
    return QuantModel(graph, scales, weights)


def profiled(found: Plan, model: QuantModel, board: Board, seed: int = 0) -> dict[str, Layer]:
    """Measure one inference of a plan on the emulated board, see engine/timing/layer_cycles.py."""
    image = found.graph.inputs[0]
    picture = np.random.default_rng(seed).integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_library(folder, found, model, board)
        return run_profiled(build_firmware(folder, board, picture), board)[1]


def samples(found: Plan, counts: dict[str, int]) -> list[tuple[str, dict[str, int], int]]:
    """(row of the table, features, count) of every op."""
    rows = [("image", {"inputs": latency.image_bytes(found)}, counts["image"])]
    for segment in found.segments:
        for op in segment.ops:
            row = latency.table_row(kernel_of(found.graph, op), op)
            rows.append((row, latency.features(found, segment, op), counts[op.name]))
            halo = latency.halo_features(segment, op)
            if halo["copied"]:
                rows.append(("halo", halo, counts[f"{op.name}:halo"]))
    return rows


def fit(rows) -> dict[str, dict[str, float]]:
    """Non-negative least squares of the relative error, row by row of the table."""
    table = {}
    for name, features in FITTED.items():
        own = [(f, count) for row, f, count in rows if row == name]
        x = np.array([[f[feature] for feature in features] for f, _ in own], float)
        y = np.array([count for _, count in own], float)
        weight = y**-0.5  # between the relative error of each and the error of the sum
        rates, _ = nnls(x * weight[:, None], y * weight)
        table[name] = {f: round(float(rate), 2) for f, rate in zip(features, rates, strict=True) if rate >= 0.005}
    return table


def print_errors(table: latency.Table, rows) -> None:
    """Print the errors of each row of a table on the ops that it was fitted to."""
    for name, rates in table.items():
        own = [(sum(rates.get(k, 0) * v for k, v in f.items()), count) for row, f, count in rows if row == name]
        guess, true = np.array(own).T
        each = np.abs(guess / true - 1)
        print(f"{name:>12}: {len(own)} ops, sum {guess.sum() / true.sum() - 1:+.1%}, "
              f"one {np.median(each):.1%}, worst {each.max():.0%}")  # fmt: skip


def as_json(instructions: latency.Table, cycles: dict[str, latency.Table]) -> str:
    """Return the text of latency.json: a line for each row, so that a diff shows what a fit has moved."""
    tables = [f'  "{core}": {_rows(table, "  ")}' for core, table in cycles.items()]
    return f'{{\n "instructions": {_rows(instructions, " ")},\n "cycles": {{\n' + ",\n".join(tables) + "\n }\n}\n"


def _rows(table: latency.Table, indent: str) -> str:
    rows = [f"{indent} {json.dumps(name)}: {json.dumps(rates)}" for name, rates in table.items()]
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"


def counted(core: str, count: int, seed: int):
    """(rows of instructions, rows of cycles) of `count` random networks."""
    rng, instructions, cycles = np.random.default_rng(seed), [], []
    board = replace(get_board(CORE_BOARDS[core]), sram=2 << 20, flash=2 << 20)  # room for all
    for _ in tqdm(range(count), desc=core, disable=None):
        graph = random_network(rng)
        choices = schedules(graph)
        schedule = choices[int(rng.integers(len(choices)))] if rng.random() < 0.5 else Schedule()
        found = plan(graph, schedule, halo=str(rng.choice(["clip", "cache"])))
        layers = profiled(found, random_integers(graph, rng), board)
        instructions += samples(found, {name: layer.instructions for name, layer in layers.items()})
        cycles += samples(found, {name: layer.cycles for name, layer in layers.items()})
    return instructions, cycles


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="networks (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="to core/plan/latency.json, otherwise print")
    args = parser.parse_args()
    rows = {core: counted(core, args.count, args.seed) for core in CORE_BOARDS}
    instructions = fit(rows["cortex-m4"][0])
    print("instructions")
    print_errors(instructions, rows["cortex-m4"][0])
    cycles = {core: fit(found) for core, (_, found) in rows.items()}
    for core, (_, found) in rows.items():
        print(f"cycles, {core}")
        print_errors(cycles[core], found)
    text = as_json(instructions, cycles)
    if args.write:
        print(f"{write_atomic(latency.TABLES, text)}: written")
    else:
        print(text)


if __name__ == "__main__":
    main()
