"""From a network to a board: compile() quantises what is float and writes the C, run() computes a picture with it on
the host, under emulation or on a board at a serial port."""

import ctypes
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.boards import Board
from ..core.errors import PixelsWarning, UserError
from ..core.file_sets import free_folder
from ..core.ir.arch import Schedule
from ..core.plan.board_plan import plan_for_board
from ..core.plan.plan import Plan
from ..core.types import FilePath, Plain, PlainDict
from ..core.validate import short
from ..engine.board_run import check_against_host, emulated, on_board
from ..engine.codegen.names import DEFAULT, check_prefix
from ..engine.library import write_library
from ..engine.lower.dead_channels import without_dead_channels
from ..engine.model import view_of
from ..engine.ops import pixels as pixel_values
from ..engine.run.board_project import model_hash, project_of
from ..engine.run.emulator import EMULATED
from ..engine.run.generated import as_read, input_shape, input_view, output_maps, prefix_of
from ..engine.run.host import HostModel, host_of
from ..engine.run.serial_link import patience
from ..engine.timing.plan_file import planned
from ..pictures import size_of
from .answer import Run, Seen, answer, class_names
from .deployment import board_row
from .inputs import board_of, each_channel, path_of, user_errors
from .networks import Network, dims_of, load, load_for
from .planning import MAX_P, beside_of, board_for, plan_with_room, wishes
from .quantization import quantize
from .samples import gathered, is_photograph, picture_of

if TYPE_CHECKING:
    from .networks import Source
    from .samples import Sample, Samples

SERIAL = "serial:"


@dataclass(frozen=True, eq=False)
class Firmware:
    """Generated C in a folder, and what is known of it.

    folder  holds the library, plan.json and, as a project, the firmware around it
    board   that it was compiled for, whole: what the network may take of it is facts["arena_limit"], in bytes
    plan    where and in what order the network runs
    facts   what plan.json says, plain data
    network the int8 network that was compiled
    mark    of the C, 16 hex digits: run() refuses a folder that holds other C by then
    """

    folder: Path
    board: Board
    plan: Plan
    facts: dict[str, Any]
    network: Network
    mark: str

    @property
    def sqnr(self) -> dict[str, float]:
        """Return the signal to quantisation noise ratio of each output in dB, where it has been measured."""
        return self.network.sqnr

    @property
    def arena(self) -> int:
        """Return the bytes of SRAM that the network's tensors take; stack, the source of the picture and the list of a
        detector's boxes come on top. report() has the whole firmware's, "sram_bytes"."""
        return self.plan.arena

    @property
    def flash(self) -> int:
        """Return the bytes of flash that the network's constants take, weights and tables; code comes on top. report()
        has the whole firmware's, "flash_bytes"."""
        return self.plan.flash

    def run(self, picture: "Sample", on: str = "host", **options: Any) -> "Run":
        """Compute one picture, as `nni_mcunet.run`, for this firmware's board: a file, uint8 (h, w, c), or a tensor or
        array of floats as the network reads it, (c, h, w) or (1, c, h, w).

        >>> print(fw.run("photo.jpg", on="emulator"))
        """
        return run(self, picture, on=on, **options)

    def report(self, picture: "Sample | None" = None) -> PlainDict:
        """Build the firmware, run it in the emulator, and return the figures of the board as report.json has them:
        {"network", "params", "sqnr": {output: dB}, "reads", "boards": {board: {"arena_bytes", "stack_bytes",
        "sram_bytes", "flash_bytes", "instructions", "boxes", "macs", "patch_overhead"}}}.

        picture: as run() takes it; default one that quantize() has seen, else a grey one. Raises what run() raises.

        >>> fw.report()["boards"]["stm32f412"]["instructions"]
        """
        example = np.full(self.network.image, 128, np.uint8) if self.network.example is None else self.network.example
        ran = self.run(example if picture is None else picture, on="emulator").to_dict()
        reads = self.network.reads
        return {
            "network": self.network.graph.name,
            "params": self.network.graph.params,
            "sqnr": self.sqnr,
            "reads": None if reads is None else reads.to_dict(),
            "boards": {self.board.name: board_row(self.board.name, ran, self.facts)},
        }

    @property
    def host(self) -> HostModel:
        """Return the C as a library of this machine, compiled when it is first asked for."""
        return host_of(self.folder)

    def __str__(self) -> str:
        p = self.plan
        how = f"{p.schedule}, halo {p.halo} ({p.overhead:+.1%} MACs)" if p.schedule.n else str(p.schedule)
        sqnr = "".join(f", {name} {db:.1f} dB" for name, db in self.sqnr.items())
        reads = self.network.preprocessing  # stated where it was chosen here; a file's own is in its header
        parts = ", ".join(f"{part.size:,} in {part.region}" for part in p.parts)
        return (
            f"{self.folder}: {how}, arena {p.arena:,} of {self.facts['arena_limit']:,} bytes"
            f"{f' ({parts})' if parts else ''}, "
            f"constants {p.flash:,} bytes{sqnr}" + (f", reads {reads}" if reads else "")
        )


@user_errors
def compile(
    network: "Source",
    samples: "Samples | Board | None" = None,
    board: FilePath | Board | None = None,
    out: FilePath | None = None,
    *,
    weights: FilePath | None = None,
    size: tuple[int, int] | None = None,
    outputs: Sequence[str] | None = None,
    images: int = 128,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    bgr: bool = False,
    view: str | None = None,
    method: str = "mse",
    arena_kb: int | None = None,
    schedule: Schedule | None = None,
    halo: str = "best",
    objective: str = "macs",
    max_p: int = MAX_P,
    any_grid: bool = False,
    max_overhead: float | None = None,
    segments: int | None = None,
    regions: str = "fewest",
    source: str | None = None,
    keep_dead_channels: bool = False,
    project: bool = False,
    picture: "Sample | None" = None,
    prefix: str = DEFAULT,
) -> Firmware:
    """Write a network as C into the folder `out`, under `schedule` or the one that best_schedule finds. A float one is
    quantised first: a PyTorch module, a float model's file, an architecture or an mmdet config with its `weights`.

    network   whatever load() takes
    samples   what a float network is calibrated on: quantize()'s pictures. For a config with weights its training set,
              where none are given. An int8 network takes none: compile(network, board, out)
    weights   checkpoint (.pth) of an architecture or a config; one of quantisation-aware training brings its ranges
    outputs   where a file or module ends, as load() takes them
    size, images, bgr, view, method   quantize()'s, for a float network
    mean, std   the network reads (byte - mean) / std, as for quantize(); of an int8 network by others default what its
              input's range says, see docs/tflite.md
    project   also a firmware project for the board's Nucleo; picture: what it runs after each reset
    prefix    what the model's files and names in C begin with, for several models in one program
    source    what the picture comes from, as best_schedule() takes it; default, unless schedule or arena_kb is given:
              any that needs no frame, if one fits beside some schedule
    keep_dead_channels  compute constant and unread channels, too
    The other arguments are best_schedule's.

    Raises UserError for a float network without samples, a module that cannot be exported, samples that are no pixels
    or a folder that holds other files, UnsupportedOp for an operator that the engine does not know, Infeasible where
    nothing fits, with `what`, `needed` and `limit` in bytes. Warns as quantize() does, and of a module that is in
    training mode, (RoomWarning) of a schedule that leaves no room for a picture's source, and
    (PixelsWarning) of what is assumed of the bytes of a picture where an int8 file of others does not say.

    >>> fw = mcu.compile(module, samples, board="stm32f412", out="out/fw")
    >>> fw.arena, fw.flash, fw.sqnr
    """
    given, board, out = _in_place(samples, board, out)
    folder, whole = free_folder(path_of(out, "out")), board_of(board)
    how = {"size": size, "images": images, "mean": mean, "std": std, "bgr": bgr, "view": view, "method": method}
    found = _int8(network, given, None if weights is None else path_of(weights, "weights"), outputs, how)
    int8 = found.int8_model()
    if pixel_values.is_assumed(int8):
        warnings.warn(f"{found.source}: {pixel_values.described(int8)}", PixelsWarning, stacklevel=3)
    if picture is not None and not project:
        raise UserError("picture is what a project has built in: give project=True, too")
    if not isinstance(prefix, str):
        raise UserError(f"prefix is {short(prefix)}: expected text such as 'faces'")
    check_prefix(prefix)
    if project:
        project_of(whole)
    place = board_for(found, whole, arena_kb)
    model = int8 if keep_dead_channels else without_dead_channels(int8)
    beside = beside_of(found, source)
    asked = wishes(schedule, halo, objective, max_p, any_grid, max_overhead, segments, regions)
    if source is None and schedule is None and arena_kb is None:
        plan = plan_with_room(found, model.graph, place, asked)
    else:
        plan = plan_for_board(model.graph, place, beside=beside, **asked)
    image = None if picture is None else picture_of(picture, found.image, view_of(model), found.reads)
    if image is not None and picture is not None and is_photograph(picture):
        image = pixel_values.as_read(model, image)
    taken = None if beside is None else (str(source), beside(model.graph, plan.schedule, plan.halo))
    facts = write_library(folder, plan, model, place, project, image, prefix, taken)
    return Firmware(folder, whole, plan, facts, found, model_hash(folder))


def _in_place(samples: Plain, board: Plain, out: Plain) -> tuple[Plain, Plain, Plain]:
    """Return (samples, board, out): an int8 network's call has board and out in the first two places. Raises UserError
    where one is missing."""
    if samples is not None and (board is None or out is None) and _names_board(samples):
        samples, board, out = None, samples, board if out is None else out
    for name, value in (("board", board), ("out", out)):
        if value is None:
            raise UserError(f"{name} is missing: compile(network, samples, board='stm32f412', out='out/fw')")
    return samples, board, out


def _names_board(value: object) -> bool:
    try:
        board_of(value)  # type: ignore[arg-type]
    except (UserError, OSError):
        return False
    return True


def _int8(
    source: "Source",
    samples: "Samples | None",
    weights: Path | None,
    outputs: Sequence[str] | None,
    how: dict[str, Any],
) -> Network:
    """Return the network of a call of compile() as int8 where it has weights: as it is, or quantised. outputs: where it
    ends; how: arguments of quantize(), of which an int8 network takes none. Raises what load() and quantize() raise,
    UserError for a float one without samples."""
    qat = None
    if weights is not None:
        from ..bridge import is_quantized  # imports torch and mmdet

        found = load(source, weights, view=how["view"], outputs=outputs)
        qat = weights if is_quantized(str(weights)) else None
        if samples is None and isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".py":
            samples = source
    else:
        taken = None if samples is None else gathered(samples, how["images"], dims_of(source))
        found, samples = load_for(source, taken, how["size"], outputs), taken
    if found.kind == "int8":
        if how["bgr"]:
            raise UserError(f"{found.source} is int8 already, and its channels stay as they are: leave out bgr")
        ways = (None if how[name] is None else each_channel(name, how[name]) for name in ("mean", "std"))
        return replace(found, model=pixel_values.with_pixels(found.int8_model(), *ways))
    if found.kind == "architecture":
        return found
    if samples is None and qat is None:
        raise UserError(f"{found.source} is float: quantise it first with mcunet quantize, or give samples")
    return quantize(found, samples, qat=qat, **how)


@user_errors
def run(
    firmware: FilePath | Firmware,
    picture: "Sample",
    board: FilePath | Board | None = None,
    *,
    on: str = "host",
    timeout: float | None = None,
    layers: bool = False,
    classes: FilePath | Sequence[str] | None = None,
) -> Run:
    """Compute one picture with generated C: a Firmware, or a folder that compile() or `mcunet generate` has written.

    picture  JPEG or PNG, which the network's view and MCU_PIXEL turn into its integers; or an array uint8 (h, w, c) of
             them plus 128, in a .npy file, too. For a network of quantize() these are the bytes of a picture. With a
             Firmware also floats as its network reads them, (c, h, w) or (1, c, h, w)
    board    that emulator and serial port are of; default the firmware's
    on       "host": this machine. "emulator": QEMU. "serial:/dev/ttyACM0": a board flashed with a project. Both must
             say the same bytes as the host
    timeout  seconds for the whole call; layers: also instructions and estimated cycles of each layer, in the emulator
    classes  a classifier's names, in the order of its output: a list, or a text file with one a line;
             default those that the model's file has, of a search's or a fine-tuning's folders

    Raises UserError for a picture, board or port that is none and for a Firmware whose folder holds other C,
    FirmwareError for C that does not compile or says other bytes than on the host.

    >>> result = mcu.run("out/fw", "photo.jpg", "stm32f412", on="emulator")
    >>> result.facts["instructions"], result.boxes
    """
    folder = firmware.folder if isinstance(firmware, Firmware) else path_of(firmware, "firmware")
    if isinstance(firmware, Firmware) and model_hash(folder) != firmware.mark:
        raise UserError(f"{folder} holds other C than this Firmware's: compile each network into a folder of its own")
    port = _port(on)
    if layers and on != "emulator":
        raise UserError("layers are counted in the emulator: give on='emulator', too")
    shape = input_shape(folder)
    network = firmware.network if isinstance(firmware, Firmware) else None
    pixels = picture_of(picture, shape, input_view(folder), network.reads if network else None)
    maps = output_maps(folder)
    names = class_names(planned(folder).get("classes") if classes is None else classes, maps)
    if is_photograph(picture):
        pixels = as_read(folder, pixels)
    outputs = network.output_shapes if network else {}
    seen = Seen((shape[1], shape[0]), input_view(folder), _own_size(picture))
    if on == "host":
        return answer({}, _on_host(folder, pixels), maps, names, outputs, seen)
    place = _board(firmware, board)
    seconds = _seconds(timeout, EMULATED if port is None else patience(pixels))
    if port is None:
        facts, said = emulated(folder, place, pixels, seconds, layers)
    else:
        facts, said = on_board(folder, place, pixels, port, seconds)
    check_against_host(folder, pixels, said)
    made_for = planned(folder).get("board", place.name)
    return answer({"board": place.name, "made_for": made_for, **facts}, said, maps, names, outputs, seen)


def _own_size(picture: "Sample") -> tuple[int, int] | None:
    """Return the (w, h) in pixels of a photograph's file, None for an array."""
    return size_of(path_of(picture, "picture")) if is_photograph(picture) else None


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


def _on_host(folder: Path, pixels: np.ndarray) -> dict[str, Any]:
    """Return what parse_report gives of a board."""
    host = host_of(folder)
    said: dict[str, Any] = {"outputs": host.run(pixels)}
    if host.is_detector:
        said["boxes"] = found = host.detect()
        known = (ctypes.c_char_p * (int(found["label"].max(initial=0)) + 1)).in_dll(
            host.lib, f"{prefix_of(folder)}_class_names"
        )
        said["names"] = [known[label].decode() for label in found["label"]]
    return said
