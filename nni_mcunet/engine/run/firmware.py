"""Generated C -> a library for this host, a firmware for a board, its run under emulation, its sizes from the ELF.

A folder of generated C holds mcu_model.h and mcu_model.c, or those of another prefix, and the kernels; objects and
programs go to its `build/`. The firmware has the board's core and memory sizes on the memory layout of QEMU's MPS2
boards (boards/board.ld); nothing here talks to real hardware.
"""

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np

from ...core.boards import Board
from ...core.errors import FirmwareError, Infeasible, UserError
from ...core.file_sets import MANIFEST, is_whole
from ...core.files import write_atomic
from ...core.view import STRETCH, View
from ..codegen.names import DEFAULT
from ..detect import BOX
from .run_report import parse_run

BOARDS = Path(__file__).parents[1] / "boards"
PROGRAM = ("main.c", "report.c", "frame.c", "picture.S")
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
API = ("read_tile", "run", "output", "output_bytes", "detect", "class_names", "arena")  # behind a model's prefix
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EMULATED = 600.0  # seconds that a firmware may take under QEMU where nobody says otherwise
MACHINES = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500"}
PACKAGES = {
    "gcc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-nm": "gcc-arm-none-eabi",
    "arm-none-eabi-size": "gcc-arm-none-eabi",
    "arm-none-eabi-readelf": "binutils-arm-none-eabi",
    "arm-none-eabi-objdump": "binutils-arm-none-eabi",
    "arm-none-eabi-addr2line": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}


def tool(name: str) -> str:
    """Path of a program. Raises UserError naming the Debian packages that have it."""
    path = shutil.which(name)
    if path is None:
        raise UserError(f"{name} is not installed: apt-get install {PACKAGES[name]}")
    return path


def input_shape(folder: str | Path) -> tuple[int, int, int]:
    """(h, w, c) of the picture that the generated model reads. Raises UserError where `folder` holds none."""
    prefix = prefix_of(folder)
    header = _header(folder, prefix)
    found = dict(re.findall(rf"#define {prefix.upper()}_INPUT_([HWC]) +([1-9]\d{{0,8}})\n", header))
    if len(found) < 3:
        raise UserError(f"{folder}: {prefix}_model.h does not say the input's size: run mcunet generate again")
    return tuple(int(found[axis]) for axis in "HWC")


def prefix_of(folder: str | Path) -> str:
    """What the names of the generated model in `folder` begin with. Raises UserError where there is none, half of one
    or more than one."""
    if (Path(folder) / MANIFEST).exists() and not is_whole(folder):
        raise UserError(f"{folder}: mcunet generate was stopped while it wrote it; run it again")
    headers = {path: path.name.removesuffix("_model.h") for path in sorted(Path(folder).glob("*_model.h"))}
    found = [
        p for path, p in headers.items() if f"#define {p.upper()}_ARENA_BYTES" in path.read_text("utf-8", "replace")
    ]
    if not found:
        raise UserError(f"{folder}: no mcu_model.h; give a folder that mcunet generate has written")
    if len(found) > 1:
        raise UserError(
            f"{folder} holds the models {', '.join(found)}; generate the one to run into a folder of its own"
        )
    return found[0]


def aliases(header: str, prefix: str) -> str:
    """C of a mcu_model.h that gives a model of another prefix, with this header, the names that boards/ knows."""
    macro = prefix.upper()
    macros = [name for name in re.findall(rf"#define {macro}_(\w+)", header) if name not in ("MODEL_H", "FILES")]
    lines = [f"#define MCU_{name} {macro}_{name}" for name in macros]
    lines += [f"#define mcu_{name} {prefix}_{name}" for name in API]
    guard = "#ifndef MCU_MODEL_H\n#define MCU_MODEL_H"
    return f'/* {prefix}_model.h under the names of one model. */\n{guard}\n#include "{prefix}_model.h"\n' + "\n".join(
        [*lines, "#endif\n"]
    )


def input_view(folder: str | Path) -> View:
    """How the generated model sees a picture. Raises UserError where `folder` holds none."""
    found = re.search(r"^/\* view: (\S+)", _header(folder, prefix_of(folder)), re.MULTILINE)
    return View.parse(found[1]) if found else STRETCH  # generated before there was a choice


class HostModel:
    """A generated model as a library of this process. Outputs are flat int8 arrays in the model's order."""

    def __init__(self, path: Path, prefix: str = DEFAULT):
        self.lib = ctypes.CDLL(str(path))
        self._output, self._output_bytes = (self.lib[f"{prefix}_output{end}"] for end in ("", "_bytes"))
        self._output.restype = ctypes.POINTER(ctypes.c_int8)
        self._detect = f"{prefix}_detect"
        self.arena_bytes = ctypes.c_int.in_dll(self.lib, "mcu_host_arena_bytes").value
        self.outputs = ctypes.c_int.in_dll(self.lib, "mcu_host_outputs").value

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        return tuple((ctypes.c_int * 3).in_dll(self.lib, "mcu_host_input"))

    def run(self, picture: np.ndarray) -> list[np.ndarray]:
        """Outputs, each (bytes,) int8, for a picture (h, w, c) uint8. Raises UserError for another shape."""
        pixels = checked_picture(picture, self.input_shape)
        self.lib.mcu_host_run(pixels.ctypes.data_as(ctypes.c_void_p))
        sizes = [self._output_bytes(i) for i in range(self.outputs)]
        return [np.ctypeslib.as_array(self._output(i), (n,)).copy() for i, n in enumerate(sizes)]

    @property
    def is_detector(self) -> bool:
        return hasattr(self.lib, self._detect)

    def detect(self) -> np.ndarray:
        """Boxes (dtype detect.BOX) of the picture of the last run; for a model with a detector."""
        boxes = np.zeros(ctypes.c_int.in_dll(self.lib, "mcu_host_most_boxes").value, BOX)
        return boxes[: self.lib[self._detect](boxes.ctypes.data_as(ctypes.c_void_p), len(boxes))].copy()


def build_host(folder: str | Path) -> HostModel:
    """The model in `folder` as a library (gcc -O2), loaded."""
    folder = Path(folder)
    sources = [*_sources(folder), *map(_board, ("frame.c", "host.c"))]
    # A new name each time: the loader would give an already loaded library of the same name back.
    with tempfile.TemporaryDirectory(dir=_build_folder(folder)) as fresh:
        out = Path(fresh) / "model.so"
        _compile("gcc", ["-O2", "-shared", "-fPIC"], sources, folder, out)
        return HostModel(out, prefix_of(folder))


def run_sanitized(folder: str | Path, picture: np.ndarray) -> dict:
    """The board's program on this host under the address and undefined-behaviour sanitizers; see `run_emulated`.
    Raises FirmwareError with the sanitizer's words where one complains."""
    folder = Path(folder)
    out = _build_folder(folder) / "sanitized"
    sources = [*_sources(folder), *map(_board, (*PROGRAM, "host.c"))]
    _write_picture(folder, picture)
    _compile("gcc", ["-O1", *SANITIZERS], sources, folder, out)
    done = subprocess.run([str(out)], capture_output=True, text=True, encoding="utf-8", timeout=300)
    return parse_run(done)


def build_firmware(folder: str | Path, board: Board, picture: np.ndarray, stack_bytes: int | None = None) -> Path:
    """ELF of the model in `folder` for `board`'s core, SRAM and flash, with a picture (h, w, c) uint8 to run on.

    stack_bytes: reserved for the stack, half of what the board keeps for the runtime unless given. Raises Infeasible
    where SRAM or flash do not suffice, UserError for a missing compiler or a picture of another size.
    """
    folder = Path(folder)
    out = _build_folder(folder) / f"{board.name}.elf"
    stack = stack_bytes or board.reserved_sram // 2
    sizes = {"FLASH_BYTES": board.flash, "SRAM_BYTES": board.sram, "STACK_BYTES": stack}
    link = [f"-Wl,--defsym={name}={value}" for name, value in sizes.items()]
    sources = [*_sources(folder), *map(_board, (*PROGRAM, "startup.c", "mps2.c"))]
    _write_picture(folder, picture)
    flags = [
        *core_flags(board.core),
        "-g1",
        *link,
        f"-L{BOARDS}",
        "-T",
        str(_board("board.ld")),
    ]  # -g1: see layer_cycles.py
    _compile("arm-none-eabi-gcc", flags, sources, folder, out, board)
    return out


def core_flags(core: str) -> list[str]:
    """Compiler and linker flags of a bare-metal program for a core such as cortex-m4. -O3 gains nothing over -O2."""
    flags = ["-O2", f"-mcpu={core}", "-mthumb", "-mfloat-abi=hard", "-ffunction-sections", "-fdata-sections"]
    return [*flags, "-nostartfiles", "-Wl,--gc-sections"]


def run_emulated(elf: str | Path, board: Board, timeout: float = EMULATED) -> dict:
    """Run a firmware under QEMU.

    Returns {"instructions", "stack_bytes", "outputs": [(bytes,) int8], "crc32": [...]} and for a detector
    "detect_instructions", "boxes" (dtype detect.BOX) and the "names" of their classes. Instructions are counted in
    steps of 40. Raises UserError for a missing QEMU or a core it has no machine for, FirmwareError when the firmware
    faults or does not end in `timeout` seconds.
    """
    return parse_run(run_qemu(elf, machine(board), timeout))


def machine(board: Board) -> str:
    """QEMU's machine with the board's core. Raises UserError where there is none."""
    if board.core not in MACHINES:
        raise UserError(f"{board.name}: no emulated machine for {board.core}, only for {', '.join(MACHINES)}")
    return MACHINES[board.core]


def run_qemu(elf: str | Path, machine: str, timeout: float, plugin: str | None = None) -> subprocess.CompletedProcess:
    """One bare-metal program to its end, at exactly one instruction a nanosecond of its own time. plugin: a TCG plugin
    with its arguments."""
    command = [tool("qemu-system-arm"), "-M", machine, "-icount", "shift=0", "-display", "none", "-monitor", "none"]
    command += ["-serial", "stdio", "-semihosting-config", "enable=on,target=native", "-kernel", str(elf)]
    command += ["-plugin", plugin] if plugin else []
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise FirmwareError(
            f"{elf}: no end after {timeout:g} s under QEMU: give --timeout more seconds, or generate the C again"
        ) from None


def elf_report(elf: str | Path) -> dict[str, int]:
    """Bytes from the ELF: arena_bytes (its section), stack_reserved_bytes, data_bytes (.data, .bss), sram_bytes (all of
    these), flash_bytes (code, constants, initial data) and picture_bytes (the test picture, not counted in flash)."""
    sections = re.findall(r"^(\.\w+)\s+(\d+)\s+\d+$", output("arm-none-eabi-size", "-A", str(elf)), re.MULTILINE)
    size = {name: int(number) for name, number in sections}
    data = size.get(".data", 0) + size.get(".bss", 0)
    return {
        "arena_bytes": size.get(".arena", 0),
        "stack_reserved_bytes": size[".stack"],
        "data_bytes": data,
        "sram_bytes": size.get(".arena", 0) + size[".stack"] + data,
        "flash_bytes": size[".text"] + size.get(".data", 0),
        "picture_bytes": max(0, size.get(".picture", 0) - 4),  # less its length
    }


def _board(name: str) -> Path:
    return BOARDS / name


def _header(folder: str | Path, prefix: str) -> str:
    return (Path(folder) / f"{prefix}_model.h").read_text(encoding="utf-8", errors="replace")


def _sources(folder: Path) -> list[Path]:
    prefix_of(folder)
    return sorted(folder.glob("*.c"))


def _build_folder(folder: Path) -> Path:
    (folder / "build").mkdir(exist_ok=True)
    return folder / "build"


def checked_picture(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture, contiguous. Raises UserError where it is not uint8 of `shape`."""
    if picture.shape != shape or picture.dtype != np.uint8:
        raise UserError(f"a picture of {picture.shape} {picture.dtype}; the model reads {shape} uint8")
    return np.ascontiguousarray(picture)


def _write_picture(folder: Path, picture: np.ndarray) -> None:
    """What boards/picture.S includes."""
    write_atomic(folder / "build" / "picture.rgb", checked_picture(picture, input_shape(folder)).tobytes())


def _compile(compiler: str, flags: list[str], sources, folder: Path, out: Path, board: Board | None = None) -> None:
    """Compile and link in `folder`. Raises FirmwareError, or Infeasible when the linker says that a memory of
    the board is too small."""
    prefix, include = prefix_of(folder), []
    if prefix != DEFAULT:
        header = aliases(_header(folder, prefix), prefix)
        write_atomic(folder / "build" / prefix / "mcu_model.h", header)
        include = [f"-Ibuild/{prefix}"]
    command = [tool(compiler), *WARNINGS, *flags, *include, "-I.", "-Ibuild", f"-I{BOARDS}", "-o", str(out.resolve())]
    command += [str(Path(source).resolve()) for source in sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode == 0:
        return
    full = re.search("No space left on device|Read-only file system", done.stderr)
    if full:
        raise UserError(f"cannot write {out}: {full[0]}; make room or name another place")
    beyond = re.findall(r"region `(\w+)' overflowed by (\d+) bytes", done.stderr)
    if board and beyond:
        lacks = " and ".join(f"{count} bytes of {region}" for region, count in beyond)
        limits = f"{board.sram} bytes of SRAM and {board.flash} of flash"
        raise Infeasible(
            f"{folder.name} does not fit {board.name} ({limits}): it lacks {lacks}; generate it for that board"
        )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    first = next((line for line in said if "error" in line or "undefined" in line), said[-1] if said else "no word")
    raise FirmwareError(f"{compiler} does not compile {folder}: {first.strip()[:300]}; generate the C again")


def output(*command: str) -> str:
    """What a program prints. Raises UserError where it is not installed."""
    return subprocess.run([tool(command[0]), *command[1:]], capture_output=True, text=True, check=True).stdout
