"""Count what a data set holds: pictures that are broken or unusual, boxes that cannot be right, classes and sizes.

`DataReportHook` puts a line per data set into mmengine's log before a run; mcunet check-data decodes everything and
prints the whole of it.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import FilterAnnotations
from mmdet.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.fileio import load
from mmengine.hooks import Hook
from mmengine.runner import Runner

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_figure
from nni_mcunet.core.progress import each
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import SHOWN, counted, short

from ..said import tell
from .coco_json import read_coco
from .datasets import annotations, leaves
from .pictures import inspect
from .voc_xml import read_annotation

Offenders = list[str]  # "path: what is wrong with it"


@dataclass
class Survey:
    """Hold the counts of one data set, before its filter. The lists name each offender.

    corrupt   pictures that cannot be decoded
    resized   pictures of another size than their annotation says: the boxes may be those of another picture
    outside   boxes that reach beyond their picture (by more than a pixel: VOC's corners count from 1)
    flat      boxes without width or height
    empty     pictures without an object of the data set's classes
    left_out  pictures that the data set's filter_cfg or indices take out
    unlisted  objects of classes that the data set does not list, by name: nothing learns or counts them
    """

    classes: list[str]
    pictures: int = 0
    left_out: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)
    drops_flat: bool = False
    kinds: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    corrupt: Offenders = field(default_factory=list)
    resized: Offenders = field(default_factory=list)
    outside: Offenders = field(default_factory=list)
    flat: Offenders = field(default_factory=list)
    empty: Offenders = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ignored: int = 0
    sizes: list[tuple[float, float]] = field(default_factory=list)

    def line(self) -> str:
        """Write one line for a log: what there is, and what is amiss with the first offender of each kind."""
        of = {"corrupt": self.corrupt, "not of the size annotated": self.resized}
        notes = [f"{len(found)} {name} (first: {found[0]})" for name, found in of.items() if found]
        if self.outside:
            notes.append(f"{counted(len(self.outside), 'box')} beyond the picture (first: {self.outside[0]})")
        if self.unlisted:
            counts = ", ".join(
                f"{name if len(name) <= SHOWN else short(name)} {count}" for name, count in self.unlisted.most_common()
            )
            notes.append(f"{counted(self.unlisted.total(), 'object')} of classes that are not listed: {counts}")
        if absent := [name for i, name in enumerate(self.classes) if i not in set(self.labels)]:
            notes.append(f"no object of {', '.join(absent)}")
        notes += [f"{count} {kind}" for kind, count in sorted(self.kinds.items()) if kind != "RGB"]
        notes += [f"{self.turned} turned by EXIF"] * bool(self.turned)
        notes += [f"{len(self.empty)} without objects"] * bool(self.empty)
        notes += [f"{counted(self.ignored, 'box')} ignored (difficult, crowd)"] * bool(self.ignored)
        notes += [f"{self.left_out} not used (filter_cfg, indices)"] * bool(self.left_out)
        if self.flat:
            fate = "dropped" if self.drops_flat else "kept"
            notes.append(f"{counted(len(self.flat), 'box')} without area ({fate})")
        said = f"{counted(self.pictures, 'picture')}, {counted(len(self.labels), 'box')}"
        return f"{said}: {', '.join(notes) or 'nothing amiss'}"

    @property
    def broken(self) -> Offenders:
        """List what has to be mended in the data."""
        return self.corrupt + self.resized + self.outside + self.flat


def survey(dataset: BaseDataset, decode: bool = False) -> Survey:
    """Count a data set that has no others in it. Its annotations are read again: what was filtered away counts, too."""
    found = Survey(list(dataset.metainfo["classes"]), drops_flat=_drops_flat(dataset))
    for info in each(annotations(dataset), "picture", f"looking at {dataset.ann_file}"):
        _add(found, info, decode)
        if "xml_path" in info:
            found.unlisted.update(read_annotation(Path(info["xml_path"]).read_bytes(), info["xml_path"]).names)
    if isinstance(dataset, CocoDataset):
        coco, found.drops_flat = read_coco(dataset.ann_file), True  # load_data_list has left these boxes out
        found.flat += coco.flat
        found.outside += coco.outside
        found.unlisted.update(_categories(dataset.ann_file))
    for name in found.classes:
        found.unlisted.pop(name, None)
    found.left_out = found.pictures - len(dataset)
    return found


def _add(found: Survey, info: PlainDict, decode: bool) -> None:
    path, size = info["img_path"], (info["width"], info["height"])
    picture = inspect(path, decode)
    found.pictures += 1
    found.turned += picture.turned
    if picture.fault:
        found.corrupt.append(f"{path}: {picture.fault}")
    else:
        found.kinds[picture.kind] += 1
        if picture.size != size:
            found.resized.append(f"{path}: {picture.size} pixels, annotated as {size}")
    if not info["instances"]:
        found.empty.append(path)
    for item in info["instances"]:
        x1, y1, x2, y2 = item["bbox"]
        found.labels.append(item["bbox_label"])
        found.ignored += item["ignore_flag"]
        if x2 <= x1 or y2 <= y1:
            found.flat.append(f"{path}: a box without area, {item['bbox']}")
            continue
        found.sizes.append((x2 - x1, y2 - y1))
        w, h = picture.size or size
        if min(x1, y1) < -1 or x2 > w or y2 > h:
            found.outside.append(f"{path}: {w}x{h} pixels, box {item['bbox']}")


def _categories(path: FilePath) -> Iterator[str]:
    """Yield the name of each annotation's category in COCO's JSON."""
    content = load(path, file_format="json")
    names = {category["id"]: category["name"] for category in content["categories"]}
    return (names.get(note["category_id"], f"category {note['category_id']}") for note in content["annotations"])


def _drops_flat(dataset: BaseDataset) -> bool:
    return any(isinstance(step, FilterAnnotations) for step in dataset.pipeline.transforms)


@HOOKS.register_module()
class DataReportHook(Hook):
    """Write a line per data set into the log before training and testing. A corrupt picture in a set to evaluate on is
    a UserError there, before hours of training end in it; in training LoadPicture passes over it."""

    def before_train(self, runner: Runner) -> None:
        """Report the training set and, where there is one, the validation set."""
        self._report("training", runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self._report("validation", runner.val_dataloader.dataset, whole=True)

    def before_test(self, runner: Runner) -> None:
        """Report the test set."""
        self._report("test", runner.test_dataloader.dataset, whole=True)

    def _report(self, name: str, dataset: BaseDataset, whole: bool = False) -> None:
        for part in leaves(dataset):
            found = survey(part)
            tell(f"{name} data {part.ann_file}: {found.line()}", _level(found))
            if whole and found.corrupt:
                raise UserError(
                    f"{name} data: {len(found.corrupt)} of {found.pictures} pictures are corrupt, the first is "
                    f"{found.corrupt[0]}; a metric over the rest would be another metric: replace them, or take them "
                    f"off {part.ann_file}"
                )


def _level(found: Survey) -> int:
    return logging.WARNING if found.broken or found.unlisted else logging.INFO


def box_report(found: Survey) -> str:
    """Write the objects per class, and quantiles of the boxes' sides in pixels."""
    counts = Counter(found.labels)
    lines = [f"  {name:<16}{counts[i]:>8,}" for i, name in enumerate(found.classes)]
    if found.sizes:
        sides = np.sort(np.array(found.sizes), axis=0)
        marks = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
        lines.append("  " + " " * 10 + "".join(f"{f'{m:.0%}':>8}" for m in marks))
        for name, side in zip(("width, px", "height, px"), np.quantile(sides, marks, axis=0).T, strict=True):
            lines.append(f"  {name:<10}" + "".join(f"{v:>8.0f}" for v in side))
    return "\n".join(lines)


def draw_sizes(surveys: dict[str, Survey], path: FilePath) -> None:
    """Draw a PNG: a point per box, width and height in pixels, a colour per data set."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for name, found in surveys.items():
        widths, heights = np.array(found.sizes).reshape(-1, 2).T
        axes.scatter(widths, heights, s=4, alpha=0.4, label=f"{name}: {len(found.sizes)} boxes")
    axes.set(xscale="log", yscale="log", xlabel="width (pixels)", ylabel="height (pixels)", title="box sizes")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    write_figure(figure, path, dpi=120)
