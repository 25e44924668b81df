"""Say how many bytes the picture's source takes beside a plan's arena: the ready callbacks of engine/pictures.

A camera's lines or the blocks of a JPEG come in order, and a patch asks for rows of its own. Rows that a later one may
ask for are kept: the fewer the patches of the first segment read, the less. So a schedule has a part in the bytes of
the source, and fits a board only together with it.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from ..errors import UserError
from ..ir.arch import Schedule
from ..ir.graph import Graph, Tensor
from ..validate import short
from ..view import STRETCH, View
from .plan import Beside, Plan
from .segments import segments
from .tiles import Span

LETTERBOX = {"letterbox": 20, "lines": 4}  # bytes of its struct, and what it adds to that of the lines
CONTEXT = {"lines": 52, "jpeg": 1400}  # bytes of the C structs of a 32-bit core, ring and band not counted
HALVES = {"grey": 2, "444": 6, "422": 4, "440": 4, "420": 3}  # half samples a pixel, by a JPEG's sampling
CAMERA_LINES = 2 * 2 * 320  # two lines of a camera of 320 pixels, RGB565, that the DMA fills in turn
SOURCES = ("frame", "rgb565", "lines", *(f"jpeg_{sampling}" for sampling in HALVES))
STREAMED = ("lines", "jpeg_420", "jpeg_422", "jpeg_444")  # of a picture that is nowhere as a whole


def kept_rows(plan: Plan, group: int = 1) -> int:
    """Return how many rows of the picture to keep at once, so that each tile that the generated C asks for finds its
    own. Rows come in order, `group` at a time, as they are asked for. The number is even for groups, which may have
    half the rows of chroma."""
    image = plan.graph.inputs[0].name  # which no segment but the first reads, see cut_points.split
    return _kept([patch[image] for patch in plan.segments[0].spans[0]], group)


def _kept(spans: Iterable[Span], group: int) -> int:
    rows = max(_up(span.hi, group) - span.lo for span in spans if span.length)
    return _up(rows, min(group, 2))


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def callback_bytes(plan: Plan, view: View = STRETCH) -> dict[str, int]:
    """Return the bytes of SRAM that each ready callback needs besides the arena: context and ring or band, on a 32-bit
    core. "letterbox" is what that of a letterboxed picture adds to any other. A network that reads neither RGB nor grey
    has only the one for a frame."""
    image = plan.graph.inputs[0]
    return _bytes(image, [patch[image.name] for patch in plan.segments[0].spans[0]], view)


def _bytes(image: Tensor, spans: list[Span], view: View) -> dict[str, int]:
    sizes = {"frame": 8}
    if view.pad is not None:
        sizes["letterbox"] = LETTERBOX["letterbox"]
    if image.c not in (1, 3):
        return sizes
    lines = CONTEXT["lines"] + (LETTERBOX["lines"] if view.pad is not None else 0)
    sizes |= {"grey": 12, "rgb565": 12, "lines": lines + _kept(spans, 1) * image.w * 2}
    for sampling, halves in HALVES.items():
        high, wide = (16 if sampling in names else 8 for names in (("440", "420"), ("422", "420")))
        band = _kept(spans, high) * _up(image.w, wide) * (2 if image.c == 1 else halves) // 2
        sizes[f"jpeg_{sampling}"] = CONTEXT["jpeg"] + band
    return sizes


def source_bytes(source: str, view: View = STRETCH) -> Beside:
    """Return what tells the bytes that a source, one of SOURCES, takes beside the arena of a schedule: its callback's,
    and for lines the two that a camera of 320 pixels writes in turn. Raises UserError for a source that is none, and
    where it is asked of a network that reads no picture."""
    if source not in SOURCES:
        raise UserError(f"source is {short(source)}: expected one of {', '.join(SOURCES)}")

    @cache
    def of(image: Tensor, spans: tuple[Span, ...]) -> int:
        sizes = _bytes(image, list(spans), view)
        if source not in sizes:
            raise UserError(
                f"source is {source}: the network reads {image.c} channels, which no picture has; use frame"
            )
        return sizes[source] + sizes.get("letterbox", 0) + CAMERA_LINES * (source == "lines")

    def beside(graph: Graph, schedule: Schedule, halo: str) -> int:
        schedule = replace(schedule, halo=halo) if schedule.n else schedule
        (image, *_), first = graph.inputs, segments(graph, schedule, schedule.halo)[0]
        return of(image, tuple(patch[image.name] for patch in first.spans[0]))

    return beside
