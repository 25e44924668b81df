"""Search a network with NNI.

  run     check everything, run an NNI experiment to its end, stop it. Writes to --out: best.json (architecture and
          schedule), best.pth (its slice of the super-network), history.jsonl (a line a candidate) and the report's
          pictures. Until all are there they lie in --out/running; then the last search there moves to --out/previous
  resume  go on where a search was killed, cut short or has failed, whatever of it (NNI's manager, the tuner, this
          program), and end as `run` does; also for an experiment begun by hand with nnictl
  export  the best network once more, or the Pareto front, from the folder of a search's results
  report  pictures: search.png (the curve), pareto.png (accuracy against SRAM and MACs), winner.png (block by block)

Exit codes: 0 done, 1 the experiment broke down or was cut short, 2 something in the config is wrong, 128 and more a
signal. NNI is stopped in each case.
"""

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path

import torch

from ..search.config import search_config
from ..search.nni.experiment_file import prepare
from ..search.nni.launch import Experiment, exit_on_failure, find, prolong, take, watch
from ..search.nni.ports import check_port
from ..search.nni.trouble import duration
from ..search.run.export import check_supernet, export_best, export_pareto, finish
from ..search.run.history import read_history
from ..search.run.report import report as write_report
from ..search.run.result_folder import replacing
from ..search.run.run_folder import read_settings
from ..search.space import load_space

WRITTEN = "best.json, best.pth, history.jsonl, search.png, pareto.png, winner.png"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="run|resume|export|report")
    run_, resume_ = commands.add_parser("run"), commands.add_parser("resume")
    run_.add_argument("--config", default="configs/nni/demo_h743.yml", help="NNI experiment's YAML (%(default)s)")
    run_.add_argument("--supernet", help="checkpoint, instead of the config's")
    run_.add_argument("--out", help="folder of the results, instead of the config's")
    run_.add_argument("--seed", type=int, help="of the evolution, instead of the config's")
    run_.add_argument("--discard", action="store_true", help="stop an unfinished search in --out, move it to previous")
    which = resume_.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="NNI's name of the experiment")
    which.add_argument("--out", type=Path, help="or the folder of its results")
    resume_.add_argument("--duration", type=duration, help="maxExperimentDuration from now on, its past included: 90m")
    for command, function in ((run_, run), (resume_, resume)):
        command.set_defaults(function=function)
        command.add_argument("--port", type=int, help="of NNI's web server on 127.0.0.1 (default: any free one)")
        command.add_argument("--timeout", type=float, default=7 * 86400, help="seconds until it is given up")
        command.add_argument("--silence", type=float, default=900, help="seconds until a silent trial is named (900)")
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
    take(out, aside=args.discard)
    with replacing(out) as fresh:
        config["tuner"]["classArgs"] |= {"supernet": search.supernet, "out": str(fresh)}
        summary = go(args, Experiment(config, fresh, args.port), replace(search, out=str(fresh)))
    print(f"{summary}\nwrote {out}/{WRITTEN}")


def resume(args) -> None:
    id, config, folder = find(args.id, args.out and args.out.resolve())
    out = folder.parent if folder.name == "running" else folder
    search = search_config(config)
    check_supernet(search, here=config["trainingService"]["platform"] == "local")
    take(out, resume=True)
    config = prolong(config, id, folder, args.duration)
    with replacing(out, resume=True) if out != folder else contextlib.nullcontext():
        print(f"going on after {sum(p['told'] for p in read_history(folder))} candidates")
        summary = go(args, Experiment(config, folder, args.port, id), replace(search, out=str(folder)))
    print(f"{summary}\nwrote {out}/{WRITTEN}")


def go(args, experiment: Experiment, search) -> str:
    if args.port is not None:
        check_port(args.port, experiment.config["trainingService"]["platform"])
    watch(experiment, search, args.timeout, args.silence)
    return finish(search, experiment.folder)


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


def main() -> None:
    torch.set_num_threads(1)  # the winner's slice alone is computed here
    args = arguments()
    with exit_on_failure():
        args.function(args)
