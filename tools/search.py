"""Search a network with NNI.

  run     check everything, run an NNI experiment to its end, stop it. Writes to --out: best.json (architecture and
          schedule), best.pth (its slice of the super-network), history.jsonl (a line a candidate) and the report's
          pictures. Until all are there they lie in --out/running, and those of the last search stay
  resume  go on where a search was killed or has failed, whatever of it (NNI's manager, the tuner, this program), and
          end as `run` does; also for an experiment begun by hand with nnictl
  export  the best network once more, or the Pareto front, from the folder of a search's results
  report  pictures: search.png (the curve), pareto.png (accuracy against SRAM and MACs), winner.png (block by block)

Exit codes: 0 done, 1 the experiment broke down, 2 something in the config is wrong.
"""

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import torch

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.validate import short
from nni_mcunet.search.experiment import prepare, replacing, search_config
from nni_mcunet.search.export import check_supernet, export_best, export_pareto, finish
from nni_mcunet.search.history import read_history
from nni_mcunet.search.launch import Experiment, ExperimentFailed, find, take, watch
from nni_mcunet.search.report import report as write_report
from nni_mcunet.search.space import load_space
from nni_mcunet.search.state import read_settings


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a number from 1 to 65535")
    return int(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="run|resume|export|report")
    run_, resume_ = commands.add_parser("run"), commands.add_parser("resume")
    run_.add_argument("--config", default="configs/nni/demo_h743.yml", help="NNI experiment's YAML (%(default)s)")
    run_.add_argument("--supernet", help="checkpoint, instead of the config's")
    run_.add_argument("--out", help="folder of the results, instead of the config's")
    run_.add_argument("--seed", type=int, help="of the evolution, instead of the config's")
    run_.add_argument("--discard", action="store_true", help="stop and forget an unfinished search in --out")
    which = resume_.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="NNI's name of the experiment")
    which.add_argument("--out", type=Path, help="or the folder of its results")
    for command, function in ((run_, run), (resume_, resume)):
        command.set_defaults(function=function)
        command.add_argument("--port", type=port, help="of NNI's web server on 127.0.0.1 (default: any free one)")
        command.add_argument("--timeout", type=float, default=7 * 86400, help="seconds until it is given up")
    for name, function in (("export", export), ("report", report)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--out", type=Path, required=True, help="folder of a search's results")
        if name == "export":
            command.add_argument("--pareto", action="store_true", help="the front of accuracy against SRAM and MACs")
    return parser.parse_args()


def run(args) -> None:
    given = {"supernet": args.supernet, "out": args.out}
    overrides = {key: value and str(Path(value).resolve()) for key, value in given.items() if value is not None}
    overrides |= {} if args.seed is None else {"seed": args.seed}
    config, search, evolution = prepare(args.config, overrides)
    check_supernet(search, here=config["trainingService"]["platform"] == "local")
    print(f"space {search.space}: {evolution.space.size:.2g} networks; {search.board}, {search.trials} trials")
    out = Path(search.out)
    take(out, discard=args.discard)
    with replacing(out) as fresh:
        config["tuner"]["classArgs"] |= {"supernet": search.supernet, "out": str(fresh)}
        watch(Experiment(config, fresh, args.port), search, args.timeout)
        summary = finish(replace(search, out=str(fresh)), fresh)
    print(f"{summary}\nwrote {out}/best.json, best.pth, history.jsonl, search.png, pareto.png, winner.png")


def resume(args) -> None:
    id, config, folder = find(args.id, args.out and args.out.resolve())
    out = folder.parent if folder.name == "running" else folder
    search = search_config(config)
    check_supernet(search, here=config["trainingService"]["platform"] == "local")
    search = replace(search, out=str(folder))
    take(out, resume=True)
    with replacing(out, resume=True) if out != folder else contextlib.nullcontext():
        print(f"going on after {sum(p['told'] for p in read_history(folder))} candidates")
        watch(Experiment(config, folder, args.port, id), search, args.timeout)
        summary = finish(search, folder)
    print(f"{summary}\nwrote {out}/best.json, best.pth, history.jsonl, search.png, pareto.png, winner.png")


def export(args) -> None:
    search = read_settings(args.out)
    if args.pareto:
        print(f"wrote {len(export_pareto(search, args.out))} networks to {args.out}/pareto, and pareto.json")
    else:
        export_best(search, args.out)
        print(f"wrote {args.out}/best.json, best.pth")


def report(args) -> None:
    summary = write_report(load_space(read_settings(args.out).space), read_history(args.out), args.out)
    print(f"{summary}\nwrote {args.out}/search.png, pareto.png, winner.png")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the winner's slice alone is computed here
    args = arguments()
    with exit_on_user_error():
        try:
            args.function(args)
        except ExperimentFailed as error:
            sys.exit(f"error: {error}\n`tools/search.py resume` goes on where this has ended")
