"""Export the best architecture of a search, or the whole Pareto front, with schedules and weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from ...core.errors import UserError
from ...core.files import write_atomic, write_json
from ...core.ir.arch import ArchSpec
from ...core.ir.build import build_graph
from ...core.nn.net import Net
from ...core.types import PlainDict
from ...core.validate import read_json
from ..commands import check_trained
from ..config import SearchConfig
from ..data import DataError, open_data, view_of
from ..space import load_space
from ..supernet.training import load_supernet, specialise, to_device, weights_file
from .front import front_of
from .history import best_of, read_history, schedule_of
from .report import report, write_markdown
from .result_folder import set_front_aside
from .run_folder import check_weights


def finish(config: SearchConfig, out: Path) -> str:
    """Write best.pth and the report of a search that has ended. Returns a line or two about it. Weights are
    re-calibrated on the data; with trials on other machines the data may not be on this one, and then only the
    report is written."""
    space, history = load_space(config.space), read_history(out)
    summary = report(space, history, out)
    write_markdown(config, space, history, out, summary)
    try:
        export_best(config, out)
    except DataError as error:
        _best(config, out).save(out / "best.json")
        summary += f"\nno best.pth, it needs the data ({error}): `mcunet search export` writes it where they are"
    return summary


def _best(config: SearchConfig, out: Path) -> ArchSpec:
    """Return the best architecture with the view it was judged by, which the tuner does not say."""
    line = best_of(read_history(out))
    spec = load_space(config.space).spec(line["candidate"], schedule_of(line))
    return replace(spec, view=view_of(config.data))


def export_best(config: SearchConfig, out: Path) -> ArchSpec:
    """Write out/best.json, an ArchSpec with its (p, n) and view, and out/best.pth: the state dict of core's Net of it,
    and on which pictures it was trained, see weights_file."""
    return Exporter(config, out).write(best_of(read_history(out)), Path(out) / "best")


def export_pareto(config: SearchConfig, out: Path) -> list[ArchSpec]:
    """Write out/pareto/NN.json and NN.pth for every network of the front, see front_of: of accuracy, SRAM and MACs, the
    least SRAM first, of the search's objectives, or the best of each board. Write out/pareto.json, their lines of the
    history in that order, which is there only when all its networks are. An earlier export is replaced once all is
    written; networks of another front, which may have been fine-tuned, move to out/pareto.1."""
    out = Path(out)
    front = front_of(config, load_space(config.space), read_history(out))
    exporter, fresh = Exporter(config, out), out / ".pareto"
    shutil.rmtree(fresh, ignore_errors=True)
    specs = [exporter.write(line, fresh / f"{at:02d}") for at, line in enumerate(front)]
    listed = out / "pareto.json"
    if not listed.exists() or read_json(listed) != json.loads(json.dumps(front)):
        set_front_aside(out)
    listed.unlink(missing_ok=True)
    (out / "pareto").mkdir(exist_ok=True)
    for path in fresh.iterdir():
        path.replace(out / "pareto" / path.name)
    fresh.rmdir()
    write_json(listed, front)
    return specs


class Exporter:
    """Hold the super-network of a search and the pictures its slices are re-calibrated on, loaded once."""

    def __init__(self, config: SearchConfig, out: Path):
        self.data = open_data(config.data)
        self.space, supernet = load_supernet(config.supernet, self.data)
        check_weights(config, out)
        self.supernet = to_device(supernet)

    def write(self, line: PlainDict, path: Path) -> ArchSpec:
        """Write path.json and path.pth of a line of the history."""
        spec = replace(self.space.spec(line["candidate"], schedule_of(line)), view=self.data.view)
        wanted = Net(build_graph(spec, self.data.task.head)).state_dict()  # without a classifier that only judged it
        state = specialise(self.space, self.supernet, line["candidate"], self.data).state_dict()
        state = {key: tensor for key, tensor in state.items() if key in wanted}
        write_atomic(path.with_suffix(".pth"), weights_file(state, self.data))
        spec.save(path.with_suffix(".json"))
        return spec


def check_supernet(config: SearchConfig, here: bool) -> None:
    """Raise UserError unless the super-network was trained for the search's space, on its data's training pictures and
    classes, and the detector that the data judge is the one that is counted. here: the data are on this machine, not
    only on those of the trials."""
    check_trained(config)
    space, data = load_space(config.space), open_data(config.data) if here else None
    trained, _ = load_supernet(config.supernet, data)
    if trained != space:
        raise UserError(
            f"{config.supernet} was trained for space {trained.name} as it was then, not this {space.name}: train again"
        )
    counted = config.limits().yolo
    if data and data.task.head not in (None, counted):
        raise UserError(f"detector is {counted}, and the data's config describes {data.task.head}: give both the same")
