"""Fit the table of core/latency.py to the real kernels: instructions of every op of random small networks, counted
under QEMU, then the error of the estimate on whole networks that had no part in the fit.

    python benchmarks/calibrate_cycles.py [--core cortex-m4] [--count 40] [--seed 0]

Prints the table as it stands in core/latency.py and per row the error over all of its ops together. Takes minutes.
"""

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from nni_mcunet.core import latency
from nni_mcunet.core.arch import ArchSpec, Schedule
from nni_mcunet.core.boards import Board
from nni_mcunet.core.build import build_graph
from nni_mcunet.core.graph import Graph, Op, Tensor
from nni_mcunet.core.kernels import kernel_of
from nni_mcunet.core.plan import Plan, plan, schedules
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.firmware import build_firmware, run_emulated
from nni_mcunet.engine.quant import PIXELS, PROBABILITY, QuantModel, QuantWeights, Scale

ARCHS = Path(__file__).parents[1] / "configs" / "arch"
# Row -> the features it is fitted on; the others say nothing new about that kernel, or nothing.
FITTED = {
    "conv_pw": ("macs", "singles", "outputs", "positions", "residual"),
    "conv_dense": ("macs", "singles", "outputs", "positions"),
    "conv_dw": ("macs", "outputs", "inputs"),
    **{f"conv_dw{k}s{s}": ("outputs", "inputs", "edges", "lines", "channels") for k in (3, 5, 7) for s in (1, 2)},
    "conv_group": ("macs", "outputs", "gathers"),
    "gap": ("inputs", "channels"),
    "maxpool": ("macs", "outputs"),
    "avgpool": ("macs", "outputs"),
    **dict.fromkeys(("upsample", "pad", "add", "mul", "act", "concat", "softmax"), ("outputs", "positions")),
    "image": ("inputs",),
    "halo": ("copied", "copies"),
}


KINDS = ("pw", "pw", "residual", "dw", "dw", "dw", "dense", "maxpool", "upsample", "large", "avgpool", "group", "act",
         "softmax", "pad", "add", "mul", "concat", "gate")  # fmt: skip


def random_network(rng: np.random.Generator) -> Graph:
    """A first convolution, then a dozen random ops (sums, products and concatenations with a branch): every kernel,
    k, stride, odd and even sizes, channels 8..200."""
    ops: list[Op] = []
    x = Tensor("image", int(rng.integers(24, 90)), int(rng.integers(24, 90)), 3)
    image = x

    def add(kind, cout, k=1, s=1, groups=1, residual=None, second=None):
        nonlocal x
        pad = (k // 2,) * 4 if kind in ("conv", "avgpool") else (1, 2, 0, 1) if kind == "pad" else (0,) * 4
        name, act = f"b{len(ops)}_{kind}", {"conv": "relu6", "act": "hswish"}.get(kind)
        size = (s, s) if kind == "maxpool" else (k, k)
        inputs = (x.name,) if second is None else (x.name, second.name)
        ops.append(Op(name, kind, inputs, cout, size, (s, s), pad, groups, act, residual, block=len(ops)))
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
        elif kind == "upsample" and small < 16:
            add("upsample", x.c, s=2)
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
        if op.kind == "softmax":
            scales[op.name] = PROBABILITY
        if op.kind == "conv":
            shape = (op.cout, graph.input_of(op).c // op.groups, *op.k)
            weight = rng.integers(-127, 128, shape).astype(np.int8)
            fan = np.float32(np.prod(shape[1:]))
            channel = np.full(op.cout, 0.05 / (73 * scales[op.inputs[0]].scale * 50 * np.sqrt(fan)), np.float32)
            weights[op.name] = QuantWeights(weight, channel, rng.integers(-999, 999, op.cout).astype(np.int32))
    return QuantModel(graph, scales, weights)


def emulated(found: Plan, board: Board, rng: np.random.Generator, instrument: bool):
    """Instructions of one inference or, instrumented, of each op, of what its output hands on to other patches (name
    and ":halo") and of the reading of the image: {name: count}."""
    image = found.graph.inputs[0]
    picture = rng.integers(0, 256, (image.h, image.w, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_sources(found, random_integers(found.graph, rng), folder)
        if instrument:
            _instrument(Path(folder), [op.name for op in found.graph.ops])
        run = run_emulated(build_firmware(folder, board, picture), board)
    if not instrument:
        return run["instructions"]
    counts, names = run["outputs"][0].view(np.uint64).tolist(), [op.name for op in found.graph.ops]
    return dict(zip([*names, *(f"{name}:halo" for name in names), "image"], counts, strict=True))


def _instrument(folder: Path, names: list[str]) -> None:
    """Every call in mcu_run adds the instructions it took to a table, which takes the place of the outputs."""
    path, header = folder / "mcu_model.c", folder / "mcu_model.h"
    before, call, tail = path.read_text().partition("void mcu_run(")
    run = tail.partition("const int8_t *mcu_output(int i)")[0]
    for at, name in enumerate(names):
        op, halo = rf"(?:if \(.*\) )?mcu_\w+\(&{name}(?:\[\d+\])?, .*;", rf"mcu_(?:rows|cols)\(.*&{name}_ey\[.*;"
        run = re.sub(rf"^( +)({op})", rf"\1MCU_COUNT({at}, \2)", run, flags=re.M)
        run = re.sub(rf"^( +)({halo})", rf"\1MCU_COUNT({len(names) + at}, \2)", run, flags=re.M)
    run = re.sub(r"^( +)((?:if \(.*\) )?read\(ctx.*;)$", rf"\1MCU_COUNT({2 * len(names)}, \2)", run, flags=re.M)
    macro = (
        f'#include "port.h"\nstatic uint64_t counts[{2 * len(names) + 1}];\n'
        "#define MCU_COUNT(i, ...) do { uint64_t t = mcu_count(); __VA_ARGS__ "
        "counts[i] += mcu_count() - t; } while (0);\n"
    )
    outputs = (
        "const int8_t *mcu_output(int i) { (void)i; return (const int8_t *)counts; }\n"
        "int mcu_output_bytes(int i) { (void)i; return sizeof counts; }\n"
    )
    path.write_text(before + macro + call + run + outputs)
    header.write_text(re.sub(r"#define MCU_OUTPUTS \d+", "#define MCU_OUTPUTS 1", header.read_text()))


def samples(found: Plan, counts: dict[str, int]) -> list[tuple[str, dict[str, int], int]]:
    """(row of the table, features, instructions) of every op."""
    rows = []
    for stage in found.stages:
        for op in stage.ops:
            row = latency.table_row(kernel_of(found.graph, op), op)
            rows.append((row, latency.features(found, stage, op), counts[op.name]))
            halo = latency.halo_features(stage, op)
            if halo["copied"]:
                rows.append(("halo", halo, counts[f"{op.name}:halo"]))
    return [*rows, ("image", {"inputs": latency.image_bytes(found)}, counts["image"])]


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--core", default="cortex-m4")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    board = Board("emulated", args.core, 100_000_000, 2 << 20, 2 << 20)  # room for all
    rows = []
    for _ in range(args.count):
        graph = random_network(rng)
        choices = schedules(graph)
        schedule = choices[int(rng.integers(len(choices)))] if rng.random() < 0.5 else Schedule()
        found = plan(graph, schedule, halo=str(rng.choice(["clip", "cache"])))
        rows += samples(found, emulated(found, board, rng, True))
    table = fit(rows)
    print("INSTRUCTIONS = {")
    for name, rates in table.items():
        own = [(sum(rates.get(k, 0) * v for k, v in f.items()), count) for row, f, count in rows if row == name]
        guess, true = np.array(own).T
        each = np.abs(guess / true - 1)
        text = ", ".join(f'"{k}": {v}' for k, v in rates.items())
        print(f'    "{name}": {{{text}}},  # {len(own)} ops: sum {guess.sum() / true.sum() - 1:+.1%}, '
              f"one {np.median(each):.1%}, worst {each.max():.0%}")  # fmt: skip
    print("}")
    latency.INSTRUCTIONS = table
    for name, p, n, halo in (
        ("mcunet_in1", 1, 0, "clip"),
        ("mcunet_in1", 3, 5, "clip"),
        ("mcunet_in1", 4, 5, "cache"),
        ("mcu_w50_r128", 1, 0, "clip"),
    ):
        found = plan(build_graph(ArchSpec.load(ARCHS / f"{name}.json")).folded(), Schedule((p, p), n), halo=halo)
        true, guess = emulated(found, board, rng, False), latency.instructions(found)
        print(f"{name} {found.schedule.p} {found.schedule.n} {found.halo}: {true:,} counted, {guess:,} estimated, "
              f"{guess / true - 1:+.1%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
