r"""Broken model files against the whole way to C: never a crash, a hang or a wrong binary.

python tests/fuzz.py --cases 5000           ONNX files: their outcomes and every failure; exit code 1 for one
python tests/fuzz.py --format tflite        the same of .tflite files
python tests/fuzz.py --only 1234 --keep out one case again, its file written there

Each case is one of a format's files, as fuzz_onnx.py and fuzz_tflite.py make them, changed by up to three of its
damages, drawn by its number. It is read in a worker process with limited memory and time. A file that is refused
must be so by a UserError. One that is accepted must give what the format's own runtime gives for it, where that takes
it, and its C, under sanitizers (programs.py), the bytes of the numpy reference.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fuzz_onnx
import fuzz_tflite
import numpy as np
from damage import pick, raw_bytes
from programs import run_host
from tqdm import tqdm

from nni_mcunet.core.errors import CutWarning, UserError
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model
from nni_mcunet.engine.quant.post_training import calibrated

SECONDS, MEMORY = 60, 8 << 30  # of one case
CHUNK = 100  # cases of one worker
FAILURES = ("crash", "hang", "traceback", "wrong")
# A format has files(), damaged(), compared(), SUFFIX and the name of its own runtime, REFERENCE.
FORMATS = {"onnx": fuzz_onnx, "tflite": fuzz_tflite}


def case(number: int, kind: str = "onnx") -> tuple[str, bytes]:
    """The damages by name, and the file of this format."""
    rng, form = np.random.default_rng(number), FORMATS[kind]
    data = pick(rng, form.files())
    if rng.random() < 0.15:
        return "raw_bytes", raw_bytes(rng, data)
    done, data = form.damaged(rng, data, int(rng.integers(4)))
    return "+".join(done), data


# One case in a worker.


def outcome(path: Path, folder: Path) -> str:
    """ "refused" by a UserError, or "accepted"; raises whatever must not be."""
    try:
        model = load_model(path)
        image = model.graph.inputs[0]
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
        if isinstance(model, Model):
            model = calibrated(model, [picture])
        whole = plan(model.graph)
        if whole.graph.macs > 10**8 or whole.arena > 10**7:
            return "too large"
        write_sources(whole, model, folder)
    except UserError:
        return "refused"
    ours = reference.run(whole, model, (picture.astype(np.int16) - 128).astype(np.int8))
    host = run_host(folder, picture)["outputs"]
    same = all(np.array_equal(ours[n].ravel(), out) for n, out in zip(model.graph.outputs, host, strict=True))
    assert same, "the C does not give the reference's bytes"
    return "accepted"


def limit(seconds: int) -> None:
    """End this process after so many seconds of its own, or ten times as many on the clock of a loaded machine; 0: no
    more."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10 * seconds)


def work(kind: str, first: int, last: int) -> None:
    """Cases first..last-1 of a format; a JSON line before and behind each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for number in range(first, last):
        damage, data = case(number, kind)
        say = {"case": number, "damage": damage}
        print(json.dumps(say), flush=True)
        limit(SECONDS)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"m{FORMATS[kind].SUFFIX}"
            path.write_bytes(data)
            try:
                with warnings.catch_warnings(action="error"):  # an overflow in numpy is a traceback, too
                    warnings.simplefilter("ignore", CutWarning)
                    say["outcome"] = outcome(path, Path(folder) / "c")
                print(json.dumps(say), flush=True)
                if say["outcome"] == "accepted":
                    say["compared"] = FORMATS[kind].compared(path)
                    say["outcome"] = "wrong" if say["compared"] == "other" else "accepted"
            except Exception as error:
                say |= {"outcome": "traceback", "error": f"{type(error).__name__}: {str(error)[:300]}"}
        limit(0)
        print(json.dumps(say), flush=True)


# All cases, in the parent.


def chunk(kind: str, first: int, last: int) -> list[dict]:
    """Outcomes of the cases first..last-1; a worker that dies is replaced by one behind the case it died of."""
    found: dict[int, dict] = {}
    while first < last:
        command = [sys.executable, __file__, "--format", kind, "--worker", str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        for line in done.stdout.splitlines():
            said = json.loads(line)
            found[said["case"]] = said
        if done.returncode == 0:
            break
        at = max((n for n in found if n >= first), default=None)
        if at is None:
            raise RuntimeError(f"the worker does not start: {done.stderr[-2000:]}")
        if found[at].get("outcome") == "accepted":  # the runtime took it with it
            found[at]["compared"] = f"{FORMATS[kind].REFERENCE} died"
        else:
            found[at]["outcome"] = "hang" if -done.returncode in (signal.SIGPROF, signal.SIGALRM) else "crash"
            found[at]["error"] = f"exit code {done.returncode}: {done.stderr[-300:]}"
        first = at + 1
    return list(found.values())


def fuzz(cases: int, first: int = 0, workers: int = 2, kind: str = "onnx") -> list[dict]:
    """[{"case", "damage", "outcome", ...}] of so many cases of a format from number `first` on."""
    FORMATS[kind].files()
    bounds = [(i, min(i + CHUNK, first + cases)) for i in range(first, first + cases, CHUNK)]
    with ThreadPoolExecutor(workers) as pool, tqdm(total=cases, unit="case", desc="fuzz", disable=None) as bar:
        found = []
        for part in pool.map(lambda b: chunk(kind, *b), bounds):
            found += part
            bar.update(len(part))
    return found


def summary(found: list[dict], kind: str = "onnx") -> dict:
    """Cases by outcome, and how the accepted ones compare with the format's runtime."""
    compared = Counter(c["compared"] for c in found if "compared" in c)
    return {
        "cases": len(found),
        **Counter(c["outcome"] for c in found),
        f"accepted against {FORMATS[kind].REFERENCE}": compared,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="of the files (default onnx)")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one case, in this process")
    parser.add_argument("--keep", type=Path, help="with --only: folder for its file")
    parser.add_argument("--json", help="file for the summary")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.format, *args.worker)
    if args.only is not None:
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            name = f"{args.only}{FORMATS[args.format].SUFFIX}"
            (args.keep / name).write_bytes(case(args.only, args.format)[1])
        return work(args.format, args.only, args.only + 1)
    found = fuzz(args.cases, args.first, kind=args.format)
    for failed in (c for c in found if c["outcome"] in FAILURES):
        print(json.dumps(failed))
    print(json.dumps(summary(found, args.format), indent=1))
    if args.json:
        write_json(args.json, summary(found, args.format))
    sys.exit(any(c["outcome"] in FAILURES for c in found))


if __name__ == "__main__":
    main()
