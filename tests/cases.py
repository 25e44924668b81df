"""Random networks with random schedules for prove.py, each drawn by its number, and what a case exercises."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from nets import MOVES, any_graph, block_graph, random_graph, random_model, twice_graph

from nni_mcunet.core.boards import Board
from nni_mcunet.core.boards.parts import Region
from nni_mcunet.core.errors import GraphError, ScheduleError
from nni_mcunet.core.ir.arch import HALO_WORDS, ArchSpec, Block, Schedule
from nni_mcunet.core.ir.build import FaceHead, YoloHead, YoloxHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.cut_points import ends_patches, split
from nni_mcunet.core.plan.head_slices import heads
from nni_mcunet.core.plan.kernel_facts import kernel_of
from nni_mcunet.core.plan.plan import Plan, plan
from nni_mcunet.core.plan.regions import spread
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.model import QuantModel

MOST = 6  # patches along an axis


@dataclass(frozen=True)
class Case:
    """A plan, a model of its graph, and a picture (h, w, 3) uint8."""

    plan: Plan
    model: QuantModel
    picture: np.ndarray


def case(number: int) -> Case:
    """The case of this number: the first draw of it that 32 bits hold and of which a map is left."""
    for attempt in count():
        rng = np.random.default_rng([number, attempt])
        try:
            graph, meta = NETWORKS[number % len(NETWORKS)](rng)
            model = replace(random_model(rng, graph, float(rng.choice([1 / 255, 1 / 60]))), meta=meta)
            integers(model)
        except GraphError:
            continue
        t = graph.inputs[0]
        picture = rng.integers(0, 256, (t.h, t.w, t.c)).astype(np.uint8)
        patches = schedule(rng, graph)
        slices = int(rng.integers(1, 6)) if heads(graph) else 1
        found = plan(graph, replace(patches, halo=halo(rng, patches), slices=slices))
        return Case(in_regions(rng, found) if rng.random() < 0.25 else found, model, picture)


def in_regions(rng, found: Plan) -> Plan:
    """The plan in two to four memories of a board, most of which are too small for the whole; as it is where they do
    not hold it."""
    least, kb = max(b.size for b in found.unplaced), 1024
    count = int(rng.integers(2, 5))
    sizes = [int(rng.uniform(0.8, 1.8) * found.arena / count) for _ in range(count)]
    sizes[int(rng.integers(count))] = least + int(rng.integers(1, 4 * kb))
    regions, at = [], 0x20000000
    for i, size in enumerate(sizes):
        regions.append(Region(f"R{i}", at, -(-size // kb) * kb, int(rng.integers(0, 30))))
        at += 1 << 24
    board = Board("drawn", "cortex-m7", 1, max(r.bytes for r in regions), 1 << 30, 0, regions=tuple(regions))
    return spread(found, board, fewest=bool(rng.random() < 0.7)) or found


def schedule(rng, graph: Graph) -> Schedule:
    """One in eight per layer, else one to three segments or more, some of them layer by layer, between any cuts; one in
    four has many short ones."""
    found, begin, short = [], 0, rng.random() < 0.25
    while rng.random() < ((0.9 if short else 0.5) if found else 0.875):
        patched = not found or rng.random() < 0.8
        ends = _ends(graph, begin, patched)[: 1 if short else None]
        if not ends:
            break
        begin, out = ends[rng.integers(len(ends))]
        found.append((grid(rng, graph.tensors[out]) if patched else (1, 1), begin))
    return Schedule(*found[0], tuple(found[1:])) if found else Schedule()


def halo(rng, patches: Schedule) -> str:
    """One in three a word for all segments, else one for each, half of them with two words."""
    words = rng.choice(HALO_WORDS, (max(1, sum(p != (1, 1) for p, _ in patches.segments)), 2)).tolist()
    if rng.random() < 1 / 3:
        return words[0][0]
    return ",".join("/".join(pair) if rng.random() < 0.5 else pair[0] for pair in words)


def _ends(graph: Graph, begin: int, patched: bool) -> list[tuple[int, str]]:
    """Where a segment from block `begin` may end, and what it hands on."""
    found = []
    for n in sorted({op.block + 1 for op in graph.ops if op.block >= begin}):
        with suppress(ScheduleError):
            found.append((n, split(graph, n, begin, patched)[1]))
    return found


def grid(rng, out: Tensor) -> tuple[int, int]:
    """Up to MOST x MOST, one side in three as fine as it may be."""
    most, fine = [min(MOST, length) for length in (out.h, out.w)], rng.random(2) < 1 / 3
    return tuple(m if f else int(rng.integers(1, m + 1)) for m, f in zip(most, fine, strict=True))


# The networks of a case: (rng) -> graph, meta.


def side(rng) -> int:
    return int(rng.integers(7, 42))


def channels(rng) -> int:
    """Draw the picture's channels: RGB, grey, or of another sensor."""
    return int(rng.choice([3, 3, 3, 1, 2, 4, 5]))


def chain(rng):
    size, wide = (side(rng), side(rng)), int(rng.choice([9, 9, 33]))
    return random_graph(rng, int(rng.integers(2, 8)), size, (2, wide), channels(rng)), {}


def long_chain(rng):
    return random_graph(rng, int(rng.integers(10, 20)), (side(rng), side(rng)), (2, 12), channels(rng)), {}


def anything(rng):
    return any_graph(rng, int(rng.integers(2, 8)), channels(rng)), {}


def doubles(rng):
    return twice_graph(rng, int(rng.integers(2, 6)), channels(rng)), {}


def blocks(rng):
    return block_graph(rng, (side(rng), side(rng)), int(rng.integers(2, 9)), channels(rng)), {}


def skips(rng):
    """Maps that are read again blocks later."""
    return block_graph(rng, (side(rng), side(rng)), int(rng.integers(4, 10)), channels(rng), 0.5), {}


def taps(rng):
    """Several outputs: two maps and the last."""
    graph, _ = blocks(rng)
    names = [op.name for op in graph.ops]
    return replace(graph, outputs=tuple(dict.fromkeys([*rng.choice(names, 2).tolist(), names[-1]]))), {}


def spec(rng, resolution, stages: int, se: int = 0) -> ArchSpec:
    """A backbone as the search space has them; squeeze-excite from stage `se` on, 0 for none."""
    found = []
    for stage in range(stages):
        c, group = int(rng.integers(2, 6)) * int(rng.choice([3, 4])), []
        for depth in range(int(rng.integers(1, 4))):
            reduced = 2 if se and stage >= se else 0
            k, mid = int(rng.choice([3, 5, 7])), int(rng.integers(5, 41))
            group.append(Block(k, 1 + (depth == 0), mid, c, se=reduced))
        found.append(tuple(group))
    act, gate = str(rng.choice(["relu", "relu6"])), str(rng.choice(["sigmoid", "hsigmoid"]))
    return ArchSpec("spec", resolution, int(rng.integers(3, 17)), tuple(found), 24, 5, act=act, gate=gate)


def classifier(rng):
    stages = int(rng.integers(2, 4))
    size = (int(rng.integers(17, 49)), int(rng.integers(17, 49)))
    return build_graph(spec(rng, size, stages, int(rng.integers(stages)))).folded(), {}


def detector(rng):
    size = tuple(int(n) * 16 for n in rng.integers(1, 4, 2))
    common = {"score_thr": 0.2, "nms_iou": 0.45, "max_per_img": int(rng.integers(3, 30))}
    scales, classes = 2, int(rng.integers(1, 4))
    backbone, strides = spec(rng, size, scales + 1), [4 << i for i in range(scales)]
    kind = rng.random()
    if kind < 0.4:
        anchors = rng.integers(4, 40, (scales, 2, 2)).tolist()
        graph = build_graph(backbone, YoloHead(classes, tuple(range(scales)), 12, 2))
        meta = {"type": "yolov3", "classes": [f"c{i}" for i in range(classes)], "anchors": anchors, "conf_thr": 0.1}
    elif kind < 0.7:
        graph = build_graph(backbone, YoloxHead(classes, tuple(range(scales)), 12, 8, int(rng.integers(1, 3))))
        meta = {"type": "yolox", "classes": [f"c{i}" for i in range(classes)]}
    else:
        background = int(rng.integers(1, 4))
        head = FaceHead(tuple(range(scales)), background, 12 if background == 1 else None)
        graph = build_graph(backbone, head)
        meta = {"type": "s3fd", "classes": ["face"], "sizes": [9, 20], "background": list(head.backgrounds)}
        meta["variances"] = [0.1, 0.2]
    return graph.folded(), {"detector": {**common, **meta, "strides": strides}}


NETWORKS = (chain, anything, blocks, classifier, skips, detector, blocks, anything, long_chain, taps, doubles)


# --- the features that a case exercises

LEAST = {  # of a thousand cases
    "per layer": 50, **{f"{side} {word}": 200 for side in ("rows", "columns") for word in HALO_WORDS},
    "halo of two words": 150, "halos differ": 80, "head in slices": 20, "grid not square": 300,
    "picture not square": 800,
    "odd height": 300, "odd width": 300, "detector": 60, "several outputs": 100, "squeeze-excite behind": 60,
    "regions 2": 60, "regions 3": 5,
    "patched segments 2": 100, "patched segments 3": 10,
    "squeeze-excite on the segment's output": 20, "residual inside": 150, "residual across": 100,
    "map past patches": 12, "several whole maps": 5,
    "twice: residual": 40, "twice: add": 20, "twice: mul": 20, "twice: concat": 20, "twice inside": 80,
    "twice across": 15,
    "behind: over its input, before": 200, "behind: over its input, after": 120,
    "inside: over its input, before": 25, "inside: over its input, after": 25,
    **{f"over its input: {kernel}": 8 for kernel in ("conv_pw", "conv_dense", "conv_group", "avgpool", "upsample",
                                                     "pad")},
    **{f"channels {c}": 60 for c in (1, 2, 4, 5)},
    **{f"p {axis} {p}": 30 for axis in "hw" for p in range(1, MOST + 1)},
    **{f"inside: {kernel} {k} stride {s}": 20 for kernel in ("conv_dw", "conv_dense") for k in (3, 5, 7)
       for s in (1, 2)},
    **{f"inside: {kind}": 8 for kind in ("conv_pw", "conv_group", "maxpool", "avgpool", "upsample", "pad", "add", "mul",
                                          "concat", "act", "softmax", *MOVES)},
    **{f"behind: {kind}": 8 for kind in MOVES},
    **{f"behind: {kind}": 12 for kind in ("conv_pw", "conv_dw", "conv_dense", "conv_group", "maxpool", "avgpool", "gap",
                                          "upsample", "pad", "add", "mul", "concat", "act", "softmax",
                                          "attention_scores", "attention_sum")},
}  # fmt: skip


def features(found: Case) -> list[str]:
    """Names of what the case exercises, see LEAST; "inside" and "behind" patched segments."""
    p, graph, image = found.plan, found.plan.graph, found.plan.graph.inputs[0]
    names = {"picture not square"} if image.h != image.w else set()
    names |= {f"odd {what}" for what, length in (("height", image.h), ("width", image.w)) if length % 2}
    if found.model.meta:
        names.add("detector")
    names.add(f"channels {image.c}")
    if len(graph.outputs) > 1:
        names.add("several outputs")
    patched = [segment for segment in p.segments if segment.patched]
    names.add(f"patched segments {len(patched)}")
    halos = [words for words, (p, _) in zip(p.schedule.halos, p.schedule.segments, strict=True) if p != (1, 1)]
    names |= {f"{side} {word}" for words in halos for side, word in zip(("rows", "columns"), words, strict=True)}
    names |= {"halo of two words"} if any(rows != cols for rows, cols in halos) else set()
    names |= {"halos differ"} if len(set(halos)) > 1 else set()
    names |= set() if patched else {"per layer"}
    names |= {"head in slices"} if p.schedule.slices > 1 else set()
    names |= {f"regions {len(p.parts)}"} if p.parts else set()
    for segment in patched:
        names |= {f"p {axis} {n}" for axis, n in zip("hw", segment.grid, strict=True)}
        if segment.grid[0] != segment.grid[1]:
            names.add("grid not square")
    return sorted(names | set(_of_ops(p)) | set(_over_inputs(p)))


def _over_inputs(p: Plan) -> Iterator[str]:
    """List how outputs lie over the inputs that they consume: before or behind their beginning."""
    buffers, patched = p.buffers, {op.name for segment in p.segments if segment.patched for op in segment.ops}
    for name, at in p.home.items():
        for life in buffers[at].lives:
            if life.over >= 0 and p.graph.ops[life.start].name == name:
                low, other = buffers[at].offset, buffers[life.over]
                if low < other.offset + other.live_bytes(life.start) and other.offset < low + life.size:
                    where = "inside" if name in patched else "behind"
                    yield f"{where}: over its input, {'before' if low < other.offset else 'after'}"
                    yield f"over its input: {kernel_of(p.graph, p.graph.op(name))}"


def _of_ops(p: Plan) -> Iterator[str]:
    graph, outs, written = p.graph, {segment.out for segment in p.segments if segment.patched}, set()
    for segment in p.segments:
        where, begun = "inside" if segment.patched else "behind", bool(written)
        own, read = {op.name for op in segment.ops}, {name for op in segment.ops for name in op.reads}
        if segment.patched and segment.former - read:
            yield "map past patches"  # a later segment reads it
        if segment.patched and len(segment.former & read) > 1:
            yield "several whole maps"
        for op in segment.ops:
            kernel = kernel_of(graph, op)
            yield f"{where}: {kernel}"
            if kernel in ("conv_dw", "conv_dense") and op.k[0] == op.k[1] and op.s[0] == op.s[1]:
                yield f"{where}: {kernel} {op.k[0]} stride {op.s[0]}"
            if segment.patched:
                yield from _doubles(op, "inside" if op.inputs[0] in own else "across" if begun else "image")
            if segment.patched and op.residual in own:
                yield "residual inside"
            if begun and op.residual in outs - own:
                yield "residual across"
            if begun and op.kind == "mul" and ends_patches(graph, op):
                yield "squeeze-excite behind"
                if op.inputs[0] in outs:
                    yield "squeeze-excite on the segment's output"
        written |= own


def _doubles(op: Op, where: str) -> Iterator[str]:
    """List what an op of a patched segment reads twice: of the segment, of one before it, or of the image."""
    if op.residual in op.inputs and max(op.k) > 1:
        yield from ("twice: residual", f"twice {where}")
    if len(set(op.inputs)) < len(op.inputs):
        yield from (f"twice: {op.kind}", f"twice {where}")
