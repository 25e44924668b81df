"""Draw the learning curve of a training run, from the scalars that mmengine has written beside its log."""

import re
from pathlib import Path

from matplotlib.figure import Figure

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_figure
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import file_text, parse_json_lines, short

TIMES = {"lr", "base_lr", "data_time", "time", "memory", "grad_norm", "epoch", "iter", "step"}


def scalars(work_dir: FilePath) -> tuple[list[PlainDict], list[PlainDict]]:
    """Return (training rows, evaluation rows) of all runs below a work dir, a resumed one continuing the one before.
    Raises UserError where there are none."""
    rows: list[PlainDict] = []
    files = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    for file in files:
        found = _rows(file)
        begins = min((row["epoch"] for row in found if "epoch" in row), default=None)
        # what a killed run did after the checkpoint that this one goes on from was done again
        rows = [row for row in rows if begins is None or row.get("epoch", row["step"]) < begins] + found
    if not rows:
        raise UserError(f"{work_dir}: no */vis_data/scalars.json; give the work dir of a training run")
    return [row for row in rows if "epoch" in row], [row for row in rows if "epoch" not in row]


def _rows(file: Path) -> list[PlainDict]:
    text = re.sub(r": -?(NaN|Infinity)\b", ": null", file_text(file))  # a training that diverged: a gap in the curve
    found = parse_json_lines(text, file)
    for row in found:
        if not isinstance(row, dict) or not all(type(row.get(key, 1)) in (int, float) for key in ("epoch", "step")):
            raise UserError(f"{file}: {short(row)} is no row of scalars, as mmengine writes them")
    return found


def draw_curve(work_dir: FilePath, path: FilePath, title: str = "") -> None:
    """Draw a PNG of the loss and its parts, and of the metrics at each evaluation, over the epochs. Raises
    UserError."""
    training, evaluations = scalars(work_dir)
    steps = max((row["step"] for row in training), default=1)
    per_epoch = steps / max((row["epoch"] for row in training), default=1)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(key for row in training for key in row if key not in TIMES):
        points = [(row["step"] / per_epoch, row[name]) for row in training if name in row]
        left.plot(*zip(*points, strict=True), label=name, lw=2 if name == "loss" else 1)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for name in dict.fromkeys(key for row in evaluations for key in row if key not in TIMES):
        points = [(row["step"], row[name]) for row in evaluations if name in row]
        right.plot(*zip(*points, strict=True), marker="o", ms=3, label=name)
    right.set(xlabel="epoch", ylabel="evaluation", ylim=(0, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
    figure.suptitle(title, x=0.01, ha="left")
    write_figure(figure, path, dpi=130)
