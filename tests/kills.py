"""Kill `mcunet generate` while it writes one library over another, at random moments, and look at what it leaves.

python tests/kills.py --kills 50 [--seed 0] [--json FILE]

A kill holds where the folder has the whole old library, the whole new one, or one that refuses to compile; where the
user's own files in it are as they were; and where the same command, run once more, leaves the whole new one. Every
second kill comes while the new files are staged, every other one while they are put in place: that takes a disk
slower than this one, so the command then waits a little behind each renaming.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from nets import block_graph, random_model

from nni_mcunet.cli.main import main as mcunet
from nni_mcunet.core.file_sets import MANIFEST, STAGED, is_whole
from nni_mcunet.core.files import write_json
from nni_mcunet.engine.frontend.onnx import save_onnx

FOREIGN = {"application.c": "int application;\n", "board/pins.txt": "mine\n", "mcu_mine.h": "/* mine */\n"}
OPTIONS = {"old": ["--board", "stm32f412", "--project"], "new": ["--board", "stm32h743", "--project"]}
SLOW = 0.001


def start(words: list, slow: float = 0.0) -> int:
    """The command in a process of its own, which has imported everything already. Its process id. slow: seconds to wait
    behind each renaming."""
    pid = os.fork()
    if pid:
        return pid
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    replace = os.replace
    os.replace = lambda *names: (replace(*names), time.sleep(slow))
    code = 1
    try:
        mcunet(["generate", *map(str, words)])
        code = 0
    except SystemExit as error:
        code = error.code
    finally:
        os._exit(code)


def contents(folder: Path) -> dict[str, bytes]:
    """Read what the folder's files hold, by name; neither the manifest nor what is staged."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and STAGED not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != MANIFEST}


def compiles(folder: Path, stage: str = "-fsyntax-only") -> bool:
    """Whether the library and the project's C pass the compiler. Raises RuntimeError where it stops without an #error
    of ours. stage: -E looks for #error only."""
    sources = [*folder.glob("mcu_*.c"), *folder.glob("pictures/*.c"), *folder.glob("board/report.c")]
    command = ["gcc", "-std=c11", stage, f"-I{folder}", f"-I{folder}/board", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "error: #error" not in done.stderr:
        raise RuntimeError(done.stderr)
    return done.returncode == 0


class Kills:
    """folder: for all files."""

    def __init__(self, folder: Path):
        self.folder, self.whole, self.words = folder, {}, {}
        for seed, name in enumerate(OPTIONS):
            graph = block_graph(np.random.default_rng(seed), (20, 24), 3)
            save_onnx(random_model(np.random.default_rng(seed), graph), folder / f"{name}.onnx")
            self.words[name] = [folder / f"{name}.onnx", *OPTIONS[name], "-o"]
            self.run(name, folder / name)
            self.whole[name] = contents(folder / name)
        for name, text in FOREIGN.items():
            (folder / "old" / name).write_text(text)

    def run(self, name: str, target: Path) -> None:
        _, status = os.waitpid(start([*self.words[name], target]), 0)
        assert status == 0, f"mcunet generate ended with {os.waitstatus_to_exitcode(status)}"

    def kill(self, rng, number: int) -> str:
        """Judge what one kill left: "old", "new" or "refused to compile". Raises AssertionError for anything else."""
        for attempt in range(200):
            target = self.folder / "target"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self.folder / "old", target)
            if self.hit(rng, target, number % 2, attempt):
                return self.look(target)
        raise RuntimeError("no kill came before the command's end")

    def hit(self, rng, target: Path, late: int, attempt: int) -> bool:
        """Start the command, wait for its first staged file (late: for its first file in place) and kill it a little
        later; False where it had ended before."""
        before = (target / MANIFEST).stat().st_ino
        pid = start([*self.words["new"], target], SLOW * late)
        begun = (lambda: (target / MANIFEST).stat().st_ino != before) if late else (target / STAGED).exists
        deadline = time.monotonic() + 60
        while not begun() and time.monotonic() < deadline:
            time.sleep(0)
        time.sleep(float(rng.uniform(0, 0.04)) * 0.9**attempt)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status)

    def look(self, target: Path) -> str:
        found = contents(target)
        mine = {name: found.pop(name, b"").decode() for name in FOREIGN}
        assert mine == FOREIGN, f"a file of the user's was touched: {mine}"
        same = [name for name, files in self.whole.items() if files == found]
        compiled = compiles(target)
        assert compiled == bool(same), "files of two libraries compile" if compiled else "a whole library does not"
        self.run("new", target)
        assert contents(target) == self.whole["new"] | {n: text.encode() for n, text in FOREIGN.items()}
        assert is_whole(target) and not (target / STAGED).exists(), "the next run left something over"
        return same[0] if same else "refused to compile"


def kills(number: int, seed: int = 0) -> dict:
    """{"kills", "held", "left": how many left what, "failed": what did not hold}."""
    rng, left, failed = np.random.default_rng(seed), Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        killer = Kills(Path(folder))
        for k in range(number):
            try:
                left[killer.kill(rng, k)] += 1
            except AssertionError as error:
                failed.append(f"kill {k}: {error}")
    return {"kills": number, "held": sum(left.values()), "left": dict(left), "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file for the counts")
    args = parser.parse_args()
    found = kills(args.kills, args.seed)
    print(json.dumps(found, indent=1))
    if args.json:
        write_json(args.json, found)
    sys.exit(bool(found["failed"]))


if __name__ == "__main__":
    main()
