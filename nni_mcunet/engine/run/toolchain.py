"""Call the compilers: the programs of the GNU toolchain, their flags, one build of C.

It knows no host library, no emulator and no real board: host.py, firmware.py and board_project.py do.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ...core.boards import CORES, Board
from ...core.errors import FirmwareError, Infeasible, UserError
from ...core.files import write_atomic
from ..codegen.names import DEFAULT
from .generated import aliases, header_text, prefix_of

RUNTIME = Path(__file__).parents[1] / "boards"  # the C around a model: start-up, report, serial line
PROGRAM = tuple(RUNTIME / name for name in ("main.c", "report.c", "frame.c", "picture.S"))
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
ZIG = "zig"  # its C compiler, clang, which the wheel ziglang carries
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
    """Return the path of a program. Raises UserError naming the Debian packages that have it."""
    path = shutil.which(name)
    if path is None:
        raise UserError(f"{name} is not installed: apt-get install {PACKAGES[name]}")
    return path


def compiler_words(compiler: str) -> list[str]:
    """Return the words that call a compiler. Raises UserError where it is not installed, and how to install it."""
    if compiler != ZIG:
        return [tool(compiler)]
    if find_spec("ziglang") is None:
        raise UserError("ziglang, which compiles C to WebAssembly, is not installed: pip install 'nni-mcunet[wasm]'")
    return [sys.executable, "-m", "ziglang", "cc"]


def output(*command: str) -> str:
    """Run a program and return what it prints. Raises UserError where it is not installed."""
    return subprocess.run([tool(command[0]), *command[1:]], capture_output=True, text=True, check=True).stdout


def core_flags(core: str) -> list[str]:
    """Return the compiler's and linker's flags of a bare-metal program for a core such as cortex-m4. -O3 gains nothing
    over -O2."""
    known = CORES.get(core)
    floats = "soft" if known and not known.fpu else "hard"
    order = ["-DMCU_DUAL_ISSUE"] if known and known.pairs else []
    flags = ["-O2", f"-mcpu={core}", "-mthumb", f"-mfloat-abi={floats}", "-ffunction-sections", "-fdata-sections"]
    return [*flags, *order, "-nostartfiles", "-Wl,--gc-sections"]


def compile_c(
    compiler: str,
    flags: list[str],
    sources: Iterable[Path],
    folder: Path,
    out: Path,
    board: Board | None = None,
    link: Iterable[str] = (),
) -> None:
    """Compile C files, as many at once as there are cores, and link them into `out`, in `folder`, whose model they are
    of. link: the linker's own flags. Raises FirmwareError where the C does not compile, Infeasible where the linker
    says that a memory of the board is too small, UserError for a full disk."""
    prefix, include = prefix_of(folder), []
    if prefix != DEFAULT:
        header = aliases(header_text(folder, prefix), prefix)
        write_atomic(folder / "build" / prefix / "mcu_model.h", header)
        include = [f"-Ibuild/{prefix}"]
    words = compiler_words(compiler)
    command = [*words, *WARNINGS, *flags, *include, "-I.", "-Ibuild", f"-I{RUNTIME}", "-c"]

    def run(*words: str) -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise _failure(compiler, done.stderr, folder, out, board)

    with TemporaryDirectory(dir=folder / "build") as place, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = {f"{place}/{at}_{source.stem}.o": source for at, source in enumerate(sources)}
        objects = {str(Path(file).resolve()): _named(source, folder) for file, source in found.items()}
        list(pool.map(lambda file: run(*command, objects[file], "-o", file), objects))
        run(*words, *flags, *objects, *link, "-o", str(out.resolve()))


def _named(source: Path, folder: Path) -> str:
    """Return a file's path as a compiler in `folder` takes it. The folder's own have no place of this machine in their
    objects, so that a compiler's cache knows them in any folder."""
    source = source.resolve()
    return str(source.relative_to(folder.resolve()) if source.is_relative_to(folder.resolve()) else source)


def _failure(compiler: str, said: str, folder: Path, out: Path, board: Board | None) -> Exception:
    """Return the error for the words of a compiler or linker that failed."""
    full = re.search("No space left on device|Read-only file system", said)
    if full:
        return UserError(f"cannot write {out}: {full[0]}; make room or name another place")
    beyond = re.findall(r"region `(\w+)' overflowed by (\d+) bytes", said)
    if board and beyond:
        lacks = " and ".join(f"{count} bytes of {region}" for region, count in beyond)
        limits = f"{board.sram} bytes of SRAM and {board.flash} of flash"
        return Infeasible(
            f"{folder.name} does not fit {board.name} ({limits}): it lacks {lacks}; generate it for that board"
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["no word"]
    first = next((line for line in lines if "error" in line or "undefined" in line), lines[-1])
    return FirmwareError(f"{compiler} does not compile {folder}: {first.strip()[:300]}; generate the C again")
