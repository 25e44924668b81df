"""Candidates a minute that an NNI experiment evaluates: one a trial, the naive way, and many a trial, ours.

    python benchmarks/trial_throughput.py [--config configs/nni/demo_h743.yml] [--batches 1 50] [--concurrency 2]

Runs real experiments of one random generation each with the config's trained super-network. Counted from the end of the
first round of trials to the last result, so that NNI's own start, some ten seconds, is in neither figure.
"""

import argparse
import tempfile
import time
from pathlib import Path

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.search.nni.experiment_file import load_config
from nni_mcunet.search.nni.launch import Experiment
from nni_mcunet.search.run.history import read_history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/nni/demo_h743.yml")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 50], help="candidates a trial")
    parser.add_argument("--concurrency", type=int, default=2, help="trials at once")
    args = parser.parse_args()
    print("| candidates a trial | trials at once | candidates | seconds | candidates a minute |\n|---|---|---|---|---|")
    for batch in args.batches:
        counted, seconds = measure(args.config, batch, args.concurrency)
        print(
            f"| {batch} | {args.concurrency} | {counted} | {seconds:.1f} | {60 * counted / seconds:.0f} |", flush=True
        )


def measure(path: str, batch: int, concurrency: int) -> tuple[int, float]:
    """Candidates that were evaluated after the first round, and the seconds that took."""
    total = batch * max(2 * concurrency, 12 // batch)
    with tempfile.TemporaryDirectory() as folder:
        config, out = load_config(path), Path(folder) / "out"
        changes = {"population": total, "iterations": 0, "batch": batch, "out": str(out)}
        config["tuner"]["classArgs"] |= changes
        config |= {"experimentWorkingDirectory": str(Path(folder) / "nni"), "trialConcurrency": concurrency}
        first = None
        with Experiment(config, out) as experiment:
            while experiment.status() != "ERROR":
                told = sum(p["told"] for p in read_history(out))
                if told >= batch * concurrency and first is None:
                    first = told, time.monotonic()
                if told == total:
                    return told - first[0], time.monotonic() - first[1]
                time.sleep(0.1)
    raise RuntimeError("the experiment broke down")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
