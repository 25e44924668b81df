"""How many random networks the limits of an experiment refuse for each that they accept, and how long the first
generation takes to find on one core.

    python benchmarks/first_generation.py [configs/nni/imagenet_f412.yml ...]     (default: all of the paper's)
"""

import sys
import time
from collections import Counter
from pathlib import Path

from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Violation
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.nni.experiment_file import load_config

CONFIGS = Path(__file__).parents[1] / "configs" / "nni"


def measure(path: Path) -> str:
    """A row of the table."""
    config = load_config(path)
    search = SearchConfig.from_dict(config["tuner"]["classArgs"], config["trialCodeDirectory"])
    space, limits, verdicts = search.evolution().space, search.limits(), Counter()

    def check(spec):
        verdict = limits.check(spec)
        verdicts[verdict.what if isinstance(verdict, Violation) else "fits"] += 1
        return verdict

    begin = time.perf_counter()
    evolution = Evolution(space, check, search.seed, search.population)
    evolution.ask()
    seconds, found = time.perf_counter() - begin, evolution.proposals
    patched = sum(p.n > 0 for p in found) / len(found)
    refused = ", ".join(f"{what} {count:,}" for what, count in verdicts.most_common() if what != "fits") or "none"
    return (
        f"| {path.stem} | {space.size:.1e} | {len(found)} | {verdicts.total() / len(found):.1f} | {refused} | "
        f"{patched:.0%} | {seconds:.1f} |"
    )


def main():
    given = [Path(arg) for arg in sys.argv[1:]]
    print("| experiment | space | first generation | networks drawn for each | refused for | patched | seconds |")
    print("|---|---|---|---|---|---|---|")
    for path in given or sorted([*CONFIGS.glob("imagenet_*.yml"), *CONFIGS.glob("vww_*.yml")]):
        print(measure(path), flush=True)


if __name__ == "__main__":
    main()
