"""Count the instructions and cycles a MAC of each class of layer on a Cortex-M4 and M55, beside the bound and the share
of the zoo: docs/results/layers.json, docs/results.md.

    python benchmarks/layers.py

The classes come from mcunet-vww1, layer by layer, all its channels; dense 3x3 from ResNet8, fully connected layers from
MLPerf Tiny's auto-encoder. Cycles are layer_cycles.py's estimate for the STM32F412. The counts of CMSIS-NN (99f736a6)
and TinyEngine (47bb283, float requantisation, its default) on mcunet-vww1 were made once with the same compiler and
emulator, arm-none-eabi-gcc 12.2 -O3 and QEMU -icount shift=0: no command here repeats them. On the M55, with Helium,
CMSIS-NN takes 11.2 M instructions for the whole network. The share needs no emulator: it comes from the graphs of the
networks of networks.py.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from calibrate_cycles import profiled
from networks import NAMES, network
from readme import into_page

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.graph import Graph, Op
from nni_mcunet.core.plan.plan import plan

RESULTS = Path(__file__).parents[1] / "docs/results/layers.json"
PAGE, BEGIN, END = "results.md", "<!-- layers, by benchmarks/layers.py -->\n", "<!-- end of layers -->\n"
ADD, ALL, DENSE, FULL = "add, an element", "all of mcunet-vww1", "dense 3x3, cin from 16", "fully connected"
ZOO = tuple(name for name in NAMES if not name.endswith("-live"))  # a network with fewer of its channels counts once


class Known(NamedTuple):
    """Hold what is known of a class of layer and not measured here.

    bound     cycles a MAC on the M4 below which we see no way: our derivation from SMLAD, loads and stores, no
              measurement
    why       how it comes about. An SMLAD is two MACs; SXTB16 widens two bytes; a load takes one cycle in a row of
              loads; 6 cycles an output are its bias, its factor, SMMLA, shift, SSAT and store
    cmsis_nn, tinyengine    their instructions a MAC, empty where they were not counted
    """

    bound: float
    why: str
    cmsis_nn: str = ""
    tinyengine: str = ""


CLASSES = {
    "1x1, cin up to 8": Known(
        1.7, "an output over 8 products: 7.5 cycles of the loop of large cin, 6 to round and store", "6.6", "4.5"
    ),
    "1x1, cin 9 to 24": Known(
        1.4, "an output over 16 products: 15 cycles of the loop, 7.4 to begin it, round and store", "3.66", "2.53"
    ),
    "1x1, cin 25 to 95": Known(
        1.06, "an output over 48 products: 45 cycles of the loop, 6 to round and store", "2.42", "1.94"
    ),
    "1x1, cin from 96": Known(
        0.94, "2 positions x 4 channels x 4 of cin: 16 SMLAD, 6 loads, 8 SXTB16 for 32 products", "1.95", "1.89"
    ),
    "3x3, cin 3": Known(
        1.45, "an output over 27 products: 14 SMLAD, 6 to round and store, 19 of loads and widening", "4.8", "2.0"
    ),
    "depth-wise 3x3": Known(
        1.95, "an output: 6 SMLAD, 6 to round and store, 5.5 of loads and widening that a pass shares", "8.68", "7.05"
    ),
    "depth-wise 3x3 at steps of 2": Known(
        2.6, "an output: 6 SMLAD, 6 to round and store, 11.4 of loads and widening: windows share half as much"
    ),
    "depth-wise 5x5": Known(
        1.55, "an output: 15 SMLAD, 6 to round and store, 18 of loads and widening that a pass shares", "8.88", "4.95"
    ),
    "depth-wise 7x7": Known(
        1.4, "an output: 28 SMLAD, 6 to round and store, 35 of loads and widening that a pass shares", "7.73", "4.25"
    ),
    DENSE: Known(1.0, "an output over 144 products: 135 cycles of the 1x1's loop, 6 to round and store"),
    FULL: Known(
        1.5, "1 position x 4 channels x 4 of cin: 8 SMLAD, 5 loads, 10 SXTB16 for 16 products, and 6 an output of 128"
    ),
    ADD: Known(
        6.5,
        "4 elements: 2 loads, 4 SXTB16, 8 products, 4 shifts, 4 SSAT, 3 instructions that pack, 1 store",
        "82",
        "75",
    ),
}
PEERS = {ALL: ("4.15", "3.03")}  # 48.10 M and 35.07 M instructions for 11.58 M MACs


def class_of(graph: Graph, op: Op) -> str:
    """Return a name of CLASSES; the kind of an op that is neither a convolution nor a sum."""
    x, y = graph.input_of(op), graph.tensors[op.name]
    if op.kind == "add":
        return ADD
    if op.kind != "conv":
        return op.kind
    if op.is_depthwise(x.c):
        return f"depth-wise {op.k[0]}x{op.k[1]}{' at steps of 2' * (op.k == (3, 3) and op.s == (2, 2))}"
    if op.k == (3, 3):
        return "3x3, cin 3" if x.c == 3 else DENSE
    if y.h * y.w == 1:
        return FULL
    bounds = ((8, "1x1, cin up to 8"), (24, "1x1, cin 9 to 24"), (95, "1x1, cin 25 to 95"))
    return next((name for most, name in bounds if x.c <= most), "1x1, cin from 96")


def macs_by_class(graph: Graph) -> Counter[str]:
    """Count the MACs of each class; kinds that have none are left out."""
    found: Counter[str] = Counter()
    for op in graph.ops:
        found[class_of(graph, op)] += graph.op_macs(op)
    return +found


def shares(graphs: Iterable[Graph]) -> dict[str, float]:
    """Return class -> per cent of the MACs of all these networks together."""
    found = sum((macs_by_class(graph) for graph in graphs), Counter())
    return {name: 100 * macs / found.total() for name, macs in found.items()}


def counted() -> dict[str, list[int]]:
    """Return class -> MACs, M4 instructions, M4 cycles, M55 instructions, under the emulator."""
    sums: dict[str, list[int]] = {}
    for source, only in (("mcunet-vww1", None), ("ResNet8", DENSE), ("FC auto-encoder", FULL)):
        model = network(source)
        graph = model.graph
        layers, vectors = (profiled(plan(graph), model, get_board(name)) for name in ("f412", "n657"))
        for op in graph.ops:
            name = class_of(graph, op)
            if name == only or (only is None and name in CLASSES and name != FULL):
                work = graph.op_macs(op) or graph.tensors[op.name].size
                values = work, layers[op.name].instructions, layers[op.name].cycles, vectors[op.name].instructions
                sums[name] = [a + b for a, b in zip(sums.get(name, [0] * 4), values, strict=True)]
        if only is None:
            on_m4 = (sum(getattr(layer, field) for layer in layers.values()) for field in ("instructions", "cycles"))
            sums[ALL] = [graph.macs, *on_m4, sum(layer.instructions for layer in vectors.values())]
    return sums


def rows() -> list[dict]:
    part = shares(network(name).graph for name in ZOO)
    own = macs_by_class(network("mcunet-vww1").graph)
    bounds = {name: known.bound for name, known in CLASSES.items()}
    bounds[ALL] = round(sum(macs * bounds[name] for name, macs in own.items()) / own.total(), 2)
    sums = counted()
    return [
        {"class": name, "macs": macs, "instructions": count, "cycles_estimated": cycles,
         "instructions_per_mac": round(count / macs, 2), "cycles_per_mac": round(cycles / macs, 2),
         "bound_cycles_per_mac": bound, "bound_because": CLASSES[name].why if name in CLASSES else "its layers' bounds",
         "zoo_share_percent": None if name == ALL else round(part.get(name, 0.0), 1),
         "m55_instructions": on_m55, "m55_instructions_per_mac": round(on_m55 / macs, 2),
         "cmsis_nn": theirs[0], "tinyengine": theirs[1]}
        for name, bound in bounds.items()
        for macs, count, cycles, on_m55 in [sums[name]]
        for theirs in [PEERS.get(name) or CLASSES[name][2:]]
    ]  # fmt: skip


def table(found: list[dict]) -> str:
    text = "| class of layer | share of the zoo's MACs, % | M4 instructions a MAC | CMSIS-NN | TinyEngine "
    text += "| M4 cycles a MAC, estimated | bound | M55 instructions a MAC |\n"
    text += "|---|---:|---:|---:|---:|---:|---:|---:|\n"
    for row in found:
        share = "" if row["zoo_share_percent"] is None else row["zoo_share_percent"]
        text += (f"| {row['class']} | {share} | {row['instructions_per_mac']} | {row['cmsis_nn']} | "
                 f"{row['tinyengine']} | {row['cycles_per_mac']} | {row['bound_cycles_per_mac']} | "
                 f"{row['m55_instructions_per_mac']} |\n")  # fmt: skip
    return text


def main() -> None:
    found = rows()
    write_json(RESULTS, found)
    print(table(found))
    into_page(PAGE, BEGIN, table(found), END)


if __name__ == "__main__":
    main()
