"""Draw what people would rather look at than read: memory per block, cycles per layer, values, boxes on a photograph.

Each function writes one PNG and returns its path, or returns its bytes. Nothing is measured or computed here beyond
what a drawing needs.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL.Image import Image

from ..core.files import write_figure
from ..core.plan.plan import Plan
from ..core.types import FilePath, Int8Map, Picture, PlainDict
from ..engine.model import QuantModel, Scale
from ..engine.quant.statistics import Histogram

Box = tuple[float, float, float, float, float, str]  # x1, y1, x2, y2 in the picture's pixels, score, class
KB = 1024
WHOLE, PATCHED, LIMIT = "#b8c0cc", "#2f6fb2", "#c0392b"


def save_figure(figure: Figure, path: FilePath) -> Path:
    """Write a figure to `path` and close it; return the path. Raises OSError where it cannot be written."""
    plt.close(figure)
    return write_figure(figure, path, dpi=140, bbox_inches="tight")


def memory_figure(whole: Plan, patched: Plan, limit: int | None, path: FilePath, title: str) -> Path:
    """Draw the bytes alive in each block, layer by layer and in patches, against `limit` bytes if given (the paper's
    Fig. 1)."""
    figure, axes = plt.subplots(figsize=(9, 3.6))
    before, after = whole.block_peaks(), patched.block_peaks()
    blocks = np.arange(len(before))
    axes.bar(blocks - 0.2, [before[b] / KB for b in before], 0.4, color=WHOLE, label="layer by layer")
    s = patched.schedule
    label = f"{s} ({patched.overhead:+.1%} MACs)" if s.n else "as run"
    axes.bar(blocks + 0.2, [after[b] / KB for b in after], 0.4, color=PATCHED, label=label)
    if s.n:
        axes.axvspan(-0.5, s.n - 0.5, color=PATCHED, alpha=0.07, lw=0)
    if limit is not None:
        axes.axhline(limit / KB, color=LIMIT, lw=1, ls="--", label=f"limit {limit / KB:.0f} kB")
    names = whole.graph.block_names
    axes.set_xticks(blocks, [names[b] for b in before], rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("SRAM alive, kB")
    axes.set_title(f"{title}: {max(before.values()) / KB:.0f} kB to {max(after.values()) / KB:.0f} kB", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def cycles_figure(layers: list[PlainDict], path: FilePath, title: str) -> Path:
    """Draw instructions, estimated cycles and memory of each layer; `layers` are those of engine/timing/report.py."""
    count, width = len(layers), max(6, 0.17 * len(layers))
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(width, 5), sharex=True)
    at = np.arange(count)
    top.bar(at, [row["cycles_estimated"] / 1e3 for row in layers], 0.8, color=WHOLE, label="cycles, estimated")
    top.bar(at, [row["stall_cycles"] / 1e3 for row in layers], 0.8, color=LIMIT, label="of them waiting for memory")
    top.plot(at, [row["instructions"] / 1e3 for row in layers], "_", color=PATCHED, label="instructions, counted")
    top.set_ylabel("thousand")
    top.set_title(title, loc="left", fontsize=10)
    top.legend(frameon=False, fontsize=8)
    bottom.bar(at, [row.get("live_bytes", 0) / KB for row in layers], 0.8, color=PATCHED)
    bottom.set_ylabel("arena alive, kB")
    bottom.set_xticks(at, [row["name"] for row in layers], rotation=90, fontsize=6)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    return save_figure(figure, path)


def layer_figure(model: QuantModel, name: str, path: FilePath, histogram: Histogram | None = None) -> Path:
    """Draw one tensor of an int8 network. Counts are logarithmic.

    A histogram shows its float values without zeros, the range of int8 and its steps. Another panel shows the weights
    of the convolution that writes it, if one does.
    """
    weights = model.weights.get(name)
    panels: list[Callable[[Axes], None]] = []
    if histogram is not None:
        panels.append(lambda axes: _draw_values(axes, histogram, model.scales[name]))
    if weights is not None:
        panels.append(lambda axes: _draw_weights(axes, weights.weight))
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.2), squeeze=False)
    for draw, axis in zip(panels, axes.flat, strict=True):
        draw(axis)
        axis.set(yscale="log", ylabel="count")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_title(name, loc="left")
    return save_figure(figure, path)


def _draw_values(axes: Axes, histogram: Histogram, grid: Scale) -> None:
    if len(histogram.counts):
        axes.hist(histogram.middles, 256, weights=histogram.counts, color=PATCHED, label="float values")
    levels = grid.dequantize(np.arange(-128, 128, 8, dtype=np.int8))
    axes.plot(levels, np.zeros(32), "|", transform=axes.get_xaxis_transform(), color=LIMIT, label="every eighth step")
    for end in grid.span:
        axes.axvline(end, color=LIMIT, lw=1, ls="--", label="int8 range" if end == grid.span[0] else None)
    axes.set_xlabel(f"value; int8 in steps of {grid.scale:.3g}, zero at {grid.zero_point}")
    axes.legend(frameon=False, fontsize=8)


def _draw_weights(axes: Axes, weight: Int8Map) -> None:
    axes.hist(weight.ravel(), np.arange(-128.5, 128.5, 4).tolist(), color=WHOLE)
    axes.set_xlabel("weight, int8, steps of its channel's scale")


def boxes_figure(picture: Picture, boxes: Sequence[Box], path: FilePath, title: str) -> Path:
    """Draw boxes on a picture (h, w, 3)."""
    figure, axes = plt.subplots(figsize=(6, 6 * picture.shape[0] / picture.shape[1]))
    _draw_boxes(axes, picture, boxes, sorted({name for *_, name in boxes}), 8)
    axes.set_title(title, loc="left", fontsize=9)
    return save_figure(figure, path)


def boxes_png(image: Image, boxes: Sequence[PlainDict], side: int) -> bytes:
    """Return the PNG of a picture with its boxes (name, score, box: x1, y1, x2, y2 in its pixels), made smaller where
    it is longer than `side`."""
    share = min(1.0, side / max(image.size))
    small = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
    shown = [(*(v * share for v in box["box"]), box["score"], box["name"]) for box in boxes]
    with tempfile.TemporaryDirectory() as folder:
        return boxes_figure(np.asarray(small), shown, Path(folder) / "drawn.png", "").read_bytes()


def sheet_figure(
    pictures: Sequence[Picture], boxes: Sequence[Sequence[Box]], names: list[str], path: FilePath, columns: int = 3
) -> Path:
    """Draw several pictures (h, w, 3) of one size with the boxes found on each; a class of `names` has one colour."""
    rows = -(-len(pictures) // columns)
    h, w = pictures[0].shape[:2]
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.4 * rows * h / w), squeeze=False)
    for at, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if at < len(pictures):
            _draw_boxes(axis, pictures[at], boxes[at], names, 5)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    return save_figure(figure, path)


def _draw_boxes(axes: Axes, picture: Picture, boxes: Sequence[Box], names: list[str], size: int) -> None:
    axes.imshow(picture, interpolation="nearest")
    colours = dict(zip(names, plt.get_cmap("tab10")(np.arange(len(names)) % 10), strict=True))
    for x1, y1, x2, y2, score, name in boxes:
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, lw=size / 5, ec=colours[name]))
        corner = max(x1, 0), max(y1, 0)  # a label stays on the picture
        back = dict(fc=colours[name], ec="none", pad=1)
        label = f"{name} {score:.2f}"
        axes.text(*corner, label, fontsize=size, color="white", va="top", bbox=back, clip_on=True)
    axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
    axes.set_axis_off()


def sweep_figure(sweeps: dict[str, dict[tuple[int, int], tuple[float, float]]], path: FilePath) -> Path:
    """Draw peak and overhead against n (4x4 patches) and against p (the cut of the least peak at 4x4): the paper's Fig.
    8. `sweeps` is network -> (p, n) -> (peak in kB, overhead in %)."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex="col", sharey="row")
    for name, sweep in sweeps.items():
        cut = min((n for p, n in sweep if p == 4), key=lambda n: sweep[4, n])
        columns = (
            ("blocks n run as 4x4 patches", name, {n: value for (p, n), value in sweep.items() if p == 4}),
            ("patches per side p", f"{name}, n = {cut}", {p: value for (p, n), value in sweep.items() if n == cut}),
        )
        for column, (label, legend, values) in enumerate(columns):
            for row in (0, 1):
                axes[row, column].plot(list(values), [v[row] for v in values.values()], marker="o", ms=4, label=legend)
            axes[1, column].set_xlabel(label)
            axes[0, column].legend(frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("peak, kB")
    axes[1, 0].set_ylabel("overhead, %")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)
