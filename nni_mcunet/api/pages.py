"""Make the page of a firmware: one HTML file that needs no network. page() is `mcunet report FOLDER --html`."""

import base64
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.boards import Board
from ..core.errors import BoardError, FirmwareError, UserError
from ..core.files import write_atomic
from ..core.ir.graph import Graph
from ..core.ir.graph_data import graph_of
from ..core.outputs import check_outputs
from ..core.plan.board_plan import front_for_board, knee
from ..core.plan.cut_points import grids
from ..core.plan.latency import milliseconds
from ..core.plan.plan import SEGMENTS, Plan
from ..core.progress import Stages
from ..core.types import FilePath, Picture, PlainDict
from ..engine.run.generated import as_read, input_shape, input_view, is_detector, output_maps
from ..engine.run.host import host_of
from ..engine.run.wasm import build_wasm
from ..engine.timing.plan_file import mapped, planned
from ..pages import firmware as layout
from ..pages.html import Section, check_library
from ..pages.html import page as html_page
from .answer import Run, class_names
from .firmware import run
from .inputs import board_of, path_of, user_errors
from .inspection import inspect
from .networks import Network
from .planning import MAX_P
from .samples import picture_of

if TYPE_CHECKING:
    from .samples import Sample, Samples

HTML = "report.html"
SHOWN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif")  # pictures that browsers read
HEAVY = 4 << 20  # bytes of a picture that a page does not carry


@user_errors
def page(
    firmware: FilePath,
    picture: "Sample | None" = None,
    board: FilePath | Board | None = None,
    *,
    html: FilePath | None = None,
    emulate: bool = True,
    int8: FilePath | Network | None = None,
    source: FilePath | Network | None = None,
    pictures: "Samples | None" = None,
    images: int = 32,
    classes: FilePath | Sequence[str] | None = None,
) -> Path:
    """Write the page of generated C, a folder of compile() or `mcunet generate`, and return its path.

    picture   on which it runs and its patches and boxes are drawn; as run() takes it. Without one it runs on grey
    board     the board; default that of the folder's plan
    html      the file to write; default report.html in the folder
    emulate   build the firmware and count its instructions in the emulator
    int8, source, pictures, images  as inspect() takes them: with all of them the page has the SQNR of each layer
    classes   a classifier's names, as run() takes them

    What cannot be known has a sentence why in its place. Raises UserError for a folder, picture or board that is none,
    and where the plotting library is not installed; FirmwareError where the emulator says other bytes than the host.

    >>> mcu.page("out/fw", "photo.jpg")
    """
    folder = path_of(firmware, "firmware")
    plan, out = mapped(folder), folder / HTML if html is None else path_of(html, "html")
    given = picture if isinstance(picture, (str, Path)) else None
    check_outputs({"--html": (out, ".html")}, given)
    check_library()
    place = board_of(plan["board"]["name"] if board is None else board)
    graph, seen = graph_of(plan["graph"]), None
    if picture is not None:
        seen = picture_of(picture, input_shape(folder), input_view(folder))
    with Stages(f"page of {folder}", 5) as begin:
        begin("the firmware in the emulator")
        ran = _emulated(folder, picture, place) if emulate else "Not measured: the emulator was left out."
        begin("other schedules")
        front = _front(graph, plan, place)
        begin("int8 layer by layer")
        sqnr = _sqnr(int8, source, pictures, images)
        begin("the C as WebAssembly")
        network = _network(folder, classes, given)
        begin("the charts")
        measured = ran if isinstance(ran, str) else _report(ran, place)
        sections = layout.sections(plan, layout.Measured(measured, front, sqnr, _drawn(seen), _boxes(ran, seen)))
        if isinstance(network, str):
            sections = [Section("run", "Run it here", why=network), *sections]
        title = f"{plan['network']} on the {plan['board']['name']}"
        text = html_page(title, layout.facts(plan, measured), sections, None if isinstance(network, str) else network)
    return write_atomic(out, text)


def _network(
    folder: Path, classes: FilePath | Sequence[str] | None, picture: FilePath | None = None
) -> PlainDict | str:
    """Return what the page's script runs: the C as WebAssembly, how to feed and read it, and the picture that it opens
    with; or why there is none."""
    shape, view, maps = input_shape(folder), input_view(folder), output_maps(folder)
    names = class_names(planned(folder).get("classes") if classes is None else classes, maps)
    if shape[2] not in (1, 3):
        return f"The network reads {shape[2]} channels, which are no picture."
    try:
        module = build_wasm(folder)
    except FirmwareError:
        raise
    except UserError as error:
        return f"Not built: {error}"
    return {
        "wasm": base64.b64encode(module).decode(),
        "input": list(shape),
        "view": {"keep": view.keep, "pad": view.pad},
        "outputs": [{"shape": list(m.shape), "scale": m.scale, "zero_point": m.zero_point} for m in maps],
        "classes": names,
        "detector": is_detector(folder),
        "expected": _expected(folder),
        "picture": None if picture is None else _shown(Path(picture)),
    }


def _shown(picture: Path) -> str | None:
    """Return a picture's file in base64; None for one that browsers do not read, or that would weigh the page down."""
    if picture.suffix.lower() not in SHOWN or picture.stat().st_size > HEAVY:
        return None
    return base64.b64encode(picture.read_bytes()).decode()


def _expected(folder: Path) -> int | None:
    """Return the CRC-32 of the outputs for the picture of static/run.js's check(), by the C on this machine; None
    where it has no compiler."""
    shape = input_shape(folder)
    at = np.arange(math.prod(shape))
    try:
        host = host_of(folder)
    except FirmwareError:
        raise
    except UserError:
        return None
    outputs = host.run(as_read(folder, (31 * at + (at >> 8)).astype(np.uint8).reshape(shape)))
    return zlib.crc32(b"".join(output.tobytes() for output in outputs))


def _emulated(folder: Path, picture: "Sample | None", board: Board) -> Run | str:
    """Return the run in the emulator with its layers, or why there is none."""
    grey = np.full(input_shape(folder), 128, np.uint8)
    try:
        return run(folder, grey if picture is None else picture, board, on="emulator", layers=True)
    except FirmwareError:
        raise
    except UserError as error:
        return f"Not measured: {error}."


def _report(ran: Run, board: Board) -> PlainDict:
    sram = max(board.sram, board.usable + board.reserved_sram)  # of all regions
    return {**ran.to_dict(), "board_flash": board.flash, "board_sram": sram}


def _front(graph: Graph, plan: PlainDict, board: Board) -> list[PlainDict]:
    """Return the schedules that mcunet generate looks at and no other beats, with that of the firmware."""
    found = front_for_board(graph, p_choices=grids(MAX_P), segments=SEGMENTS)
    best = knee(found)
    rows = [
        {"schedule": str(p.schedule), "halo": p.halo if p.schedule.n else "", "arena": p.arena, "macs": p.macs,
         "overhead": p.overhead, "which": "knee" if p is best else "possible", "ms": _milliseconds(p, board)}
        for p in found
    ]  # fmt: skip
    own = {"schedule": plan["schedule"], "halo": plan["halo"], "arena": plan["arena_bytes"], "macs": plan["macs"]}
    cycles = [plan["image"]["cycles"], *(layer["cycles"] for layer in plan["layers"])]
    time = "not known" if None in cycles else f"{1e3 * sum(cycles) / board.clock_hz:.3g}"
    return [*rows, own | {"overhead": plan["overhead"], "which": "this firmware", "ms": time}]


def _milliseconds(plan: Plan, board: Board) -> str:
    try:
        return f"{milliseconds(plan, board):.3g}"
    except BoardError:
        return "not known"


def _sqnr(
    int8: FilePath | Network | None,
    source: FilePath | Network | None,
    pictures: "Samples | None",
    images: int,
) -> list[PlainDict] | str:
    if int8 is None or source is None or pictures is None:
        return "Not measured: it takes the int8 model, the float one and pictures."
    rows = inspect(int8, source, pictures, images=images).layers
    return [{"name": row.name, "kind": row.kind, "total": layout.finite(row.total), "own": layout.finite(row.own)}
            for row in rows]  # fmt: skip


def _drawn(seen: Picture | None) -> Picture | str:
    if seen is None:
        return "No picture was given."
    return seen if seen.shape[2] in (1, 3) else f"The network reads {seen.shape[2]} channels, which are no picture."


def _boxes(ran: Run | str, seen: Picture | None) -> list[PlainDict] | str:
    if isinstance(ran, str):
        return ran
    if not ran.detector:
        return "It is no detector and finds no boxes."
    return "No picture was given." if seen is None else ran.boxes
