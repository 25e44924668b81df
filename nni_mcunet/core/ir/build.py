"""Build the one definition of a network: ArchSpec (and a detection head) -> Graph. All that computes one walks it.

Names: stem, stem_pool, s{stage}_b{block}_{exp,dw,proj} (pw for a block without a depth-wise; squeeze-excite adds
se_pool, se_red, se_gate, se_act, se_mul), head, pool, fc, neck{i}_*, yolo{i}_*, yolox{i}_*, face{i}_*.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TypeAlias

from ..errors import ArchError
from ..types import Plain, PlainDict
from ..validate import short
from .arch import ArchSpec, Block, Pool, natural
from .graph import Graph, Op, Tensor

BACKBONE = ("stem", "s")  # prefixes of the op names, for Graph.part
NECK = ("neck",)
YOLO = ("yolo",)
YOLOX = ("yolox",)
FACE = ("face",)


@dataclass(frozen=True)
class YoloHead:
    """A YOLOv3 head small enough for int8 and SRAM, on the last block of each stage in `taps` (fine to coarse).

    Neck: a 1x1 lateral to `width` channels per level, each coarser map enlarged to the next finer one and added. Head
    per level: depth-wise 3x3, 1x1, then 1x1 to anchors * (5 + classes), the anchor-major order of mmdet's YOLOV3Head.
    """

    classes: int
    taps: tuple[int, ...]
    width: int = 48
    anchors: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _stages(self.taps))
        for name in ("classes", "width", "anchors"):
            natural(getattr(self, name), f"detector.{name}")


@dataclass(frozen=True)
class YoloxHead:
    """A YOLOX head (Ge et al. 2021) small enough for int8 and SRAM, on the last block of each stage in `taps` (fine
    to coarse): no anchors, one prediction a cell.

    Neck: YoloHead's. Head per level, decoupled: two branches of `stacked_convs` depth-wise separable 3x3 convolutions
    to `feat_channels` each. `yolox{i}_cls`, a logit a class, reads the first branch; `yolox{i}_box` of dx, dy, log
    width and log height in cells, and `yolox{i}_obj`, the logit of an object, the second. Three maps have three int8
    scales: sizes do not share one with logits.
    """

    classes: int
    taps: tuple[int, ...]
    width: int = 48
    feat_channels: int = 32
    stacked_convs: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _stages(self.taps))
        for name in ("classes", "width", "feat_channels", "stacked_convs"):
            natural(getattr(self, name), f"detector.{name}")


@dataclass(frozen=True)
class FaceHead:
    """S3FD's head (Zhang et al. 2017) for one class, one square anchor a cell and level, fine to coarse. Level i is on
    the last block of stage taps[i]; a stage that stands twice carries two anchors.

    Per level a depth-wise 3x3, then two 1x1: `face{i}_cls` of [face, background...] and `face{i}_box` of dx, dy, dw,
    dh. On c channels that costs 17 c multiply-accumulates a cell on the first level, where S3FD's two dense 3x3 cost
    72 c: at stride 4 of 640x480 on 16 channels 5M instead of 22M, a fifth of MCUNetV2-S's whole budget. `background` is
    the number of background channels on the first level, whose greatest counts (max-out); the others have one.

    Without a neck, a level follows its stage at once, so that only the predictions, not the maps they come from,
    outlive it. With `width`, YoloHead's neck of so many channels stands between the stages and the levels: small faces
    are then found with what the coarse maps know about their surroundings.
    """

    taps: tuple[int, ...]
    background: int = 3
    width: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _stages(self.taps))
        natural(self.background, "detector.background")
        if self.width is not None:
            natural(self.width, "detector.width")

    @property
    def backgrounds(self) -> tuple[int, ...]:
        """Background channels per level."""
        return (self.background,) + (1,) * (len(self.taps) - 1)


@dataclass(frozen=True)
class Stem:
    """The first convolution, 3x3 with a stride of 2, to `c` channels."""

    c: int


@dataclass(frozen=True)
class Classifier:
    """The end of a classifier: a 1x1 convolution to `head` channels or none, then the mean and a layer of `classes`."""

    head: int | None
    classes: int | None


Yolo: TypeAlias = YoloHead | YoloxHead
Head: TypeAlias = Yolo | FaceHead
Part: TypeAlias = Stem | Block | Classifier | Yolo  # networks of a search space are rows of these
Size: TypeAlias = tuple[int, int, int]  # rows, columns and channels of a map
YOLOS: dict[str, type[Yolo]] = {"yolov3": YoloHead, "yolox": YoloxHead}


def yolo_head(described: PlainDict) -> Yolo:
    """Make the head of these fields; "type" names one of YOLOS, yolov3 unless it is said. Raises ArchError."""
    fields = {key: value for key, value in described.items() if key != "type"}
    return YOLOS[described.get("type", "yolov3")](**fields)


def yolo_fields(head: Yolo) -> PlainDict:
    """Return the fields of a head, as `yolo_head` takes them."""
    return asdict(head) if isinstance(head, YoloHead) else {"type": "yolox"} | asdict(head)


def _stages(taps: Plain) -> tuple[int, ...]:
    if not isinstance(taps, (list, tuple)):
        raise ArchError(f"detector.taps is {short(taps)}: expected a list of rising stage numbers")
    return tuple(natural(tap, "a stage in detector.taps", low=0) for tap in taps)


class _Builder:
    def __init__(self, name: str, act: str, gate: str, *inputs: Tensor):
        self.name, self.act, self.gate, self.inputs = name, act, gate, inputs
        self.grouped = False
        self.ops: list[Op] = []
        self.last, self.channels, self.block = inputs[0].name, inputs[0].c, 0

    def conv(
        self,
        name: str,
        cout: int,
        k: int = 1,
        s: int = 1,
        act: str | None = None,
        groups: int = 1,
        residual: str | None = None,
        norm: bool = True,
        source: str | None = None,
    ) -> str:
        """Append a convolution with SAME padding (k // 2 on each side) behind the last op, or behind `source`."""
        self.ops.append(
            Op(name, "conv", (source or self.last,), cout, (k, k), (s, s), (k // 2,) * 4, groups, act, residual, norm,
               self.block)
        )  # fmt: skip
        self.last, self.channels = name, cout
        return name

    def add(self, name: str, kind: str, source: str | None = None, s: int = 1, act: str | None = None) -> str:
        self.ops.append(Op(name, kind, (source or self.last,), self.channels, s=(s, s), act=act, block=self.block))
        self.last = name
        return name

    def stem(self, stem: Stem) -> None:
        self.conv("stem", stem.c, 3, 2, self.act)

    def classifier(self, end: Classifier) -> None:
        self.block += 1
        if end.head:
            self.conv("head", end.head, act=self.act)
        if end.classes:
            self.add("pool", "gap")
            self.conv("fc", end.classes, norm=False)

    def mb_block(self, name: str, block: Block) -> None:
        self.block += 1
        self.grouped |= block.groups > 1
        ops = _mb_block(name, block, self.block, self.last, self.channels, self.act, self.gate)
        self.ops += ops
        self.last, self.channels = ops[-1].name, block.c

    def rnnpool(self, name: str, pool: Pool) -> None:
        """Recurrent pooling that divides the map by pool.s, its windows about the centres of the cells."""
        self.block += 1
        rest = pool.k - pool.s
        pad = (rest // 2,) * 2 + (rest - rest // 2,) * 2
        self.last, self.channels, source = name, 4 * pool.hidden, self.last
        self.ops.append(Op(name, "rnnpool", (source,), self.channels, (pool.k,) * 2, (pool.s,) * 2, pad,
                           block=self.block, hidden=pool.hidden))  # fmt: skip

    def squeeze_excite(self, name: str, reduced: int) -> None:
        """Scale each channel of the last tensor by a gate computed from the means of all (Hu et al. 2018)."""
        source, channels = self.last, self.channels
        self.add(f"{name}_se_pool", "gap")
        self.conv(f"{name}_se_red", reduced, act="relu", norm=False)
        self.conv(f"{name}_se_gate", channels, norm=False)
        gate = self.add(f"{name}_se_act", "act", act=self.gate)
        self.last = f"{name}_se_mul"
        self.ops.append(Op(self.last, "mul", (source, gate), channels, block=self.block))

    def graph(self, outputs: Iterable[str]) -> Graph:
        """Return the graph. A spec's fields were looked at one by one: only groups may not divide their channels, and
        nothing may be left of a map."""
        found = Graph(self.name, self.inputs, tuple(self.ops), tuple(outputs))
        if self.grouped:
            return found.verify()
        assert found.tensors
        return found


@lru_cache(maxsize=1 << 16)
def _mb_block(name: str, block: Block, number: int, last: str, cin: int, act: str, gate: str) -> tuple[Op, ...]:
    """Return the ops of a block behind `last` of `cin` channels. A search builds thousands of networks of the same few
    blocks, so those that were built are kept."""
    b = _Builder("", act, gate, Tensor("", 1, 1, cin))
    b.block, b.last, b.channels = number, last, cin
    if block.k == 0:
        b.conv(f"{name}_pw", block.c, act=act)
        return tuple(b.ops)
    if block.mid != cin or block.expand:
        b.conv(f"{name}_exp", block.mid, act=act, groups=block.groups)
    b.conv(f"{name}_dw", block.mid, block.k, block.s, act, groups=block.mid)
    if block.se:
        b.squeeze_excite(name, block.se)
    if block.plain:
        b.conv(f"{name}_proj", block.c, act=act, groups=block.groups)
    else:
        b.conv(f"{name}_proj", block.c, groups=block.groups, residual=last if block.s == 1 and cin == block.c else None)
    return tuple(b.ops)


def build_graph(spec: ArchSpec, head: Head | None = None, taps: tuple[int, ...] | None = None) -> Graph:
    """Build the graph of a spec: a detector when `head` is given, a backbone with the stages `taps` as outputs, else a
    classifier (or the bare backbone when the spec has no classes). Outputs of a detector run from fine to coarse.

    Raises ArchError for a tap that is no stage, GraphError for a resolution too small.
    """
    wanted = head.taps if head else taps
    if wanted is not None:
        _check_taps(wanted, len(spec.stages), twice=isinstance(head, FaceHead))
    b = _Builder(spec.name, spec.act, spec.gate, Tensor("image", *spec.resolution, 3))
    b.stem(Stem(spec.stem))
    if spec.pool:
        b.rnnpool("stem_pool", spec.pool)
    ends: list[tuple[str, int]] = []
    outputs: list[str] = []
    for i, stage in enumerate(spec.stages[: None if wanted is None else wanted[-1] + 1]):  # no stage that nobody reads
        for j, block in enumerate(stage):
            b.mb_block(f"s{i}_b{j}", block)
        ends.append((b.last, b.channels))
        if isinstance(head, FaceHead) and head.width is None:
            outputs += _face(b, head, i)
    if outputs:
        return b.graph(outputs)
    if isinstance(head, FaceHead):
        return b.graph(_faces_on_neck(b, head, ends))
    if wanted is not None:
        features = [ends[i] for i in wanted]
        if isinstance(head, (YoloHead, YoloxHead)):
            return b.graph(_detector(b, head, features))
        return b.graph(name for name, _ in features)
    b.classifier(Classifier(spec.head, spec.classes))
    return b.graph([b.last])


def parts_of(spec: ArchSpec, head: Yolo | None = None) -> list[Part] | None:
    """Return the parts of which build_graph makes a network, in order; None where recurrent pooling is one of them.
    Raises ArchError for a tap that is no stage."""
    if spec.pool:
        return None
    if head is not None:
        _check_taps(head.taps, len(spec.stages), twice=False)
    stages = spec.stages if head is None else spec.stages[: head.taps[-1] + 1]
    blocks = [block for stage in stages for block in stage]
    return [Stem(spec.stem), *blocks, head or Classifier(spec.head, spec.classes)]


def part_graph(part: Part, *sizes: Size) -> Graph:
    """Build the graph of a part that reads maps of these sizes, in0, in1 and so on. Its ops are those of build_graph
    but for their names, blocks and activations. Raises ArchError for maps of a detector's head that do not nest."""
    b = _Builder("part", "relu6", "sigmoid", *(Tensor(f"in{i}", *size) for i, size in enumerate(sizes)))
    if isinstance(part, Stem):
        b.stem(part)
    elif isinstance(part, Block):
        b.mb_block("b", part)
    elif isinstance(part, Classifier):
        b.classifier(part)
    else:
        return b.graph(_detector(b, part, [(x.name, x.c) for x in b.inputs]))
    return b.graph([b.last])


def _detector(b: _Builder, head: Yolo, features: list[tuple[str, int]]) -> list[str]:
    """Append neck and head on the features (name, channels), fine to coarse; return the outputs."""
    laterals = _neck(b, head.width, features)
    return _yolo(b, head, laterals) if isinstance(head, YoloHead) else _yolox(b, head, laterals)


def _check_taps(taps: tuple[int, ...], stages: int, twice: bool) -> None:
    rising = sorted(taps if twice else set(taps))
    if not taps or list(taps) != rising or not 0 <= taps[0] <= taps[-1] < stages:
        raise ArchError(f"taps {taps}: expected rising stage numbers from 0 to {stages - 1}")


def _face(b: _Builder, head: FaceHead, stage: int) -> list[str]:
    """Append the levels of `head` that read the stage just built; return their outputs. The builder goes on from the
    stage."""
    feature, channels, outputs = b.last, b.channels, []
    for i, background in enumerate(head.backgrounds):
        if head.taps[i] == stage:
            b.block += 1
            b.channels = channels
            last = b.conv(f"face{i}_dw", channels, 3, act=b.act, groups=channels, source=feature)
            outputs.append(b.conv(f"face{i}_cls", 1 + background, norm=False))
            outputs.append(b.conv(f"face{i}_box", 4, norm=False, source=last))
    b.last, b.channels = feature, channels
    return outputs


def _faces_on_neck(b: _Builder, head: FaceHead, ends: list[tuple[str, int]]) -> list[str]:
    """Append the neck over the stages that `head` reads, of all stages' `ends` (name, channels), and its levels; return
    their outputs."""
    assert head.width is not None
    stages = sorted(set(head.taps))
    outputs: list[str] = []
    for stage, lateral in zip(stages, _neck(b, head.width, [ends[i] for i in stages]), strict=True):
        b.last, b.channels = lateral, head.width
        outputs += _face(b, head, stage)
    return outputs


def _neck(b: _Builder, width: int, features: list[tuple[str, int]]) -> list[str]:
    """Append the neck over `features` (name, channels), fine to coarse; return its maps of `width` channels in this
    order."""
    b.block += 1
    laterals, coarser = {}, None
    for i in reversed(range(len(features))):
        name, channels = features[i]
        up = None
        if coarser is not None:
            b.channels = width
            factor = _factor(b, coarser, name)
            up = b.add(f"neck{i}_up", "upsample", coarser, factor)
        b.channels = channels
        coarser = laterals[i] = b.conv(f"neck{i}_lat", width, act=b.act, residual=up, source=name)
    return [laterals[i] for i in range(len(features))]


def _separable(b: _Builder, name: str, width: int, channels: int, source: str) -> str:
    """Append a depth-wise 3x3 and a 1x1 convolution to `channels` behind `source`, of `width` channels."""
    b.conv(f"{name}_dw", width, 3, act=b.act, groups=width, source=source)
    return b.conv(f"{name}_pw", channels, act=b.act)


def _yolo(b: _Builder, yolo: YoloHead, laterals: list[str]) -> list[str]:
    """Append the head behind the neck's maps, fine to coarse; return the prediction maps in this order."""
    outputs = []
    for i, lateral in enumerate(laterals):
        _separable(b, f"yolo{i}", yolo.width, yolo.width, lateral)
        outputs.append(b.conv(f"yolo{i}_pred", yolo.anchors * (5 + yolo.classes), norm=False))
    return outputs


def _yolox(b: _Builder, yolox: YoloxHead, laterals: list[str]) -> list[str]:
    """Append the head behind the neck's maps, fine to coarse; return cls, box and obj of each level in this order."""
    outputs = []
    for i, lateral in enumerate(laterals):
        for branch, maps in (("cls", {"cls": yolox.classes}), ("box", {"box": 4, "obj": 1})):
            last, width = lateral, yolox.width
            for j in range(yolox.stacked_convs):
                last, width = (
                    _separable(b, f"yolox{i}_{branch}{j}", width, yolox.feat_channels, last),
                    yolox.feat_channels,
                )
            outputs += [b.conv(f"yolox{i}_{name}", c, norm=False, source=last) for name, c in maps.items()]
    return outputs


def _factor(b: _Builder, coarse: str, fine: str) -> int:
    """Return the integer ratio of the sizes of two maps. Raises ArchError when the maps do not nest."""
    tensors = Graph(b.name, b.inputs, tuple(b.ops), ()).tensors
    c, f = tensors[coarse], tensors[fine]
    factor = f.h // c.h
    if (c.h * factor, c.w * factor) != (f.h, f.w):
        r = b.inputs[0].h, b.inputs[0].w
        raise ArchError(
            f"resolution {r[0]}x{r[1]}: the map of {f.h}x{f.w} is no multiple of the coarser {c.h}x{c.w}; "
            "use sizes divisible by the coarsest stride"
        )
    return factor
