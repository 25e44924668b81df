"""Random networks under random schedules: the generated C gives the bytes of the numpy reference, here and on boards.

python tests/prove.py --cases 1000          a summary and every failure; exit code 1 for one
python tests/prove.py --only 1234 --keep out one case again, its C and programs kept there

Each case (cases.py) is drawn by its number alone. Its C runs on this machine under the address and undefined-behaviour
sanitizers, each kernel shut in what its arguments name (guarded.h). Every third one also runs on the emulated Cortex-M4
and M7, whose DSP versions no sanitizer sees: every other of these with the kernels shut in, too, the others as they are
shipped. There the arena ends where the memory does, its symbol has the planned size, and the painted stack stays within
the bound that the ELF's own code gives (engine/stack.py).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from cases import LEAST, Case, case, features
from tqdm import tqdm

from nni_mcunet.core.files import write_json
from nni_mcunet.engine import reference
from nni_mcunet.engine.emit import KERNELS, detector_params, write_sources
from nni_mcunet.engine.firmware import BOARDS, MACHINES, SANITIZERS, WARNINGS, core_flags, elf_report, parse, run_qemu
from nni_mcunet.engine.stack import stack_bound

EVERY = 3  # cases to one that runs on the boards, too
SECONDS = 120  # of one run
STACK = 4096  # bytes reserved on the boards
BSS, MEMORY_END = 0x20200000, 0x20800000  # on both machines; what reads behind the end faults
# The one translation unit of a program beside the kernels: the model, the report on it, the picture. The arena begins as
# garbage.
PROGRAM = """#define main report
#include "mcu_model.c"
#include "main.c"
#include "frame.c"
#undef main
__asm__(".pushsection .picture, \\"a\\"\\n.global mcu_picture\\n"
        "mcu_picture:\\n.incbin \\"picture.rgb\\"\\n.popsection");
int main(void) {
    for (int i = 0; i < MCU_ARENA_BYTES; i++)
        mcu_arena[i] = 0x5a;
    return report();
}
"""
GUARD, HOST = '#include "guarded.h"\n', '#include "host.c"\n'


def compiler(core: str) -> list[str]:
    """Of a board's core, or of this "host" with the sanitizers."""
    if core == "host":
        return ["gcc", "-O1", *SANITIZERS, *WARNINGS]
    return ["arm-none-eabi-gcc", *core_flags(core), *WARNINGS]


def build_objects(folder: Path, kernels: Path = KERNELS, boards: bool = True) -> Path:
    """What all cases share, compiled once: folder/{host,cortex-m4,cortex-m7}/*.o."""
    for core in ("host", *MACHINES) if boards else ("host",):
        (folder / core).mkdir()
        sources = [*kernels.glob("*.c")] + ([] if core == "host" else [BOARDS / "startup.c", BOARDS / "mps2.c"])
        subprocess.run([*compiler(core), "-c", *map(str, sources)], cwd=folder / core, check=True)
    return folder


def build(core: str, folder: Path, objects: Path, arena: int, guarded: bool = True) -> Path:
    """The program of the generated C in `folder`, which has an arena of so many bytes; guarded: by guarded.h."""
    out, here = folder / f"{core}.elf", Path(__file__).parent
    command = [*compiler(core), "-I.", f"-I{BOARDS}", f"-I{here}", "-o", str(out.resolve())]
    if core != "host":
        sizes = {"FLASH_BYTES": 3 << 20, "SRAM_BYTES": 8 << 20, "STACK_BYTES": STACK}
        command += [f"-Wl,--defsym={name}={value}" for name, value in sizes.items()]
        places = {".bss": BSS, ".arena": MEMORY_END - (arena + 7 & ~7)}
        command += ["-T", str(BOARDS / "board.ld")]
        command += [f"-Wl,--section-start={name}={address:#x}" for name, address in places.items()]
    command += ["-x", "c", "-", "-x", "none", *map(str, (objects / core).glob("*.o"))]
    text = GUARD * guarded + PROGRAM + HOST * (core == "host")
    subprocess.run(command, cwd=folder, check=True, input=text, text=True, capture_output=True)
    return out


def run_host(found: Case, folder: Path, objects: Path) -> dict:
    program = build("host", folder, objects, found.plan.arena)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=SECONDS)
    said = re.search(r"SUMMARY: .*|.*runtime error: .*", done.stderr)
    assert not said, said and said[0]
    return parse(done)


def run_board(found: Case, folder: Path, objects: Path, core: str, guarded: bool) -> dict:
    """As run_host; besides, what the ELF and the painted stack say."""
    elf = build(core, folder, objects, found.plan.arena, guarded)
    report = parse(run_qemu(elf, MACHINES[core], SECONDS))
    report["stack_bound"] = stack_bound(elf)
    assert elf_report(elf)["arena_bytes"] == found.plan.arena, f"{core}: the arena's symbol is not of the planned size"
    assert 0 < report["stack_bytes"] <= report["stack_bound"] <= STACK, (
        f"{core}: {report['stack_bytes']} bytes of stack used, {report['stack_bound']} stated, {STACK} reserved"
    )
    return report


def compare(where: str, report: dict, outputs: dict[str, np.ndarray], boxes) -> None:
    for (name, want), got in zip(outputs.items(), report["outputs"], strict=True):
        differing = int((want.ravel() != got).sum())
        assert not differing, f"{where}: {differing} of {want.size} bytes of {name} are not the reference's"
    assert boxes is None or np.array_equal(report["boxes"], boxes), f"{where}: other boxes than the reference's"


def proved(number: int, boards: bool, folder: Path, objects: Path) -> dict:
    """The runs of one case; raises AssertionError where one differs, RuntimeError where one ends early."""
    found = case(number)
    outputs = reference.run(found.plan, found.model, (found.picture.astype(np.int16) - 128).astype(np.int8))
    post = detector_params(found.model)
    boxes = None if post is None else post.decode(list(outputs.values()))
    write_sources(found.plan, found.model, folder)
    (folder / "picture.rgb").write_bytes(found.picture.tobytes())
    compare("host", run_host(found, folder, objects), outputs, boxes)
    say = {"features": features(found), "boards": {}}
    for core in MACHINES if boards else ():
        report = run_board(found, folder, objects, core, guarded=number % 2 == 1)
        compare(core, report, outputs, boxes)
        say["boards"][core] = {key: report[key] for key in ("instructions", "stack_bytes", "stack_bound")}
    return say


def outcome(number: int, objects: Path, boards: bool | None = None, keep: Path | None = None) -> dict:
    """{"case", "outcome": "equal" or "failed", ...} of one case; boards: whether on the boards, by its number unless
    given."""
    say, began = {"case": number, "outcome": "equal"}, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        try:
            say |= proved(number, number % EVERY == 0 if boards is None else boards, folder, objects)
        except Exception as error:
            said = getattr(error, "stderr", None) or str(error)  # a compiler's words
            say |= {"outcome": "failed", "error": f"{type(error).__name__}: {said[-1500:]}"}
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
    return {**say, "seconds": round(time.perf_counter() - began, 2)}


def prove(numbers, kernels: Path = KERNELS, boards: bool | None = None, workers: int = 2) -> Iterator[dict]:
    """The outcome of each case in turn."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(workers) as pool:
        objects = build_objects(Path(folder), kernels, boards is not False)
        yield from pool.map(partial(outcome, objects=objects, boards=boards), numbers)


def summary(found: list[dict]) -> dict:
    """Cases by outcome, how many exercise what, and the boards' runs."""
    equal = [c for c in found if c["outcome"] == "equal"]
    on_boards = [c for c in equal if c["boards"]]
    cores = {
        core: {
            "cases": len(on_boards),
            "most stack_bytes": max(c["boards"][core]["stack_bytes"] for c in on_boards),
            "most stack_bound": max(c["boards"][core]["stack_bound"] for c in on_boards),
        }
        for core in (MACHINES if on_boards else ())
    }
    return {
        "cases": len(found), "equal": len(equal), "failed": [c["case"] for c in found if c["outcome"] == "failed"],
        "boards": cores, "seconds": round(sum(c["seconds"] for c in found)),
        "features": dict(sorted(Counter(name for c in equal for name in c["features"]).items())),
        "features on boards": dict(sorted(Counter(name for c in on_boards for name in c["features"]).items())),
    }  # fmt: skip


def lacking(counts: dict) -> dict[str, int]:
    """Features that a proof of so many cases exercises less often than LEAST wants, with their counts."""
    wanted = {name: least * counts["cases"] // 1000 for name, least in LEAST.items()}
    return {name: counts["features"].get(name, 0) for name, n in wanted.items() if counts["features"].get(name, 0) < n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one case, on the boards, too")
    parser.add_argument("--keep", type=Path, help="with --only: folder for its C and programs")
    parser.add_argument("--json", help="file for the summary")
    args = parser.parse_args()
    if args.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            said = outcome(args.only, build_objects(Path(folder)), True, args.keep)
        print(json.dumps(said, indent=1))
        sys.exit(said["outcome"] == "failed")
    found = []
    for said in tqdm(prove(range(args.first, args.first + args.cases)), "prove", args.cases, unit="case"):
        found.append(said)
        if said["outcome"] == "failed":
            tqdm.write(json.dumps(said))
    counts = summary(found)
    print(json.dumps(counts, indent=1))
    if args.json:
        write_json(args.json, counts)
    if lacking(counts):
        print(f"too few cases exercise {lacking(counts)}")
    sys.exit(bool(counts["failed"] or lacking(counts)))


if __name__ == "__main__":
    main()
