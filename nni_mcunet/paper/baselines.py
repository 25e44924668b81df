"""Build published face detectors as graphs: the baselines of the paper's Tables 4 and 7, for profiler and torch.

They follow their authors' code: EXTD (Yoo et al. 2019, clovaai/EXTD_Pytorch), LFFD (He et al. 2019, YonghaoHe/LFFD),
RNNPool-Face (Saha et al. 2020, microsoft/EdgeML). RNNPool-Face-A and EagleEye (Zhao et al. 2019) have no public layers
to our knowledge, so they are not here. The C engine refuses the operators that only these networks have.

An S3FD-style head gives face{i}_cls and face{i}_box, fine to coarse. The first has a score of the face and of its
backgrounds: three on the finest map, of which the largest counts, else one. The second has the four numbers of a box.
"""

from collections.abc import Callable, Iterable
from typing import Any

from ..core.errors import ArchError
from ..core.ir.graph import Graph, Op, Tensor

Size = tuple[int, int]  # (h, w) of the image
VGA: Size = (480, 640)  # at which the tables count


class _Builder:
    """Append ops one behind another; `mb` ends a block, `head` begins one. Each method returns its output's name."""

    def __init__(self, size: Size):
        self.image = Tensor("image", *size, 3)
        self.ops: list[Op] = []
        self.last, self.channels, self.block = "image", 3, 0

    def op(self, name: str, kind: str, cout: int, inputs: tuple[str, ...] = (), **fields: Any) -> str:
        self.ops.append(Op(name, kind, inputs or (self.last,), cout, block=self.block, **fields))
        self.last, self.channels = name, cout
        return name

    def conv(
        self,
        name: str,
        cout: int,
        k: int = 1,
        s: int = 1,
        pad: int | None = None,
        depthwise: bool = False,
        source: str | None = None,
        **fields: Any,
    ) -> str:
        """Append a convolution of the last op's output, or of `source`; SAME padding unless `pad` is given."""
        pads = (k // 2 if pad is None else pad,) * 4
        groups = cout if depthwise else 1
        return self.op(name, "conv", cout, (source,) if source else (), k=(k, k), s=(s, s), pad=pads, groups=groups,
                       **fields)  # fmt: skip

    def mb(
        self,
        name: str,
        e: int,
        cout: int,
        s: int = 1,
        act: str = "relu6",
        last_act: str | None = None,
        shares: str | None = None,
    ) -> str:
        """Append an inverted residual. Its shortcut is added behind the projection's activation, if there is one."""
        skip, cin, mid = self.last, self.channels, e * self.channels

        def conv(part: str, channels: int, k: int = 1, s: int = 1, **fields: Any) -> str:
            own = shares and f"{shares}_{part}"
            return self.conv(f"{name}_{part}", channels, k, s, norm=True, shares=own, **fields)

        if e != 1:
            conv("exp", mid, act=act)
        conv("dw", mid, 3, s, depthwise=True, act=act)
        shortcut = s == 1 and cin == cout
        conv("proj", cout, act=last_act, residual=skip if shortcut and not last_act else None)
        if shortcut and last_act:
            self.op(f"{name}_add", "add", cout, (skip, self.last))
        self.block += 1
        return self.last

    def head(self, i: int, source: str, k: int = 3) -> list[str]:
        """Append the two convolutions of S3FD's level i; give their names."""
        self.block += 1
        outputs = (("cls", 2 if i else 4), ("box", 4))
        return [self.conv(f"face{i}_{what}", channels, k, source=source) for what, channels in outputs]

    def graph(self, name: str, outputs: Iterable[str]) -> Graph:
        return Graph(name, (self.image,), tuple(self.ops), tuple(outputs)).verify()


# Width -> (expansion, stride) of the blocks of one pass.
EXTD_BLOCKS = {
    32: ((2, 1), (2, 1), (4, 1), (4, 1), (2, 1), (2, 2)),
    48: ((2, 1), (2, 1), (4, 1), (4, 2)),
    64: ((2, 1), (2, 1), (4, 1), (4, 2)),
}
SCALES = 6  # maps with a head, at strides 4 to 128


def extd(width: int = 32, size: Size = VGA) -> Graph:
    """Return EXTD: one small backbone run six times on its own output, then a top-down pathway.

    Pass i > 0 shares the weights of pass 0. The variant of 32 channels has an activation behind every projection, the
    wider ones (48, 64) have none there.
    """
    b = _Builder(size)
    last_act = "prelu" if width == 32 else None
    b.conv("stem", 64, 3, 2, norm=True, act="prelu")
    b.block = 1
    b.mb("first", 1, width, act="prelu", last_act=last_act)
    maps = []
    for i in range(SCALES):
        for j, (e, s) in enumerate(EXTD_BLOCKS[width]):
            b.mb(f"p{i}_b{j}", e, width, s, "prelu", last_act, shares=f"p0_b{j}" if i else None)
        maps.append(b.last)
    for i in reversed(range(SCALES - 1)):
        b.op(f"up{i}_resize", "resize", width, (b.last, maps[i]))
        b.conv(f"up{i}_dw", width, 3, depthwise=True, norm=False)
        b.conv(f"up{i}_pw", width, norm=True, act="relu")
        maps[i] = b.op(f"up{i}_add", "add", width, (b.last, maps[i]))
        b.block += 1
    return b.graph(f"extd_{width}", [name for i, source in enumerate(maps) for name in b.head(i, source)])


# Groups that begin with a stride of 2: (channels, residual pairs). A branch follows every pair but the first two.
LFFD_GROUPS = ((64, 4), (64, 2), (128, 1), (128, 3))


def lffd(size: Size = VGA) -> Graph:
    """Return LFFD, the published network of 25 layers and 8 branches: unpadded strided convolutions, residual pairs, no
    batch normalisation. Each branch has two towers of 1x1 convolutions."""
    b, level = _Builder(size), 0
    outputs: list[str] = []
    b.conv("stem", 64, 3, 2, pad=0, act="relu")
    for g, (channels, pairs) in enumerate(LFFD_GROUPS):
        b.block += 1
        skip = b.conv(f"g{g}_down", channels, 3, 2, pad=0)
        b.op(f"g{g}_relu", "act", channels, act="relu")
        for j in range(pairs):
            b.block += 1
            b.conv(f"g{g}_p{j}_a", channels, 3, act="relu")
            skip = b.conv(f"g{g}_p{j}_b", channels, 3, residual=skip)
            relu = b.op(f"g{g}_p{j}_relu", "act", channels, act="relu")
            if g or j > 1:
                outputs += _lffd_branch(b, level, relu)
                b.last, level = relu, level + 1
    return b.graph("lffd", outputs)


def _lffd_branch(b: _Builder, i: int, source: str) -> list[str]:
    b.block += 1
    shared = b.conv(f"face{i}_shared", 128, source=source, act="relu")
    names = []
    for what, channels in (("cls", 2), ("box", 4)):
        b.conv(f"face{i}_{what}_tower", 128, source=shared, act="relu")
        names.append(b.conv(f"face{i}_{what}", channels))
    return names


def _mb_stages(b: _Builder, rows: Iterable[tuple[int, int, int, int]], taps: Iterable[int]) -> list[str]:
    """Append rows (expansion, channels, blocks, stride) as MobileNetV2's; give the last maps of the rows `taps`."""
    ends = []
    for i, (e, channels, blocks, s) in enumerate(rows):
        for j in range(blocks):
            b.mb(f"s{i}_b{j}", e, channels, s if j == 0 else 1)
        ends.append(b.last)
    return [ends[i] for i in taps]


def _normed(b: _Builder, i: int, source: str) -> str:
    channels = next(op.cout for op in b.ops if op.name == source)
    return b.op(f"face{i}_norm", "l2norm", channels, (source,))


def rnnpool_face_c(size: Size = VGA) -> Graph:
    """Return RNNPool-Face-C: recurrent pooling of the image to a quarter of its size, then MobileNetV2's blocks."""
    b = _Builder(size)
    b.op("pool", "rnnpool", 64, k=(8, 8), s=(4, 4), pad=(0, 0, 4, 4), hidden=16)
    b.block = 1
    rows = ((1, 24, 1, 1), (6, 24, 1, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 2), (6, 160, 2, 2), (6, 320, 1, 2))
    sources = _mb_stages(b, rows, range(1, 7))
    sources[:3] = [_normed(b, i, source) for i, source in enumerate(sources[:3])]
    heads = zip(sources, (5, 5, 5, 1, 1, 3), strict=True)
    return b.graph("rnnpool_face_c", [name for i, (source, k) in enumerate(heads) for name in b.head(i, source, k)])


def rnnpool_face_quant(size: Size = VGA) -> Graph:
    """Return RNNPool-Face-Quant: two convolutions, recurrent pooling to an eighth, narrow blocks. The finest head reads
    the convolutions."""
    b = _Builder(size)
    b.conv("top0", 4, 3, 2, norm=True, act="relu6")
    top = b.conv("top1", 4, 3, norm=True, act="relu6")
    b.block = 1
    b.op("pool", "rnnpool", 32, k=(8, 8), s=(4, 4), pad=(0, 0, 4, 4), hidden=8)
    b.block = 2
    rows = ((2, 16, 4, 1), (2, 24, 4, 2), (2, 32, 2, 2), (2, 64, 1, 2), (2, 96, 1, 2))
    sources = [top, *_mb_stages(b, rows, range(5))]
    sources[:3] = [_normed(b, i, source) for i, source in enumerate(sources[:3])]
    b.block += 1
    outputs = []
    for what, channels in (("cls", 4), ("box", 4)):
        b.conv(f"face0_{what}_down", 8, 3, 2, source=sources[0], norm=True, act="relu6")
        outputs.append(b.conv(f"face0_{what}", channels, 3))
    return b.graph("rnnpool_face_quant", outputs + [n for i in range(1, 6) for n in b.head(i, sources[i])])


BASELINES: dict[str, Callable[[Size], Graph]] = {
    "extd_32": lambda size: extd(32, size),
    "extd_48": lambda size: extd(48, size),
    "extd_64": lambda size: extd(64, size),
    "lffd": lffd,
    "rnnpool_face_c": rnnpool_face_c,
    "rnnpool_face_quant": rnnpool_face_quant,
}


def face_baseline(name: str, size: Size = VGA) -> Graph:
    """Return the graph of a published face detector, a name of BASELINES. Raises ArchError for another name."""
    if name not in BASELINES:
        raise ArchError(f"no face detector '{name}': expected one of {', '.join(BASELINES)}")
    return BASELINES[name](size)
