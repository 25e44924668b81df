"""Load-bearing lines broken one at a time (mutant_*.py): the tests concerned must fail.

python tests/mutants.py                     all of them; exit code 1 for a survivor or an error
python tests/mutants.py --only dead_channels.py      those whose file's path has this in it
python tests/mutants.py --json FILE         a summary, too

Each break has a copy of the tree to itself, in which pytest runs the tests concerned; unbroken, they must pass there.
A test that fails to be collected is an error: a line that breaks an import says nothing of the tests. A break named as
equivalent, with its reason, must survive.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from conftest import ROOT
from mutant_doors import DOORS
from mutant_search import SEARCHES
from mutant_table import MUTANTS, Mutant
from tqdm import tqdm

from nni_mcunet.core.files import write_json

SECONDS = 600  # of the tests of one mutant; who hangs is found, too
FAILED, PASSED = 1, 0  # pytest's exit codes


def copied(folder: Path) -> Path:
    """The tree without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():  # .mim's are of folders
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def tested(tree: Path, tests: list[str]) -> tuple[int | None, str]:
    """pytest's exit code (None: it hung) and its last words."""
    shared = os.environ.get("MCUNET_SHARED", ROOT.parent / "shared")
    env = {**os.environ, "PYTHONPATH": str(tree), "MCUNET_SHARED": str(shared), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "", *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"no end after {SECONDS} s"
    return done.returncode, (done.stdout + done.stderr)[-1500:]


def broken(text: str, mutant: Mutant) -> str:
    """The file's text with the break. Raises LookupError where the line has moved or stands there twice."""
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.file}: {mutant.old!r} stands there {text.count(mutant.old)} times: it has moved")
    return text.replace(mutant.old, mutant.new)


def outcome(tree: Path, mutant: Mutant) -> dict:
    """{"file", "old", "outcome": "killed", "equivalent", "survived" or "error", ...}."""
    path, began = tree / mutant.file, time.perf_counter()
    sound, said = path.read_text(), {"file": mutant.file, "old": mutant.old, "new": mutant.new}
    try:
        path.write_text(broken(sound, mutant))
        code, words = tested(tree, mutant.paths)
    except LookupError as error:
        return said | {"outcome": "error", "why": str(error)}
    finally:
        path.write_text(sound)
    if mutant.reason:
        result = {"outcome": "equivalent" if code == PASSED else "error", "why": mutant.reason}
    elif code in (FAILED, None):
        result = {"outcome": "killed"}
    else:
        result = {"outcome": "survived"} if code == PASSED else {"outcome": "error", "why": words}
    return said | result | {"seconds": round(time.perf_counter() - began, 1)}


def run(mutants: list[Mutant], workers: int = 2) -> Iterator[dict]:
    """The outcome of each in turn, each worker in a tree of its own. AssertionError where the tests fail unbroken."""
    with tempfile.TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for i in range(workers):
            trees.put(copied(Path(folder) / str(i)))

        def borrowed(function, *args):
            tree = trees.get()
            try:
                return function(tree, *args)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(workers) as pool:
            paths = list(dict.fromkeys(path for mutant in mutants for path in mutant.paths))
            shares = [pool.submit(borrowed, tested, paths[i::workers]) for i in range(workers) if paths[i::workers]]
            for code, words in (share.result() for share in shares):
                assert code == PASSED, f"the tests fail without any break: {words}"
            yield from pool.map(lambda mutant: borrowed(outcome, mutant), mutants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the files' paths")
    parser.add_argument("--json", help="file for the summary")
    args = parser.parse_args()
    chosen, found = [mutant for mutant in MUTANTS + DOORS + SEARCHES if args.only in mutant.file], []
    for said in tqdm(run(chosen), "mutants", len(chosen), unit="mutant", disable=None):
        found.append(said)
        if said["outcome"] not in ("killed", "equivalent"):
            tqdm.write(json.dumps(said, indent=1))
    names = ("killed", "equivalent", "survived", "error")
    by_outcome = {name: [said for said in found if said["outcome"] == name] for name in names}
    counts = {"mutants": len(found), **{name: len(said) for name, said in by_outcome.items()}}
    print(json.dumps(counts))
    if args.json:
        named = {name: [{k: said[k] for k in ("file", "old", "new", "why") if k in said} for said in by_outcome[name]]
                 for name in names[1:]}  # fmt: skip
        seconds = round(sum(said.get("seconds", 0) for said in found))
        write_json(args.json, {**counts, "seconds": seconds, "named": named})
    sys.exit(bool(by_outcome["survived"] or by_outcome["error"]))


if __name__ == "__main__":
    main()
