"""Search a network with NNI.

  run     check everything, run an NNI experiment to its end, stop it. Writes to --out: best.json (architecture and
          schedule), best.pth (its slice of the super-network), history.jsonl (a line a candidate) and the report's
          pictures. Until all are there they lie in --out/running; then the last search there moves to --out/previous
  resume  go on where a search was killed, cut short or has failed, whether NNI's manager, the tuner or this program
          died, and end as `run` does; also for an experiment begun by hand with nnictl
  export  the best network once more, or the Pareto front, from the folder of a search's results
  rescore score the best networks again with several draws of the re-calibration's pictures: rescored.json, and the
          cheapest of those that are as good as the best, chosen.json and chosen.pth
  report  pictures: search.png (the curve), pareto.png (accuracy against SRAM and MACs), winner.png (block by block);
          report.md with what the best gained from patches: the same layer by layer, what fits without them, the MACs;
          with --html also search.html, a page of all of it that needs no network

Exit codes: 0 done, 1 the experiment broke down or was cut short, 2 something in the config is wrong, 128 and more a
signal. NNI is stopped in each case.
"""

import argparse
from pathlib import Path

from ..search.nni.trouble import duration
from .argument_types import seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="verb", required=True, metavar="run|resume|export|rescore|report")
    run_ = commands.add_parser("run", help="search from the beginning")
    resume_ = commands.add_parser("resume", help="go on with a search")
    run_.add_argument("--config", default="configs/nni/demo_h743.yml", help="NNI experiment's YAML (%(default)s)")
    run_.add_argument("--supernet", help="checkpoint, instead of the config's")
    run_.add_argument("--out", help="folder of the results, instead of the config's")
    run_.add_argument("--seed", type=int, help="of the evolution, instead of the config's")
    run_.add_argument("--discard", action="store_true", help="stop an unfinished search in --out, move it to previous")
    which = resume_.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="the id that NNI gave the experiment")
    which.add_argument("--out", type=Path, help="the folder of its results, instead of its id")
    resume_.add_argument("--duration", type=duration, help="maxExperimentDuration from now on, its past included: 90m")
    for command in (run_, resume_):
        command.add_argument("--port", type=int, help="of NNI's web server on 127.0.0.1 (default: any free one)")
        command.add_argument(
            "--timeout",
            type=seconds,
            default=7 * 86400,
            help="stop the search after so many seconds (default 604800, a week)",
        )
        command.add_argument("--silence", type=seconds, default=900, help="seconds until a silent trial is named (900)")
    for name, what in (
        ("export", "write the best network, or the front"),
        ("rescore", "score the best again, to see what is noise"),
        ("report", "draw the pictures, say what patches gained"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--out", type=Path, required=True, help="folder of a search's results")
        if name == "report":
            command.add_argument("--html", action="store_true", help="write search.html, too")
        if name == "export":
            command.add_argument("--pareto", action="store_true", help="every network of the front, not only the best")
        if name == "rescore":
            command.add_argument("--best", type=int, default=10, help="so many networks (default 10)")
            command.add_argument("--draws", type=int, default=5, help="so often each (default 5)")


def main(args: argparse.Namespace) -> None:
    from ..search.nni.launch import exit_on_failure
    from . import search_verbs

    with exit_on_failure():
        getattr(search_verbs, args.verb)(args)
