"""Count the instructions a MAC of each class of layer on a Cortex-M4 and M55: docs/results/layers.json,
docs/results.md.

    python benchmarks/layers.py

Of mcunet-vww1, layer by layer, all its channels; the sum of two maps, which it has none of, of a network of its own and
an element. Beside them the same counts of CMSIS-NN 7 and TinyEngine (float requantisation, its default), compiled with
the same compiler for the same network: arm-none-eabi-gcc 12.2 -O3, QEMU -icount shift=0. Cycles are layer_cycles.py's
estimate for the STM32F412. On the M55, with Helium, CMSIS-NN takes 11.2 M instructions for the whole network.
"""

from pathlib import Path

import numpy as np
from calibrate_cycles import profiled, random_integers
from networks import network
from readme import into_page

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.model import QuantModel

RESULTS = Path(__file__).parents[1] / "docs/results/layers.json"
PAGE, BEGIN, END = "results.md", "<!-- layers, by benchmarks/layers.py -->\n", "<!-- end of layers -->\n"
THEIRS = {  # class -> CMSIS-NN, TinyEngine
    "1x1, cin 8": ("6.6", "4.5"),
    "1x1, cin 16 to 24": ("4.0", "2.8"),
    "1x1, cin 48 to 95": ("2.3", "1.9"),
    "1x1, cin from 96": ("1.75 to 1.9", "1.8"),
    "3x3 at steps of 2, cin 3": ("4.8", "2.0"),
    "depth-wise 3x3": ("8.6", "6.9"),
    "depth-wise 5x5": ("8.7", "5.5"),
    "depth-wise 7x7": ("7.5", "4.2"),
    "add, an element": ("82", "75"),
    "all of mcunet-vww1": ("4.2", "3.0"),
}


def class_of(graph: Graph, op: Op) -> str:
    cin = graph.input_of(op).c
    if op.kind == "add":
        return "add, an element"
    if op.kind != "conv":
        return op.kind
    if op.is_depthwise(cin):
        return f"depth-wise {op.k[0]}x{op.k[1]}"
    if not op.is_pointwise:
        return f"{op.k[0]}x{op.k[1]} at steps of {op.s[0]}, cin {cin}"
    bounds = ((8, "1x1, cin 8"), (24, "1x1, cin 16 to 24"), (95, "1x1, cin 48 to 95"))
    return next((name for most, name in bounds if cin <= most), "1x1, cin from 96")


def two_maps() -> QuantModel:
    """20x20 positions of 16 channels, twice, and their sum."""
    one = Op("one", "conv", ("image",), 16)
    ops = one, Op("other", "conv", ("one",), 16, block=1), Op("sum", "add", ("one", "other"), 16, block=2)
    graph = Graph("add", (Tensor("image", 20, 20, 3),), ops, ("sum",)).verify()
    return random_integers(graph, np.random.default_rng(0))


def rows() -> list[dict]:
    sums: dict[str, list[int]] = {}
    for model, wanted in ((network("mcunet-vww1"), None), (two_maps(), "add")):
        graph = model.graph
        layers, vectors = (profiled(plan(graph), model, get_board(name)) for name in ("f412", "n657"))
        for op in graph.ops:
            if wanted in (None, op.kind):
                y = graph.tensors[op.name]
                work = graph.op_macs(op, y.h * y.w) if op.kind == "conv" else y.size
                values = work, layers[op.name].instructions, layers[op.name].cycles, vectors[op.name].instructions
                for i, value in enumerate(values):
                    sums.setdefault(class_of(graph, op), [0] * 4)[i] += value
        if wanted is None:
            counted, cycles, on_m55 = (
                sum(getattr(layer, field) for layer in found.values())
                for found, field in ((layers, "instructions"), (layers, "cycles"), (vectors, "instructions"))
            )
            sums["all of mcunet-vww1"] = [graph.macs, counted, cycles, on_m55]
    return [
        {"class": name, "macs": macs, "instructions": count, "cycles_estimated": cycles,
         "instructions_per_mac": round(count / macs, 2), "cycles_per_mac": round(cycles / macs, 2),
         "m55_instructions": on_m55, "m55_instructions_per_mac": round(on_m55 / macs, 2),
         "cmsis_nn": THEIRS[name][0], "tinyengine": THEIRS[name][1]}
        for name in THEIRS for macs, count, cycles, on_m55 in [sums[name]]
    ]  # fmt: skip


def main() -> None:
    found = rows()
    write_json(RESULTS, found)
    text = "| class of layer | M4 instructions a MAC | CMSIS-NN | TinyEngine | cycles a MAC, estimated "
    text += "| M55 instructions a MAC |\n"
    text += "|---|---:|---:|---:|---:|---:|\n"
    for row in found:
        text += (f"| {row['class']} | {row['instructions_per_mac']} | {row['cmsis_nn']} | {row['tinyengine']} | "
                 f"{row['cycles_per_mac']} | {row['m55_instructions_per_mac']} |\n")  # fmt: skip
    print(text)
    into_page(PAGE, BEGIN, text, END)


if __name__ == "__main__":
    main()
