"""Random networks under random schedules: the generated C gives the bytes of the numpy reference, here and on boards.

python tests/prove.py --cases 1000          a summary and every failure; exit code 1 for one
python tests/prove.py --only 1234 --keep out one case again, its C and programs kept there
python tests/prove.py --cores cortex-m55      of the boards only this one

Each case (cases.py) is drawn by its number. The reference follows the plan, as C does, so it is held first
against itself layer by layer, byte by byte. It is held against onnxruntime, too, which
knows of no plan and of no integers of ours: it computes in float between the roundings. Then the case's C runs on this
machine under the address and undefined-behaviour sanitizers, each kernel shut in what its arguments name (guarded.h).
Every third one also runs on the emulated cores, with its weights in the order of each, since no sanitizer sees their
DSP and vector versions. Every other of these has the kernels shut in, too, the others are as they are shipped. There
the arena ends where the memory does, its symbol has the planned size, and the painted stack stays within the bound that
the ELF's own code gives (engine/run/stack_bound.py).
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from cases import LEAST, Case, case, features
from programs import HOST, MACHINES, STACK, objects, run_board, run_host
from tqdm import tqdm

from nni_mcunet.core.boards import CORES
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import KERNELS, detector_params, write_sources
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel
from nni_mcunet.engine.quant.ort_session import session
from nni_mcunet.engine.quant.sqnr import db, fed, single

# Against onnxruntime an op by itself is a step off at most, where a value is near a tie; more than one is a fault. What
# is behind such a step may be further off: of an output's signal to noise 23.8 dB was the least of 1,500 cases.
MOST_STEPS, LEAST_DB = 1.5, 20
EVERY = 3  # cases to one that runs on the boards, too


def compare(where: str, report: dict, outputs: dict[str, np.ndarray], boxes) -> None:
    for (name, want), got in zip(outputs.items(), report["outputs"], strict=True):
        differing = int((want.ravel() != got).sum())
        assert not differing, f"{where}: {differing} of {want.size} bytes of {name} are not the reference's"
    assert boxes is None or np.array_equal(report["boxes"], boxes), f"{where}: other boxes than the reference's"


def hold_whole(found: Case, whole: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    """The outputs under the case's plan against those of the plan without patches."""
    for name, got in outputs.items():
        differing = int((whole[name] != got).sum())
        assert not differing, f"{differing} of {got.size} bytes of {name} are not those of layer by layer"


def hold_float(model: QuantModel, whole: dict[str, np.ndarray]) -> None:
    """Every tensor against onnxruntime on the model's ONNX form: each op by itself on our tensors, and all together."""
    graph, alone, together = model.graph, session(single(model)), session(model)
    ours = {name: model.scales[name].dequantize(q).transpose(2, 0, 1)[None] for name, q in whole.items()}
    names = [op.name for op in graph.ops]
    for name, value in zip(names, alone.run(names, fed(alone, ours)), strict=True):
        steps = float(np.abs(value - ours[name]).max()) / model.scales[name].scale
        assert steps < MOST_STEPS, f"{name} by itself is {steps:.1f} steps from onnxruntime's"
    image = graph.inputs[0].name
    for name, value in zip(graph.outputs, together.run(list(graph.outputs), {image: ours[image]}), strict=True):
        ratio = db((value.astype(float) ** 2).sum(), ((value - ours[name]).astype(float) ** 2).sum())
        assert not ratio < LEAST_DB, f"{name} is {ratio:.1f} dB from onnxruntime's"  # nan where both are zero


def proved(number: int, cores: Iterable[str], kernels: Path, folder: Path) -> dict:
    """The runs of one case; raises AssertionError where one differs, RuntimeError where one ends early."""
    found = case(number)
    picture = (found.picture.astype(np.int16) - 128).astype(np.int8)
    outputs = reference.run(found.plan, found.model, picture)
    whole = reference.run(plan(found.model.graph), found.model, picture, keep=True)
    hold_whole(found, whole, outputs)
    hold_float(found.model, whole)
    post = detector_params(found.model)
    boxes = None if post is None else post.decode(list(outputs.values()))
    write_sources(found.plan, found.model, folder)
    compare(HOST, run_host(folder, found.picture, kernels), outputs, boxes)
    say = {"features": features(found), "boards": {}}
    for core in cores:
        write_sources(found.plan, found.model, folder, weights_lie=CORES[core].weights)
        report = run_board(core, folder, found.picture, kernels, guarded=number % 2 == 1)
        compare(core, report, outputs, boxes)
        assert report["arena_bytes"] == found.plan.arena, f"{core}: the arena's symbol is not of the planned size"
        used, bound = report["stack_bytes"], report["stack_bound"]
        assert 0 < used <= bound <= STACK, f"{core}: {used} bytes of stack used, {bound} stated, {STACK} reserved"
        say["boards"][core] = {key: report[key] for key in ("instructions", "stack_bytes", "stack_bound")}
    return say


def outcome(
    number: int,
    boards: bool | None = None,
    kernels: Path = KERNELS,
    keep: Path | None = None,
    cores: Iterable[str] = tuple(MACHINES),
) -> dict:
    """{"case", "outcome": "equal" or "failed", ...} of one case; boards: whether on those of `cores`, by its number
    unless given."""
    say, began = {"case": number, "outcome": "equal"}, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            on_boards = number % EVERY == 0 if boards is None else boards
            say |= proved(number, cores if on_boards else (), kernels, Path(folder))
        except Exception as error:
            say |= {"outcome": "failed", "error": f"{type(error).__name__}: {str(error)[-1500:]}"}
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
    return {**say, "seconds": round(time.perf_counter() - began, 2)}


def prove(
    numbers,
    boards: bool | None = None,
    kernels: Path = KERNELS,
    workers: int = 2,
    cores: Iterable[str] = tuple(MACHINES),
) -> Iterator[dict]:
    """The outcome of each case in turn."""
    for core in (HOST,) if boards is False else (HOST, *cores):
        objects(core, kernels)  # before the workers, who find them compiled
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        yield from pool.map(partial(outcome, boards=boards, kernels=kernels, cores=cores), numbers)


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
        for core in (on_boards[0]["boards"] if on_boards else ())
    }
    return {
        "cases": len(found), "equal": len(equal), "failed": [c["case"] for c in found if c["outcome"] == "failed"],
        "boards": cores, "seconds": round(sum(c["seconds"] for c in found)),
        "features": dict(sorted(Counter(name for c in equal for name in c["features"]).items())),
        "features on boards": dict(sorted(Counter(name for c in on_boards for name in c["features"]).items())),
    }  # fmt: skip


def lacking(counts: dict) -> dict[str, int]:
    """Features that so many cases exercise less often than LEAST wants, or half as often on the boards, with their
    counts."""
    on_boards = max((core["cases"] for core in counts["boards"].values()), default=0)
    parts = ("features", counts["cases"]), ("features on boards", on_boards // 2)
    return {
        f"{name} ({part})": counts[part].get(name, 0)
        for part, cases in parts
        for name, least in LEAST.items()
        if counts[part].get(name, 0) < least * cases // 1000
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one case, on the boards, too")
    parser.add_argument("--keep", type=Path, help="with --only: folder for its C and programs")
    parser.add_argument("--cores", nargs="+", choices=MACHINES, default=[*MACHINES], help="which boards")
    parser.add_argument("--json", help="file for the summary")
    args = parser.parse_args()
    if args.only is not None:
        said = outcome(args.only, True, keep=args.keep, cores=args.cores)
        print(json.dumps(said, indent=1))
        sys.exit(said["outcome"] == "failed")
    found = []
    numbers = range(args.first, args.first + args.cases)
    for said in tqdm(prove(numbers, cores=args.cores), "prove", args.cases, unit="case", disable=None):
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
