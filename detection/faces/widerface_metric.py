"""Offer WIDER FACE's evaluation (widerface.py) as a metric of mmengine, with its report and pictures of the curves.

`val_evaluator = dict(type='WIDERFaceMetric', ground_truth='.../ground_truth')` on WIDERFaceText or mmdet's data set.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.file_sets import named_folder
from nni_mcunet.core.files import write_atomic, write_figure, write_json
from nni_mcunet.core.outputs import check_own_report
from nni_mcunet.core.types import FilePath, Plain, PlainDict

from ..said import tell
from .widerface import FEW, SETTINGS, Key, Matches, curve, event_report, few_faces, match, read_truth, write_results
from .widerface import summary as ap_summary

EVENTS = "events.md"
HEAD = f"| {' | '.join(['event', 'images', *SETTINGS])} |"  # its first line


@METRICS.register_module()
class WIDERFaceMetric(BaseMetric):
    """Measure the AP of easy, medium, hard and the same over pictures of at most 3 faces (easy_few, ...: our reading of
    the paper's "<= 3 faces"). Only the pictures that were seen count; the log says how many of the set that is.

    ground_truth  folder of wider_{easy,medium,hard}_val.mat, or the one above their ground_truth/
    out_dir       where to write results/EVENT/NAME.txt, events.json, events.md and pr_SETTING.png; None: nowhere
    face_label    the detector's class that is the face

    Raises UserError where out_dir holds one of these that no earlier report of this metric has left.
    """

    default_prefix = "widerface"

    def __init__(
        self, ground_truth: FilePath, out_dir: FilePath | None = None, face_label: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.truth = read_truth(ground_truth)
        self.out_dir = None if out_dir is None else named_folder(str(out_dir))
        if self.out_dir is not None:
            names = ["results", "events.json", EVENTS, *(f"pr_{setting}.png" for setting in SETTINGS)]
            check_own_report(self.out_dir, names, EVENTS, HEAD)
        self.face_label = face_label

    def process(self, data_batch: Plain, data_samples: Sequence[PlainDict]) -> None:
        """Note the faces of each sample. Raises UserError for a picture that is not in the ground truth."""
        for sample in data_samples:
            found = sample["pred_instances"]
            faces = found["labels"] == self.face_label
            boxes = found["bboxes"][faces].cpu().numpy().astype(np.float32)
            scores = found["scores"][faces].cpu().numpy().astype(np.float32)
            sizes = boxes[:, 2:] - boxes[:, :2]
            self.results.append((self._key(sample["img_path"]), np.hstack([boxes[:, :2], sizes, scores[:, None]])))

    def _key(self, path: FilePath) -> Key:
        path = Path(path)
        key = path.parent.name, path.stem
        if key not in self.truth:
            raise UserError(f"{path} is not in the ground truth: expected EVENT/NAME.jpg of the validation set")
        return key

    def compute_metrics(self, results: list[tuple[Key, np.ndarray]]) -> dict[str, float]:
        """Return the APs, and write the report where there is an out_dir. Raises UserError."""
        found = dict(results)
        for key, rows in found.items():
            if not np.isfinite(rows).all():
                raise UserError(f"{'/'.join(key)}: a box or score of the detector is not finite")
        matches = match(self.truth, found)
        text = f"{len(found)} of {len(self.truth)} pictures of WIDER FACE's validation set\n{report(matches)}"
        tell(text)
        if self.out_dir is not None:
            write_report(self.out_dir, matches)  # its table first: the folder is known to be ours from then on
            write_results(self.out_dir / "results", found)
        return ap_summary(matches)


def report(matches: Matches) -> str:
    """Write a table (Markdown): a row per event, then all pictures and those with few faces; AP in percent (kept
    faces)."""
    lines = [HEAD, "|---" * (2 + len(SETTINGS)) + "|"]
    for row in event_report(matches):
        lines.append(_line(row["event"], row["images"], [(row[s]["ap"], row[s]["faces"]) for s in SETTINGS]))
    few = few_faces(matches)
    for name, images in (("all", np.ones_like(few)), (f"at most {FEW} faces", few)):
        curves = [curve(matches, s, images) for s in SETTINGS]
        lines.append(_line(name, images.sum(), [(c.ap if c.faces else None, c.faces) for c in curves]))
    return "\n".join(lines)


def _line(name: str, images: int, cells: list[tuple[float | None, int]]) -> str:
    texts = ["-" if ap is None else f"{100 * ap:.2f} ({faces})" for ap, faces in cells]
    return f"| {name} | {images} | {' | '.join(texts)} |"


def write_report(folder: FilePath, matches: Matches) -> None:
    """Write events.json, events.md and pr_{easy,medium,hard}.png into `folder`."""
    folder = Path(folder)
    write_atomic(folder / EVENTS, report(matches) + "\n")
    write_json(folder / "events.json", event_report(matches))
    few = few_faces(matches)
    for setting in SETTINGS:
        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.subplots()
        for name, images in (("all images", None), (f"at most {FEW} faces", few)):
            line = curve(matches, setting, images)
            if line.faces:
                axes.plot(line.recall, line.precision, label=f"{name}: AP {100 * line.ap:.2f}, {line.faces} faces")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=f"WIDER FACE val, {setting}")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="lower left")
        write_figure(figure, folder / f"pr_{setting}.png", dpi=120)
