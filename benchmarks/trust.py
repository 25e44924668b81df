"""Run the proofs and write their counts, each with its command, into docs/results/trust.json.

python benchmarks/trust.py                      all five, 80 minutes on two cores
python benchmarks/trust.py prove kills          two of them; the counts of the others stay
python benchmarks/trust.py --read out/trust     run nothing: take NAME.json of each from this folder, as --json wrote it
"""

import argparse
from pathlib import Path

from readme import ROOT, python

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.validate import read_json

COMMANDS = {
    "prove": "tests/prove.py --cases 1000",
    "mutants": "tests/mutants.py",
    "fuzz": "tests/fuzz.py --cases 5000",
    "fuzz_tflite": "tests/fuzz.py --cases 5000 --format tflite",
    "kills": "tests/kills.py --kills 50",
}
RESULT = ROOT / "docs/results/trust.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(COMMANDS)} (default: all)")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="of counts that are there already")
    args = parser.parse_args()
    if unknown := set(args.names) - COMMANDS.keys():
        raise UserError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(COMMANDS)}")
    folder, found = args.read or ROOT / "out/trust", read_json(RESULT) if RESULT.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or COMMANDS:
        path = folder / f"{name}.json"
        if not args.read:
            python(*COMMANDS[name].split(), "--json", path)
        found[name] = {"command": f"python {COMMANDS[name]}"} | read_json(path)
    write_json(RESULT, {name: found[name] for name in COMMANDS if name in found})


if __name__ == "__main__":
    with exit_on_user_error():
        main()
