"""Generated C as programs with the kernels compiled once: on this machine under the sanitizers, or for a board."""

import atexit
import re
import resource
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from nni_mcunet.core.boards import BOARDS, CORE_BOARDS
from nni_mcunet.engine.codegen.sources import KERNELS
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.emulator import run_qemu
from nni_mcunet.engine.run.host import SANITIZERS
from nni_mcunet.engine.run.run_report import parse_run
from nni_mcunet.engine.run.stack_bound import stack_bound
from nni_mcunet.engine.run.toolchain import RUNTIME, WARNINGS, core_flags

HOST = "host"
MACHINES = {core: BOARDS[name].qemu for core, name in CORE_BOARDS.items()}
SECONDS = 120  # of one run
STACK = 4096  # bytes reserved on the boards
BSS, MEMORY_END = 0x20200000, 0x20800000  # on both machines; what reads behind the end faults
# All of a program but the kernels: the model, the report on it, the picture. The arena begins as garbage.
PROGRAM = """#define main shipped
#include "mcu_model.c"
#include "main.c"
#include "report.c"
#include "frame.c"
#undef main
__asm__(".pushsection .picture, \\"a\\"\\n.global mcu_picture\\n"
        "mcu_picture:\\n.incbin \\"picture.rgb\\"\\n.popsection");
int main(void) {
    for (int i = 0; i < MCU_ARENA_BYTES; i++)
        mcu_arena[i] = 0x5a;
    return shipped();
}
"""


def run_host(folder: Path, picture: np.ndarray, kernels: Path = KERNELS) -> dict:
    """The report (see emulator.run_emulated) of the generated C in `folder` on a picture (h, w, 3) uint8, under the
    sanitizers and guarded.h. AssertionError with their words where they complain."""
    program = _build(HOST, folder, picture, kernels)
    most = resource.getrlimit(resource.RLIMIT_AS)[1]  # the sanitizer's shadow memory is vast
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, timeout=SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )  # fmt: skip
    said = re.search(r"SUMMARY: .*|.*runtime error: .*", done.stderr)
    assert not said, said and said[0]
    return parse_run(done)


def run_board(core: str, folder: Path, picture: np.ndarray, kernels: Path = KERNELS, guarded: bool = False) -> dict:
    """The same on an emulated core; besides "arena_bytes" of the ELF, and "stack_bound". The arena ends where the
    memory does."""
    elf = _build(core, folder, picture, kernels, guarded)
    sizes = {"arena_bytes": elf_report(elf)["arena_bytes"], "stack_bound": stack_bound(elf)}
    return {**parse_run(run_qemu(elf, MACHINES[core], SECONDS)), **sizes}


@cache
def objects(core: str, kernels: Path = KERNELS) -> list[str]:
    """Compile once what all programs for a core share."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    sources = [*kernels.glob("*.c")] + ([] if core == HOST else [RUNTIME / "startup.c", RUNTIME / "mps2.c"])
    subprocess.run([*_compiler(core), "-c", *map(str, sources)], cwd=folder, check=True)
    return [str(path) for path in Path(folder).glob("*.o")]


def _compiler(core: str) -> list[str]:
    if core == HOST:
        return ["gcc", "-O1", *SANITIZERS, *WARNINGS]
    return ["arm-none-eabi-gcc", *core_flags(core), *WARNINGS]


def _build(core: str, folder: Path, picture: np.ndarray, kernels: Path, guarded: bool = True) -> Path:
    (folder / "picture.rgb").write_bytes(picture.tobytes())
    text = '#include "guarded.h"\n' * guarded + PROGRAM + '#include "host.c"\n' * (core == HOST)
    include = [f"-I{path}" for path in (".", RUNTIME, Path(__file__).parent)]
    link = [] if core == HOST else _placed(folder)
    command = [*_compiler(core), *include, *link, "-x", "c", "-", "-x", "none", *objects(core, kernels)]
    out = folder / f"{core}.elf"
    subprocess.run([*command, "-o", str(out.resolve())], cwd=folder, check=True, input=text, text=True)
    return out


def _placed(folder: Path) -> list[str]:
    """Linker flags of a board."""
    arena = int(re.search(r"MCU_ARENA_BYTES (\d+)", (folder / "mcu_model.h").read_text())[1])
    sizes = {"FLASH_BYTES": 3 << 20, "SRAM_BYTES": 8 << 20, "STACK_BYTES": STACK}
    places = {".bss": BSS, ".arena": MEMORY_END - (arena + 7 & ~7)}
    return [
        *(f"-Wl,--defsym={name}={value}" for name, value in sizes.items()),
        *(f"-Wl,--section-start={name}={address:#x}" for name, address in places.items()),
        f"-L{RUNTIME}", "-T", str(RUNTIME / "mps2.ld"),
    ]  # fmt: skip
