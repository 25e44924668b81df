"""Do what `mcunet search` is told: run, resume, export, rescore, report. No command: search.py reads their words."""

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path

from ..core.types import PlainDict
from ..core.validate import counted, read_yaml
from ..search.commands import to_board
from ..search.config import SearchConfig, search_config
from ..search.nni.experiment_file import prepare
from ..search.nni.launch import Experiment, find, prolong, take, watch
from ..search.nni.ports import check_port
from ..search.nni.trouble import trial_times
from ..search.run.export import check_supernet, export_best, export_pareto, finish
from ..search.run.history import read_history
from ..search.run.page import check_page, search_page
from ..search.run.report import report as write_report
from ..search.run.report import write_markdown
from ..search.run.rescore import rescore as score_again
from ..search.run.rescored import table
from ..search.run.result_folder import replacing
from ..search.run.run_folder import experiment_id, read_settings
from ..search.space import load_space

WRITTEN = "best.json, best.pth, history.jsonl, report.md, search.png, pareto.png, winner.png"


def run(args: argparse.Namespace) -> None:
    """Search from the beginning."""
    given = {"supernet": args.supernet, "out": args.out}
    overrides = {key: value and str(Path(value).resolve()) for key, value in given.items() if value is not None}
    overrides |= {} if args.seed is None else {"seed": args.seed}
    config, search, evolution = prepare(args.config, overrides)
    check_ports(args, config)
    check_supernet(search, here=config["trainingService"]["platform"] == "local")
    print(
        f"space {search.space}: {evolution.space.size:.2g} networks; {', '.join((search.board, *search.boards))}, "
        f"{search.population * (1 + search.iterations):,} candidates in {search.trials} trials or more"
    )
    out = Path(search.out)
    take(out, aside=args.discard)
    with replacing(out) as fresh:
        config["tuner"]["classArgs"] |= {"supernet": search.supernet, "out": str(fresh)}
        summary = go(args, Experiment(config, fresh, args.port), replace(search, out=str(fresh)))
    print(f"{summary}\nwrote {out}/{WRITTEN}\n{following(search, out)}")


def resume(args: argparse.Namespace) -> None:
    """Go on with a search."""
    id, config, folder = find(args.id, args.out and args.out.resolve())
    out = folder.parent if folder.name == "running" else folder
    search = search_config(config)
    check_ports(args, config)
    check_supernet(search, here=config["trainingService"]["platform"] == "local")
    take(out, resume=True)
    config = prolong(config, id, folder, args.duration)
    with replacing(out, resume=True) if out != folder else contextlib.nullcontext():
        print(f"going on after {sum(p['told'] for p in read_history(folder))} candidates")
        summary = go(args, Experiment(config, folder, args.port, id), replace(search, out=str(folder)))
    print(f"{summary}\nwrote {out}/{WRITTEN}\n{following(search, out)}")


def check_ports(args: argparse.Namespace, config: PlainDict) -> None:
    """Raise PortError where NNI's server cannot have the port that is asked for."""
    if args.port is not None:
        check_port(args.port, config["trainingService"]["platform"])


def go(args: argparse.Namespace, experiment: Experiment, search: SearchConfig) -> str:
    """Watch the experiment to its end and write the results. Returns the summary."""
    watch(experiment, search, args.timeout, args.silence)
    return finish(search, experiment.folder)


def export(args: argparse.Namespace) -> None:
    """Write the best network, or the front."""
    search = read_settings(args.out)
    if args.pareto:
        front = export_pareto(search, args.out)
        print(f"wrote {counted(len(front), 'network')} to {args.out}/pareto, and pareto.json")
    else:
        export_best(search, args.out)
        print(f"wrote {args.out}/best.json, best.pth\n{following(search, args.out)}")


def rescore(args: argparse.Namespace) -> None:
    """Score the best networks again."""
    found = score_again(read_settings(args.out), args.out, args.best, args.draws)
    print(f"{table(found)}\nwrote {args.out}/rescored.json, chosen.json, chosen.pth; `report` tells it, too")


def report(args: argparse.Namespace) -> None:
    """Draw the pictures of a search."""
    settings, history = read_settings(args.out), read_history(args.out)
    space = load_space(settings.space)
    if args.html:
        check_page(args.out)
    summary = write_report(space, history, args.out)
    write_markdown(settings, space, history, args.out, summary)
    print(f"{summary}\nwrote {args.out}/report.md, search.png, pareto.png, winner.png")
    if args.html:
        print(f"wrote {search_page(settings, space, history, times(args.out), args.out)}")
    print(following(settings, args.out))


def following(search: SearchConfig, out: Path) -> str:
    """Return the lines on how the winner goes on to its board."""
    return "\n".join(["from the winner to the board:", *(f"  {line}" for line in to_board(search, out))])


def times(out: Path) -> list[PlainDict] | str:
    """Return when each trial of the search in `out` ran, or why that is not known."""
    path = out / "experiment.yml"
    if not path.is_file():
        return "Not known: the search was not run by mcunet search, which leaves experiment.yml."
    folder, id = read_yaml(path).get("experimentWorkingDirectory"), experiment_id(out / "search.json")
    found = trial_times(folder, id) if isinstance(folder, str) else []
    return found or f"Not known: NNI's record of the experiment {id} is not in {folder} any more."
