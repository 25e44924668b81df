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

from nni_mcunet.core.boards import CORES
from nni_mcunet.engine.codegen.arenas import sections_ld, suffix
from nni_mcunet.engine.codegen.sources import KERNELS
from nni_mcunet.engine.run import machines
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.emulator import run_qemu
from nni_mcunet.engine.run.generated import arena_regions
from nni_mcunet.engine.run.host import SANITIZERS
from nni_mcunet.engine.run.run_report import parse_run
from nni_mcunet.engine.run.stack_bound import stack_bound
from nni_mcunet.engine.run.toolchain import RUNTIME, WARNINGS, core_flags

HOST = "host"
MACHINES = {name: core.qemu for name, core in CORES.items()}
SECONDS, SERIES_SECONDS = 120, 900  # of one run, and of one for many pictures
PICTURES = {"cortex-m4": 0x21000000, "cortex-m7": 0x60000000, "cortex-m55": 0x7F000000}  # the machines' memory, 16 MB
EMULATED = {name: machines.MACHINES[core.qemu] for name, core in CORES.items()}
STACK = 4096  # bytes reserved on the boards
BSS = 2 << 20  # bytes into the memory, behind whose end a read faults
# All of a program but the kernels: the model, the report on it, the picture. The arena begins as garbage.
PROGRAM = """#define main shipped
#include "mcu_model.c"
#include "main.c"
#include "report.c"
#include "frame.c"
#undef main
__asm__(".pushsection .picture, \\"a\\"\\n.global mcu_picture\\n"
        "mcu_picture:\\n.incbin \\"picture.rgb\\"\\n.popsection");
#define FILL(arena, bytes) for (int i = 0; i < (bytes); i++) arena[i] = 0x5a;
int main(void) {
    EACH_ARENA(FILL)
    return shipped();
}
"""


# A model on many pictures, which lie one behind the other in a memory of their own: a line for each output of each.
SERIES = """#include "mcu_model.c"
#include "frame.c"
#include "print.h"
__asm__(".pushsection .pictures, \\"a\\"\\n.global pictures\\n"
        "pictures:\\n.incbin \\"pictures.bin\\"\\n.popsection");
extern const uint8_t pictures[];
int main(void) {
    for (int i = 0; i < COUNT; i++) {
        mcu_frame frame = {pictures + i * MCU_INPUT_H * MCU_INPUT_W * MCU_INPUT_C, MCU_INPUT_W};
        mcu_run(mcu_read_frame, &frame);
        for (int j = 0; j < MCU_OUTPUTS; j++) {
            mcu_print_hex(mcu_output(j), mcu_output_bytes(j));
            mcu_put('\\n');
        }
    }
    mcu_exit(0);
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


def run_series(core: str, folder: Path, pictures: np.ndarray) -> list[list[np.ndarray]]:
    """The outputs, each (bytes,) int8, of the generated C in `folder` for each of pictures (n, h, w, c) uint8, on an
    emulated core: one program and one start for all of them."""
    (folder / "pictures.bin").write_bytes(pictures.tobytes())
    place = [f"-Wl,--section-start=.pictures={PICTURES[core]:#x}", f"-DCOUNT={len(pictures)}"]
    elf = _compiled(core, folder, [*_placed(core, folder), *place], SERIES, KERNELS)
    done = run_qemu(elf, MACHINES[core], SERIES_SECONDS)
    lines = [np.frombuffer(bytes.fromhex(line), np.int8) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines and len(lines) % len(pictures) == 0, done.stdout[-300:] + done.stderr[-300:]
    each = len(lines) // len(pictures)
    return [lines[i : i + each] for i in range(0, len(lines), each)]


@cache
def objects(core: str, kernels: Path = KERNELS) -> list[str]:
    """Compile once what all programs for a core share."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    sources = [*kernels.glob("*.c")] + ([] if core == HOST else [RUNTIME / "startup.c", RUNTIME / "mps2.c"])
    for source in sources:  # each by its own name, as ccache knows it
        out = ["-o", f"{folder}/{source.stem}.o"]
        subprocess.run([*_compiler(core), "-c", source.name, *out], cwd=source.parent, check=True)
    return [str(path) for path in Path(folder).glob("*.o")]


def _compiler(core: str) -> list[str]:
    if core == HOST:
        return ["gcc", "-O1", *SANITIZERS, *WARNINGS]
    return ["arm-none-eabi-gcc", *core_flags(core), *EMULATED[core].defines, *WARNINGS]


def _build(core: str, folder: Path, picture: np.ndarray, kernels: Path, guarded: bool = True) -> Path:
    (folder / "picture.rgb").write_bytes(picture.tobytes())
    text = _arrays(folder) + '#include "guarded.h"\n' * guarded + PROGRAM + '#include "host.c"\n' * (core == HOST)
    return _compiled(core, folder, [] if core == HOST else _placed(core, folder), text, kernels)


def _compiled(core: str, folder: Path, link: list[str], text: str, kernels: Path) -> Path:
    """The program of a C text."""
    include = [f"-I{path}" for path in (".", RUNTIME, Path(__file__).parent)]
    command = [*_compiler(core), *include, *link, "-x", "c", "-", "-x", "none", *objects(core, kernels)]
    out = folder / f"{core}.elf"
    subprocess.run([*command, "-o", str(out.resolve())], cwd=folder, check=True, input=text, text=True)
    return out


def _arrays(folder: Path) -> str:
    """Define EACH_ARENA of guarded.h."""
    arrays = [(suffix(region), f"_{region}") for region in arena_regions(folder)] or [("", "")]
    return f"#define EACH_ARENA(DO) {' '.join(f'DO(mcu_arena{low}, MCU_ARENA{up}_BYTES)' for low, up in arrays)}\n"


def _placed(core: str, folder: Path) -> list[str]:
    """Linker flags of a board. The arena ends where the memory does; so does the last array of one in regions, each
    other one directly before the next."""
    arena = int(re.search(r"MCU_ARENA_BYTES (\d+)", (folder / "mcu_model.h").read_text())[1])
    machine = EMULATED[core]
    at, places = machine.sram + machine.sram_bytes - (arena + 7 & ~7), {".bss": machine.sram + BSS}
    for region, size in (arena_regions(folder) or {"": arena}).items():
        places[f".arena{suffix(region) if region else ''}"] = at
        at += size
    (folder / "arenas.ld").write_text(sections_ld(dict.fromkeys(arena_regions(folder), "SRAM")))
    sizes = {"FLASH_BYTES": 3 << 20, "SRAM_BYTES": machine.sram_bytes, "STACK_BYTES": STACK}
    return [
        *(f"-Wl,--defsym={name}={value}" for name, value in sizes.items()),
        *(f"-Wl,--section-start={name}={address:#x}" for name, address in places.items()),
        f"-L{folder}", *machine.link,
    ]  # fmt: skip
