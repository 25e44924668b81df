"""Build published architectures: MobileNetV2, its redistributed form, and the block lists of MCUNet's model zoo."""

from ..errors import ArchError
from ..types import PlainDict
from .arch import SIDES, ArchSpec, Block, pair


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round channels to a multiple of `divisor`, never below 90 % of `value` (MobileNetV2's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def from_zoo(name: str, entry: PlainDict, classes: int = 1000) -> ArchSpec:
    """Make an ArchSpec of a published block list ([k, stride, cin, mid, cout, residual] rows). A stage begins at each
    change of channels without a shortcut."""
    stages: list[list[Block]] = []
    for k, s, cin, mid, cout, residual in entry["blocks"]:
        if not residual or not stages:
            stages.append([])
        if bool(residual) != (s == 1 and cin == cout):
            raise ArchError(f"{name}: block {[k, s, cin, mid, cout]} has a shortcut that its shape does not imply")
        stages[-1].append(Block(k, s, mid, cout))
    return ArchSpec(
        name, entry["resolution"], entry["stem"], tuple(map(tuple, stages)), head=entry["head_conv"], classes=classes
    )


def mobilenet_v2(resolution: int | tuple[int, int] = 224, width: float = 1.0, classes: int | None = 1000) -> ArchSpec:
    """Return MobileNetV2 (Sandler et al. 2018)."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    stem = cin = make_divisible(32 * width)
    stages = []
    for e, c, d, s in rows:
        stage = []
        for at in range(d):
            cout = make_divisible(c * width)
            stage.append(Block(3, s if at == 0 else 1, cin * e, cout))
            cin = cout
        stages.append(tuple(stage))
    head = max(1280, make_divisible(1280 * width))
    return ArchSpec(
        "mobilenet_v2", pair(resolution, "resolution", *SIDES), stem, tuple(stages), head=head, classes=classes
    )


def mobilenet_v2_rd(resolution: int | tuple[int, int] = 224, classes: int | None = 1000) -> ArchSpec:
    """Return MobileNetV2 with its receptive field redistributed (the paper's Fig. 4): a smaller halo in the first
    segment."""
    rows = [(24, 1, 2), (32, 4, 2), (64, 4, 2), (96, 3, 1), (160, 4, 2), (320, 1, 1)]
    stages: list[tuple[Block, ...]] = [(Block(0, 1, 0, 16),)]
    cin = 16
    for c, d, s in rows:
        stage = []
        for at in range(d):
            stage.append(Block(3, s if at == 0 else 1, cin * 6, c))
            cin = c
        stages.append(tuple(stage))
    return ArchSpec(
        "mobilenet_v2_rd", pair(resolution, "resolution", *SIDES), 32, tuple(stages), head=1280, classes=classes
    )
