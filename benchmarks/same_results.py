"""Show that two states of the project compute the same: plans, outputs of C, search histories, the paper's tables.

python benchmarks/same_results.py 4c01720                    that revision and HEAD, in about five minutes
python benchmarks/same_results.py 4c01720 . --kinds plans    and the files of the working tree; only the plans
python benchmarks/same_results.py 4c01720 --slow             also a whole search by NNI, its super-network included

The texts of C and of messages may differ between the two; numbers may not. Each state works in a copy of its own, by
its commands and by modules under the names that they have there. The int8 networks are made once, by the first state,
and given to both. Writes docs/results/house.json and ends with code 1 where anything differs.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/house.json"
BOARDS = ("stm32f412", "stm32f746", "stm32h743")
SCHEDULES = {  # name -> flags of profile and generate
    "best": [],
    "2x2 over 2": ["--patches", "2x2", "--blocks", "2"],
    "3x3 over 4": ["--patches", "3x3", "--blocks", "4"],
    "4x4,2x2 over 3,5": ["--patches", "4x4,2x2", "--blocks", "3,5"],
}
# The states before 9b3744d drew a schedule of several segments as if it were its first one: not compared for those.
DRAWN = ("peak_bytes_per_patch", "patched", "blocks")
COMPILED = {  # of the C: flags of generate
    "best": [],
    "2x2 over 3, recomputed": ["--patches", "2x2", "--blocks", "3", "--halo", "clip"],
    "3x3 over 4, kept": ["--patches", "3x3", "--blocks", "4", "--halo", "cache"],
    "3x2,2x1 over 3,5": ["--patches", "3x2,2x1", "--blocks", "3,5"],
}
LARGE = {"name": "large", "core": "cortex-m7", "clock_hz": 480_000_000, "sram": 1 << 26, "flash": 1 << 26}
PICTURES = 2
MOST_MACS = 120_000_000  # of a network whose C is run: the portable kernels do 200 million a second
PROGRAM = """
#include <stdio.h>
#include "mcu_model.h"
#include "pictures/frame.h"

static uint8_t picture[MCU_INPUT_H * MCU_INPUT_W * MCU_INPUT_C];

int main(void) {
    while (fread(picture, 1, sizeof picture, stdin) == sizeof picture) {
        mcu_frame frame = {picture, MCU_INPUT_W};
        mcu_run(mcu_read_frame, &frame);
        for (int i = 0; mcu_output(i) != 0; i++)
            fwrite(mcu_output(i), 1, (size_t)mcu_output_bytes(i), stdout);
    }
    return 0;
}
"""

# --- what one state computes: these functions run in a process of it, with its copy on the path


def module(*names: str):
    """Import the first of the names that this state has."""
    for name in names[:-1]:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"nni_mcunet.{name}")
    return importlib.import_module(f"nni_mcunet.{names[-1]}")


def command(tree: Path, name: str, *words) -> tuple[int, str]:
    """Run tools/NAME.py in this process. Returns its exit code and what it wrote on stdout, or else on stderr."""
    sys.argv, code = [f"tools/{name}.py", *map(str, words)], 0
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(tree / f"tools/{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return code, err.getvalue() if code else out.getvalue()


def figures(code: int, text: str) -> list:
    """Return what a refusal says to a machine: its code and its numbers."""
    return [code, *re.findall(r"\d[\d,.]*\d|\d", text)]


def plans(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """Every network of the zoo on each board, with each schedule: arena, MACs, schedule, memory of every block."""
    for path in sorted((tree / "configs/arch").glob("*.json")):
        for board in BOARDS:
            for name, flags in SCHEDULES.items():
                code, text = command(tree, "profile", path, "--board", board, "--json", *flags)
                found = figures(code, text) if code else json.loads(text)
                if not code and "," in name:
                    found = {key: value for key, value in found.items() if key not in DRAWN}
                yield f"{path.stem}, {board}, {name}", found


def networks(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """Write int8 networks with random weights into `work`/networks: those of the zoo that the engine runs."""
    import numpy as np

    sys.path.append(str(tree / "tests"))
    from nets import random_model

    arch, build = module("core.ir.arch", "core.arch"), module("core.ir.build", "core.build")
    onnx = module("engine.frontend.onnx", "engine.onnx_io")
    (work / "networks").mkdir()
    for number, path in enumerate(sorted((tree / "configs/arch").glob("*.json"))):
        graph = build.build_graph(arch.ArchSpec.load(path)).folded()
        if graph.macs <= MOST_MACS and all(op.kind != "rnnpool" for op in graph.ops):
            rng = np.random.default_rng(number)
            onnx.save_onnx(random_model(rng, graph), work / f"networks/{path.stem}.int8.onnx")
            yield path.stem, graph.macs


def outputs(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """Yield what the C of each network gives on seeded pictures, compiled by gcc for this machine: a sum of bytes."""
    import numpy as np

    board, program = work / "large.json", work / "main.c"
    board.write_text(json.dumps(LARGE))
    program.write_text(PROGRAM)
    for path in sorted((work / "networks").glob("*.onnx")):
        for number, (name, flags) in enumerate(COMPILED.items()):
            folder = work / f"{tree.name}-{path.stem.removesuffix('.int8')}-{number}"
            code, text = command(tree, "generate", path, "--board", board, *flags, "-o", folder)
            where = f"{path.stem.removesuffix('.int8')}, {name}"
            if code:
                yield where, figures(code, text)
                continue
            facts = json.loads((folder / "plan.json").read_text())
            size = [int(n) for n in re.findall(r"INPUT_[HWC] (\d+)", (folder / "mcu_model.h").read_text())]
            pictures = np.random.default_rng(0).integers(0, 256, (PICTURES, *size), np.uint8)
            done = subprocess.run([compiled(folder, program, work)], input=pictures.tobytes(), capture_output=True)
            planned = {key: facts[key] for key in ("arena_bytes", "macs", "p", "n", "halo")}
            given = [done.returncode, len(done.stdout), hashlib.sha256(done.stdout).hexdigest()]
            yield where, planned | {"exit code, bytes, sha256": given}
            shutil.rmtree(folder)


def compiled(folder: Path, program: Path, work: Path) -> Path:
    """Compile a generated library. The kernels, which are the same for all networks of a state, are compiled once."""
    own = [folder / "mcu_model.c", *(path for path in folder.glob("pictures/frame.c"))]
    kernels = sorted(path for path in folder.glob("*.c") if path not in own)
    files = [
        path for path in sorted(folder.glob("*.[ch]")) if "mcu_model" not in path.name and "weights" not in path.name
    ]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    objects = work / f"kernels-{key}"
    gcc = ["gcc", "-std=c11", "-O2", f"-I{folder}"]
    if not objects.is_dir():
        objects.mkdir()
        subprocess.run([*gcc, "-c", *map(str, kernels)], cwd=objects, check=True)
    out = folder / "run"
    subprocess.run([*gcc, str(program), *map(str, own), *map(str, objects.glob("*.o")), "-o", str(out)], check=True)
    return out


def searches(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """Histories of seeded searches by ask and tell, without NNI: the score is made of the candidate's own figures."""
    evolution, space = module("search.evolution"), module("search.space")
    limits, boards = module("search.constraint").Limits, module("core.boards")
    for name, board, most in (("demo", "stm32h743", 18_000_000), ("mcunet384", "stm32f412", None)):
        for seed in (0, 1):
            limit = limits(boards.get_board(board).with_arena(96 * 1024), most)
            found = evolution.Evolution(space.load_space(name), limit.check, seed, 10, 4, 3, 0.1)
            while not found.done:
                asked = found.ask()
                found.tell(asked.index, (asked.macs + 7 * asked.sram) % 1009 / 1009)
            for proposal in found.proposals:
                yield f"{name}, seed {seed}, candidate {proposal.index}", asdict(proposal)


def tables(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """The paper's tables and figures, cell by cell."""
    out = work / f"{tree.name}-paper"
    code, text = command(tree, "tables", "-o", out)
    if code:
        raise RuntimeError(text)
    found = json.loads((out / "tables.json").read_text())
    for number, cell in enumerate(found["cells"]):
        yield f"{number}: {cell['table'][:20]}, {cell['row']}, {cell['what']}", cell
    for point in found["fig8"]:
        yield f"Fig. 8: {point['network']}, p = {point['p']}, n = {point['n']}", point


def demo(tree: Path, work: Path) -> Iterator[tuple[str, object]]:
    """The search of `make demo` by NNI, in the copy: its candidates and their scores."""
    for words in (["train_supernet"], ["search", "run", "--config", "configs/nni/demo_h743.yml"]):
        subprocess.run([sys.executable, f"tools/{words[0]}.py", *words[1:]], cwd=tree, check=True, stdout=sys.stderr)
    for line in (tree / "out/search/demo_h743/history.jsonl").read_text().splitlines():
        found = json.loads(line)
        yield f"candidate {found['index']}", found


# --- both


KINDS = {"plans": plans, "outputs of C": outputs, "search histories": searches, "paper's tables": tables}
SLOW = {"search by NNI": demo}
INNER = {"networks": networks}


def checkout(state: str, to: Path) -> str:
    """Copy a revision's files, or those of a folder, to `to`. Returns what to call it."""
    if Path(state).is_dir():
        ignored = shutil.ignore_patterns(".git", ".venv", "out", "__pycache__", "*.egg-info")
        shutil.copytree(state, to, symlinks=True, ignore=ignored)
        return f"the files of {Path(state).resolve().name}"
    archive = subprocess.run(["git", "archive", state], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(to, filter="tar")
    words = ["git", "rev-parse", "--short=10", state]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def compute(kind: str, tree: Path, work: Path) -> dict:
    """Run one kind in a process of the state in `tree`."""
    path = work / f"{tree.name}-result.json"
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, __file__, "--inside", kind, str(tree), str(work), str(path)]
    subprocess.run(words, cwd=work, env=env, check=True)
    return json.loads(path.read_text())


def inside(kind: str, tree: str, work: str, path: str) -> None:
    """Compute one kind in this process and write it to `path`."""
    sys.path.append(f"{tree}/tools")  # last: the standard library has a profile and an inspect, too
    found = dict((KINDS | SLOW | INNER)[kind](Path(tree), Path(work)))
    Path(path).write_text(json.dumps(found))


def compare(old: dict, new: dict) -> list[str]:
    """Return the names of what differs, or stands on one side only."""
    return [name for name in {**old, **new} if name not in old or name not in new or old[name] != new[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a git revision or a folder")
    parser.add_argument("new", nargs="?", default="HEAD", help="likewise (default HEAD)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--slow", action="store_true", help="also a search by NNI")
    parser.add_argument(
        "--json", type=Path, default=RESULT, help="file for the counts (default docs/results/house.json)"
    )
    args = parser.parse_args()
    rows, wrong = {}, []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        trees = {work / "old": args.old, work / "new": args.new}
        names = [checkout(state, tree) for tree, state in trees.items()]
        if "outputs of C" in args.kinds:
            compute("networks", work / "old", work)
        print(f"{'':20}{'equal':>8}{'of':>8}   {names[0]} and {names[1]}")
        for kind in args.kinds + args.slow * list(SLOW):
            old, new = (compute(kind, tree, work) for tree in trees)
            differ = compare(old, new)
            rows[kind] = {"equal": len({**old, **new}) - len(differ), "of": len({**old, **new})}
            print(f"{kind:20}{rows[kind]['equal']:8,}{rows[kind]['of']:8,}", flush=True)
            wrong += [f"{kind}: {name}:\n  {old.get(name)}\n  {new.get(name)}" for name in differ]
    print("\n".join(text[:2000] for text in wrong[:20]))
    args.json.write_text(json.dumps({"old": names[0], "new": names[1], "same": rows}, indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        main()
