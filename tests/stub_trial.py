"""A trial that costs nothing: scores are drawn from a hash of the candidate. `python stub_trial.py FOLDER`

It writes what it was given to FOLDER/ran/<trial id>.json. While FOLDER/hold exists, trials after the first `int(hold)`
wait, each with its process id in FOLDER/waiting/<pid>: the moment at which a test kills something.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import nni


def score(candidate: dict) -> float:
    digest = hashlib.sha256(json.dumps(candidate, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**32


def main(folder: Path) -> None:
    if int(os.environ["NNI_TRIAL_SEQ_ID"]) % 2 == 0:
        time.sleep(float(os.environ.get("STUB_DELAY", "0")))  # the odd ones ask before
    parameters = nni.get_next_parameter()
    hold, ran = folder / "hold", folder / "ran"
    if hold.exists() and len(list(ran.iterdir())) >= int(hold.read_text()):
        (folder / "waiting" / str(os.getpid())).touch()
        while hold.exists():
            time.sleep(0.05)
    scores = [score(entry["candidate"]) for entry in parameters["candidates"]]
    nni.report_final_result({"default": max(scores)} | {f"c{i}": value for i, value in enumerate(scores)})
    (ran / f"{os.environ['NNI_TRIAL_JOB_ID']}.json").write_text(json.dumps(parameters))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
