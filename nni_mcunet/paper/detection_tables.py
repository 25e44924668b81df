"""Recompute the paper's tables on detection, 3, 4, 5 and 7, as far as they need no training: cells as in tables.py.

Tables 4, 5 and 7 count memory as RNNPool's authors do (memory_rules.py), Table 4 in fp32. Baselines whose layers are
not public say so.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from ..core.ir.arch import ArchSpec, Schedule
from ..core.ir.build import YoloHead, build_graph
from ..core.ir.graph import Graph, Op
from ..core.plan.plan import plan
from .baselines import face_baseline
from .figure import KB, MB, UNPUBLISHED, UNSOURCED, Cell
from .memory_rules import INT8, rnnpool, single_map

VOC_CLASSES = 20
YOLOV2_ANCHORS = 5


def yolo_v2(spec: ArchSpec) -> Graph:
    """Return a classifier up to its last 1x1 convolution, then YOLOv2's one 1x1 convolution: 5 anchors of 4 numbers, an
    objectness and VOC's classes."""
    graph = build_graph(replace(spec, classes=None))
    (source,) = graph.outputs
    channels = YOLOV2_ANCHORS * (5 + VOC_CLASSES)
    pred = Op("pred", "conv", (source,), channels, block=graph.ops[-1].block + 1)
    return replace(graph, ops=(*graph.ops, pred), outputs=("pred",)).verify()


def table_3(spec: Callable[[str], ArchSpec]) -> Iterator[Cell]:
    """Yield Pascal VOC; `spec` loads an architecture. The first two rows are MCUNet's authors' (its Table 5), with
    YOLOv2."""
    table = "Table 3: Pascal VOC"
    graph = yolo_v2(spec("mobilenet_v2_w50_r128"))
    reading = "MobileNetV2 w0.5 at 128 with YOLOv2's one 1x1 convolution: our reading, no file is public"
    norms = sum(op.cout for op in graph.ops if op.norm)
    params = (graph.trained_params + 2 * norms) / 1e6
    row = "MbV2 + CMSIS-NN (31.6 mAP)"
    yield Cell(table, row, "params", "0.87M", f"{params:.2f}M", reading + "; four a channel of normalisation")
    yield Cell(table, row, "MACs", "34M", f"{graph.macs / 1e6:.0f}M", reading)
    buffers = "theirs with CMSIS-NN's buffers, nothing in place; ours is the plan's arena"
    yield Cell(table, row, "SRAM", "519 kB", f"{plan(graph).arena / KB:.0f} kB", buffers)
    graph = build_graph(spec("mcunet_in3_r224"), YoloHead(VOC_CLASSES, (2, 4, 6), width=144))
    ours = (
        "ours is mcunet_in3 at 224 with our YOLOv3, as wide as gives these MACs; their network and head are not public"
    )
    row = "MCUNet (51.4 mAP)"
    yield Cell(table, row, "params", "1.20M", f"{graph.trained_params / 1e6:.2f}M", ours)
    yield Cell(table, row, "MACs", "168M", f"{graph.macs / 1e6:.0f}M", ours)
    yield Cell(table, row, "SRAM", "466 kB", f"{plan(graph).arena / KB:.0f} kB", ours)
    for row, values in (
        ("MCUNetV2 H743 (68.3 mAP)", ("0.67M", "343M", "438 kB")),
        ("MCUNetV2 F412 (64.6 mAP)", ("0.47M", "172M", "247 kB")),
    ):
        for what, value in zip(("params", "MACs", "SRAM"), values, strict=True):
            yield Cell(table, row, what, value, None, UNPUBLISHED)


def operations(graph: Graph) -> int:
    """Return the operations as EXTD's authors count: two a multiply-accumulate, two a normalised value, one an
    activation."""
    sizes = {name: tensor.size for name, tensor in graph.tensors.items()}
    return 2 * graph.macs + sum(sizes[op.name] * (2 * op.norm + (op.act is not None)) for op in graph.ops)


def lffd_as_counted(graph: Graph) -> int:
    """Return the MACs that LFFD's authors print: their released network without one tower in each branch, with
    biases."""
    kept = [op for op in graph.ops if op.kind == "conv" and not op.name.endswith("cls_tower")]
    return sum(graph.op_macs(op) + graph.tensors[op.name].size for op in kept)


def backbone(graph: Graph) -> Graph:
    """Return a face detector without its heads, which the memory of Tables 4 and 7 leaves out."""
    names = [op.name for op in graph.ops]
    return graph.part(tuple(name for name in names if not name.startswith("face")))


def table_4() -> Iterator[Cell]:
    """Yield WIDER FACE at 640x480."""
    table = "Table 4: WIDER FACE, fp32"
    graph = face_baseline("extd_32")
    note = "the paper's figure counts operations, not MACs: two a MAC, normalisation and activations too, see next row"
    yield Cell(table, "EXTD", "MACs", "8.49G", f"{graph.macs / 1e9:.2f}G", note)
    yield Cell(table, "EXTD", "operations", "8.49G", f"{operations(graph) / 1e9:.2f}G", "of the 32-channel EXTD")
    yield Cell(table, "EXTD", "peak, MB", "18.8", f"{single_map(graph) / MB:.1f}", "the stem's 64 channels at 320x240")
    graph = face_baseline("lffd")
    note = "ours is the released network, which has a 1x1 convolution more in each of its 8 branches, see next row"
    yield Cell(table, "LFFD", "MACs", "9.25G", f"{graph.macs / 1e9:.2f}G", note)
    note = "without that convolution, a bias counted as one MAC: our reading"
    yield Cell(table, "LFFD", "as counted", "9.25G", f"{lffd_as_counted(graph) / 1e9:.2f}G", note)
    note = "64 channels at 319x239: its strided convolutions are unpadded; 18.8 takes 320x240"
    yield Cell(table, "LFFD", "peak, MB", "18.8", f"{single_map(graph) / MB:.1f}", note)
    yield from _rnnpool_face_c(table)
    row, note = "RNNPool-Face-A", "its layers are not public to our knowledge; 16 channels at 160x120 are 1.17 MB"
    yield Cell(table, row, "MACs", "0.10G", None, note)
    yield Cell(table, row, "peak, MB", "1.17", None, note)
    note = "no public code to our knowledge (Zhao et al., Sensors 2019); 16 channels at 160x120 are 1.17 MB"
    yield Cell(table, "EagleEye", "MACs", "0.08G", None, note)
    yield Cell(table, "EagleEye", "peak, MB", "1.17", None, note)
    for row, values in (
        ("MCUNetV2 L", {"MACs": "1.10G", "peak": "1.89 MB"}),
        ("MCUNetV2 S", {"MACs": "0.11G", "peak": "672 kB"}),
    ):
        for what, value in values.items():
            yield Cell(table, row, what, value, None, UNPUBLISHED)


def _rnnpool_face_c(table: str) -> Iterator[Cell]:
    graph = face_baseline("rnnpool_face_c")
    pooling = graph.op_macs(graph.op("pool")) / 1e9
    note = f"every step of every sequence counted, the recurrent pooling is {pooling:.2f}G of ours; theirs is not shown"
    yield Cell(table, "RNNPool-Face-C", "MACs", "1.80G", f"{graph.macs / 1e9:.2f}G", note)
    peak = max(rnnpool(backbone(graph)).values()) / MB
    note = "block in + out: (64 + 24) channels at 160x120; 6.445, the paper cuts off"
    yield Cell(table, "RNNPool-Face-C", "peak, MB", "6.44", _cut_off(peak), note)


def table_5(graph: Callable[[str], Graph]) -> Iterator[Cell]:
    """Yield MobileNetV2 at 224 and other ways to save memory: block input + block output, the segment's whole output
    not counted. `graph` gives a network of the zoo."""
    table = "Table 5: against RNNPool, fp32 MB (cut off, as the paper does)"
    redistributed = "not below 0.24 at 4x4 without redistribution"
    apart = "4x4 patches, n = 5, without a halo: another network, trained so"
    pooled = "0.239: the one figure that the paper rounds; streamed up to the pooling's output, 64 channels at 28x28"
    rows = (
        ("MobileNetV2, per layer", "mobilenet_v2", None, "clip", "2.29", ""),
        ("Non-overlap", "mobilenet_v2", Schedule((4, 4), 5), "none", "0.19", apart),
        ("MbV2-RNNPool", "mobilenet_v2_rnnpool", None, "clip", "0.24", pooled),
        ("MbV2-RD, 4x4 patches, n = 4", "mobilenet_v2_rd", Schedule((4, 4), 4), "clip", "0.19", ""),
        ("MobileNetV2, 4x4 patches, n = 5", "mobilenet_v2", Schedule((4, 4), 5), "clip", UNSOURCED, redistributed),
    )
    for row, name, schedule, halo, paper, note in rows:
        peak = max(rnnpool(graph(name), schedule, halo=halo).values()) / MB
        yield Cell(table, row, "peak", paper, _cut_off(peak), note)
    pool = graph("mobilenet_v2_rnnpool")
    note = f"every step counted, the pooling is {pool.op_macs(pool.op('stem_pool')) / 1e6:.0f}M of it"
    yield Cell(table, "MbV2-RNNPool", "MACs, M", UNSOURCED, f"{pool.macs / 1e6:.0f}", note)


def table_7() -> Iterator[Cell]:
    """Yield the int8 face detector at 640x480."""
    table, row = "Table 7: WIDER FACE, int8", "RNNPool-Face-Quant"
    graph = face_baseline("rnnpool_face_quant")
    note = "the released layers; which of them and how the recurrent pooling is counted there, the paper does not say"
    yield Cell(table, row, "MACs", "0.12G", f"{graph.macs / 1e9:.2f}G", note)
    peak = f"{max(rnnpool(backbone(graph), element=INT8).values()) / KB:.0f}"
    yield Cell(table, row, "peak, kB", "225", peak, "block in + out: (32 + 16) channels at 80x60")
    yield Cell(table, "MCUNetV2 S", "MACs", "0.11G", None, UNPUBLISHED)
    yield Cell(table, "MCUNetV2 S", "peak, kB", "168", None, UNPUBLISHED)


def _cut_off(value: float) -> str:
    return f"{int(value * 100) / 100:.2f}"
