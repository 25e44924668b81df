"""Search a network with NNI: python tools/search.py [--config configs/nni/demo_h743.yml] [--out out/search/demo_h743]

Checks everything, runs `nnictl create`, waits for the end, stops it. Writes to --out: best.json (architecture and
schedule), best.pth (its slice of the super-network), history.jsonl (a line a candidate), search.png. Until all are
there they lie in --out/running, and those of the last search stay. Exit codes: 0 done, 1 the experiment broke down,
2 something in the config is wrong.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.search.experiment import (
    Experiment,
    ExperimentFailed,
    load_config,
    replacing,
    search_config,
    search_space,
)
from nni_mcunet.search.export import best_of, check_same_space, export_best, plot_curve, read_history
from nni_mcunet.search.space import load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/nni/demo_h743.yml", help="NNI experiment")
    parser.add_argument("--supernet", help="checkpoint, instead of the config's")
    parser.add_argument("--out", help="folder of the results, instead of the config's")
    parser.add_argument("--seed", type=int, help="of the evolution, instead of the config's")
    parser.add_argument("--port", type=int, help="of NNI's web server on 127.0.0.1 (default: any free one)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds before the search is given up")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the winner's slice alone is computed here

    config = load_config(args.config)
    given = {"supernet": args.supernet, "out": args.out}
    overrides = {key: str(Path(value).resolve()) for key, value in given.items() if value is not None}
    if args.seed is not None:
        overrides["seed"] = args.seed
    config["tuner"]["classArgs"] = (config["tuner"].get("classArgs") or {}) | overrides
    search = search_config(config)
    evolution = search.evolution(search_space(config))
    check_same_space(load_space(search.space), search.supernet)
    evolution.ask()  # an infeasible limit is said here, before anything is started
    print(f"space {search.space}: {evolution.space.size:.2g} networks; {search.board}, {search.trials} trials")

    out = Path(search.out)
    with replacing(out) as fresh:
        run(config, replace(search, out=str(fresh)), fresh, args)
        history = read_history(fresh)
        best, spec = best_of(history), export_best(search, fresh)
        plot_curve(history, fresh / "search.png")
    print(
        f"best of {len(history)}: accuracy {best['score']:.3f}, r {spec.resolution[0]}, {best['macs'] / 1e6:.1f} "
        f"million MACs, {best['sram'] / 1024:.1f} kB SRAM, {best['p'][0]}x{best['p'][1]} patches\n"
        f"wrote {out}/best.json, best.pth, history.jsonl, search.png"
    )


def run(config: dict, search, out: Path, args) -> None:
    """The experiment, with a progress bar of its candidates."""
    config["tuner"]["classArgs"] |= {"supernet": search.supernet, "out": search.out}
    with Experiment(config, out, args.port) as experiment:
        print(f"NNI experiment {experiment.id}: http://127.0.0.1:{experiment.port}")
        total = search.population * (1 + search.iterations)
        with tqdm(total=total, unit="net") as bar:

            def finished() -> bool:
                told = sum(p["told"] for p in read_history(out))
                bar.update(told - bar.n)
                return (out / "done.json").exists()

            experiment.wait(finished, args.timeout)
            finished()


if __name__ == "__main__":
    with exit_on_user_error():
        try:
            main()
        except ExperimentFailed as error:
            sys.exit(f"error: {error}")
