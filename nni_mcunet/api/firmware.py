"""From int8 to a board: compile() writes the C, run() computes a picture with it on the host, under emulation or on a
board at a serial port."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.boards import Board
from ..core.errors import UserError
from ..core.ir.arch import Schedule
from ..core.plan.board_plan import plan_for_board
from ..core.plan.plan import Plan
from ..core.types import FilePath
from ..core.validate import short
from ..engine.board_run import check_against_host, emulated, on_board
from ..engine.codegen.names import DEFAULT, check_prefix
from ..engine.library import write_library
from ..engine.lower.dead_channels import without_dead_channels
from ..engine.model import view_of
from ..engine.ops import pixels as pixel_values
from ..engine.run.board_project import project_of
from ..engine.run.emulator import EMULATED
from ..engine.run.generated import as_read, input_shape, input_view, output_maps, prefix_of
from ..engine.run.host import HostModel, build_host
from ..engine.run.serial_link import patience
from ..engine.timing.plan_file import planned
from .answer import Run, answer, class_names
from .inputs import board_of, numbers, path_of, user_errors
from .networks import Network, load
from .planning import MAX_P, board_for, wishes
from .quantization import is_photograph, picture_of

SERIAL = "serial:"


@dataclass(frozen=True, eq=False)
class Firmware:
    """Generated C in a folder, and what is known of it.

    folder  holds the library, plan.json and, as a project, the firmware around it
    board   that it was compiled for, whole: what the network may take of it is facts["arena_limit"], in bytes
    plan    where and in what order the network runs
    facts   what plan.json says, plain data
    sqnr    of each output in dB, where quantize() has measured it
    """

    folder: Path
    board: Board
    plan: Plan
    facts: dict[str, Any]
    sqnr: dict[str, float] = field(default_factory=dict)

    @property
    def arena(self) -> int:
        """Return the bytes of SRAM that the network's tensors take."""
        return self.plan.arena

    @property
    def flash(self) -> int:
        """Return the bytes of flash that the network's constants take; code comes on top."""
        return self.plan.flash

    def run(self, picture: FilePath | np.ndarray, on: str = "host", **options: Any) -> "Run":
        """Compute one picture, as `nni_mcunet.run`, for this firmware's board.

        >>> print(fw.run("photo.jpg", on="emulator"))
        """
        return run(self, picture, on=on, **options)

    @cached_property
    def host(self) -> HostModel:
        """Return the C as a library of this machine, compiled when it is first asked for."""
        return build_host(self.folder)

    def __str__(self) -> str:
        p = self.plan
        how = f"{p.schedule}, halo {p.halo} ({p.overhead:+.1%} MACs)" if p.schedule.n else str(p.schedule)
        sqnr = "".join(f", {name} {db:.1f} dB" for name, db in self.sqnr.items())
        return (
            f"{self.folder}: {how}, arena {p.arena:,} of {self.facts['arena_limit']:,} bytes, "
            f"constants {p.flash:,} bytes{sqnr}"
        )


@user_errors
def compile(
    network: FilePath | Network,
    board: FilePath | Board,
    out: FilePath,
    *,
    arena_kb: int | None = None,
    schedule: Schedule | None = None,
    halo: str = "best",
    objective: str = "macs",
    max_p: int = MAX_P,
    any_grid: bool = False,
    max_overhead: float | None = None,
    segments: int | None = None,
    keep_dead_channels: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    project: bool = False,
    picture: FilePath | np.ndarray | None = None,
    prefix: str = DEFAULT,
) -> Firmware:
    """Write an int8 network as C into the folder `out`, under `schedule` or the one that best_schedule finds.

    project   also a firmware project for the board's Nucleo; picture: what it runs after each reset
    prefix    what the model's files and names in C begin with, for several models in one program
    keep_dead_channels  compute constant and unread channels, too
    mean, std   of an int8 file by others: it reads (byte - mean) / std; default what its input's range says, see
                docs/tflite.md
    The other arguments are best_schedule's.

    Raises UserError for a network that is not int8 or a folder that holds other files, Infeasible where nothing fits,
    with `what`, `needed` and `limit` in bytes.

    >>> fw = mcu.compile("model.int8.onnx", board="stm32f412", out="out/fw")
    >>> fw.arena, fw.flash
    """
    found, folder, whole = load(network), path_of(out, "out"), board_of(board)
    int8 = found.int8_model()
    if picture is not None and not project:
        raise UserError("picture is what a project has built in: give project=True, too")
    if not isinstance(prefix, str):
        raise UserError(f"prefix is {short(prefix)}: expected text such as 'faces'")
    check_prefix(prefix)
    if project:
        project_of(whole)
    place = board_for(found, whole, arena_kb)
    int8 = pixel_values.with_pixels(int8, numbers("mean", mean), numbers("std", std))
    model = int8 if keep_dead_channels else without_dead_channels(int8)
    how = wishes(schedule, halo, objective, max_p, any_grid, max_overhead, segments)
    plan = plan_for_board(model.graph, place, **how)
    image = None if picture is None else picture_of(picture, found.image, view_of(model))
    if image is not None and picture is not None and is_photograph(picture):
        image = pixel_values.as_read(model, image)
    facts = write_library(folder, plan, model, place, project, image, prefix)
    return Firmware(folder, whole, plan, facts, found.sqnr)


@user_errors
def run(
    firmware: FilePath | Firmware,
    picture: FilePath | np.ndarray,
    board: FilePath | Board | None = None,
    *,
    on: str = "host",
    timeout: float | None = None,
    layers: bool = False,
    classes: FilePath | Sequence[str] | None = None,
) -> Run:
    """Compute one picture with generated C: a Firmware, or a folder that compile() or `mcunet generate` has written.

    picture  JPEG or PNG, which the network's view and MCU_PIXEL turn into its integers; or an array uint8 (h, w, c) of
             them plus 128, in a .npy file, too. For a network of quantize() these are the bytes of a picture
    board    that emulator and serial port are of; default the firmware's
    on       "host": this machine. "emulator": QEMU. "serial:/dev/ttyACM0": a board flashed with a project. Both must
             say the same bytes as the host
    timeout  seconds for the whole call; layers: also instructions and estimated cycles of each layer, in the emulator
    classes  a classifier's names, in the order of its output: a list, or a text file with one a line

    Raises UserError for a picture, board or port that is none, FirmwareError for C that does not compile or says other
    bytes than on the host.

    >>> result = mcu.run("out/fw", "photo.jpg", "stm32f412", on="emulator")
    >>> result.facts["instructions"], result.boxes
    """
    folder = firmware.folder if isinstance(firmware, Firmware) else path_of(firmware, "firmware")
    port = _port(on)
    if layers and on != "emulator":
        raise UserError("layers are counted in the emulator: give on='emulator', too")
    shape = input_shape(folder)
    pixels, maps = picture_of(picture, shape, input_view(folder)), output_maps(folder)
    names = class_names(classes, maps)
    if is_photograph(picture):
        pixels = as_read(folder, pixels)
    if on == "host":
        return answer({}, _on_host(firmware, folder, pixels), maps, names)
    place = _board(firmware, board)
    seconds = _seconds(timeout, EMULATED if port is None else patience(pixels))
    if port is None:
        facts, said = emulated(folder, place, pixels, seconds, layers)
    else:
        facts, said = on_board(folder, place, pixels, port, seconds)
    check_against_host(folder, pixels, said)
    made_for = planned(folder).get("board", place.name)
    return answer({"board": place.name, "made_for": made_for, **facts}, said, maps, names)


def _port(on: str) -> str | None:
    """Return the port that `on` names, None for host and emulator. Raises UserError for anything else."""
    if isinstance(on, str) and on.startswith(SERIAL) and len(on) > len(SERIAL):
        return on.removeprefix(SERIAL)
    if on not in ("host", "emulator"):
        raise UserError(f"on is {short(on)}: expected 'host', 'emulator' or a port such as 'serial:/dev/ttyACM0'")
    return None


def _board(firmware: FilePath | Firmware, board: FilePath | Board | None) -> Board:
    if board is not None:
        return board_of(board)
    if isinstance(firmware, Firmware):
        return firmware.board
    raise UserError(f"{firmware}: which board? Give board, such as 'stm32f412'")


def _seconds(timeout: float | None, default: float) -> float:
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e6:
        raise UserError(f"timeout is {short(timeout)}: expected seconds above 0, such as 60")
    return timeout


def _on_host(firmware: FilePath | Firmware, folder: Path, pixels: np.ndarray) -> dict[str, Any]:
    """Return what parse_report gives of a board."""
    host = firmware.host if isinstance(firmware, Firmware) else build_host(folder)
    said: dict[str, Any] = {"outputs": host.run(pixels)}
    if host.is_detector:
        said["boxes"] = found = host.detect()
        known = (ctypes.c_char_p * (int(found["label"].max(initial=0)) + 1)).in_dll(
            host.lib, f"{prefix_of(folder)}_class_names"
        )
        said["names"] = [known[label].decode() for label in found["label"]]
    return said
