"""Choose a network for a board and a set of pictures, and write the config that trains it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from nni_mcunet.core.boards import KB, Board
from nni_mcunet.core.errors import BoardError, Infeasible, UserError
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.latency import milliseconds
from nni_mcunet.core.plan.plan import Beside, Plan
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.view import STRETCH, View

from ..config.config import load_config
from ..data.anchors import choose, spread_over
from ..handover.export import config_graph
from .labelled import Labelled

ARCHS = ("mcunet_in3", "mcu_w50_r160")  # from the larger to the smaller; the first has published ImageNet weights
SIDES = range(320, 95, -32)  # the longer side of the network's input, in pixels
STEP = 32  # of all its strides
MOST_OVERHEAD = 0.3  # recomputation that a larger picture is worth
STEPS = 2000  # of training: 292 pictures in batches of 8 reached 0.89 in 1,850


@dataclass(frozen=True)
class Choice:
    """A network for a board: its architecture's name, the (h, w) of its input, the stages that it finds objects on, its
    plan there, and the bytes of SRAM that are left to the network besides the picture's source."""

    arch: str
    size: tuple[int, int]
    stages: tuple[int, ...]
    plan: Plan
    limit: int


@dataclass(frozen=True)
class Training:
    """Length of a training: pictures a batch, epochs, epochs between validations, steps of warm-up, steps."""

    batch: int
    epochs: int
    interval: int
    warm_up: int
    steps: int


def training(pictures: int, epochs: int | None = None) -> Training:
    """Return the training for so many pictures. epochs: default as many as STEPS steps take, at most 200, and 24 at
    least."""
    batch = 8 if pictures < 1000 else 16
    per_epoch = max(1, math.ceil(pictures / batch))
    if epochs is None:
        epochs = min(200, max(24, math.ceil(STEPS / per_epoch)))
    steps = epochs * per_epoch
    return Training(batch, epochs, max(1, epochs // 10), min(100, max(1, steps // 20)), steps)


def sizes(pictures: list[Labelled], view: View = STRETCH, size: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return the (n, 2) sides of the boxes that are trained on, as shares of an image of `size` (h, w) that sees the
    pictures by `view`; of the whole picture where it stretches."""
    found = [
        ((x2 - x1) / w, (y2 - y1) / h)
        for item in pictures
        for w, h in [spread_over(item.size, view, size)]
        for _, (x1, y1, x2, y2), ignored in item.boxes
        if not ignored
    ]
    return np.array(found, float).reshape(-1, 2)


def shapes(pictures: list[Labelled]) -> list[tuple[int, int]]:
    """Return the (h, w) to try, the largest first, of the shape that most pictures have: the median, no longer than
    twice its height or width."""
    ratio = float(np.median([item.size[0] / item.size[1] for item in pictures]))  # width to height
    ratio = min(max(ratio, 0.5), 2.0)
    found = []
    for side in SIDES:
        h, w = (side / ratio, side) if ratio > 1 else (side, side * ratio)
        found.append((max(STEP, round(h / STEP) * STEP), max(STEP, round(w / STEP) * STEP)))
    return list(dict.fromkeys(found))


def choose_network(
    base: FilePath,
    classes: int,
    boxes: np.ndarray,
    candidates: list[tuple[int, int]],
    board: Board,
    source: Beside,
    progress: Callable[[str], object],
) -> Choice:
    """Return the first architecture of ARCHS that fits the board, with the largest input of `candidates`, [(h, w)],
    that does. source: tells the bytes of SRAM that the picture's source takes besides an arena. Raises UserError where
    none fits."""
    stages = (2, 4) if np.quantile(boxes.max(1), 0.95) < 0.45 else (2, 4, 6)
    kinds = len(np.unique(boxes, axis=0))  # each scale has an anchor of its own
    for arch in ARCHS:
        on = (stages if arch == ARCHS[0] else (2, 4))[-kinds:]
        for size in candidates:
            progress(f"{arch} at {size[1]}x{size[0]}")
            graph = config_graph(_config(base, arch, size, on, classes))
            try:
                plan = plan_for_board(graph, board, max_overhead=MOST_OVERHEAD, beside=source)
            except Infeasible as error:
                lacking = error
                continue
            limit = (board.arena_limit - source(graph, plan.schedule, plan.halo)) // KB * KB
            if plan.arena <= limit:
                return Choice(arch, size, on, plan, limit)
            needed = plan.arena + board.arena_limit - limit
            lacking = Infeasible.over("sram", needed, board.arena_limit, board.name)
    smaller = "a smaller picture (--size H W), or " if lacking.what == "sram" else ""
    raise UserError(
        f"{board.name}: no detector of ours fits: the smallest tried, {arch} at {size[1]}x{size[0]}, needs "
        f"{lacking.needed:,} bytes of {lacking.what}, {lacking.limit:,} are there; give {smaller}another board (mcunet "
        "boards lists them)"
    )


def _config(base: FilePath, arch: str, size: tuple[int, int], stages: tuple[int, ...], classes: int) -> Config:
    """Return a config with the network only."""
    config = Config.fromfile(str(base))
    config.merge_from_dict(
        {
            "model.backbone.arch": _arch(base, arch, size),
            "model.backbone.out_indices": stages,
            "model.bbox_head.num_classes": classes,
            "model.neck.width": WIDTHS[arch],
        }
    )
    if _has_anchors(config):
        config.model.bbox_head.anchors = [[(0.1, 0.1)] * 3] * len(stages)
    return load_config(config)


def _has_anchors(config: Config) -> bool:
    return config.model.type == "MCUNetYOLO"


WIDTHS = {"mcunet_in3": 64, "mcu_w50_r160": 48}  # of the neck


def _arch(base: FilePath, arch: str, size: tuple[int, int]) -> PlainDict:
    return {"base": str(Path(base).parents[2] / f"arch/{arch}.json"), "resolution": list(size)}


def config_text(
    base: FilePath,
    out: FilePath,
    root: FilePath,
    classes: tuple[str, ...],
    splits: dict[str, list[Labelled]],
    choice: Choice,
    weights: str | None,
    title: str,
    length: Training,
    board: Board,
    view: View = STRETCH,
) -> str:
    """Return the text of the config, to be written as OUT/config.py. root: the folder of the pictures; weights: a
    checkpoint to begin with; view: how the pictures are seen. Paths are absolute, so that the commands run from any
    folder."""
    head = ""
    if _has_anchors(Config.fromfile(str(base))):
        head = _anchors(sizes(splits["train"], view, choice.size), len(choice.stages))
    test = "test" if "test" in splits else "val"
    top = [
        f"# {title}",
        f"# {plan_title(choice, board)}",
        f"_base_ = {str(base)!r}",
    ]
    checkpoint = "" if weights is None else f"\n        init_cfg=dict(checkpoint={str(Path(weights).resolve())!r}),"
    return "\n".join(top) + TEMPLATE.format(
        root=str(Path(root).resolve()) + "/",
        out=str(Path(out).resolve()),
        classes=classes,
        arch=_arch(base, choice.arch, choice.size),
        stages=choice.stages,
        checkpoint=checkpoint,
        width=WIDTHS[choice.arch],
        head=head,
        fit="stretch" if view.pad is None else "letterbox",
        test=test,
        **vars(length),
    )


def _anchors(boxes: np.ndarray, scales: int) -> str:
    """Return the config's lines of a head with anchors: clusters of these boxes."""
    found = choose(boxes, scales * min(3, len(np.unique(boxes, axis=0)) // scales), scales)
    return ANCHORS.format(iou=found.mean_iou, anchors=found.scales)


def plan_title(choice: Choice, board: Board) -> str:
    """Say what network it is and what it needs, in one line: time, too, where the board's core is known."""
    plan, (h, w) = choice.plan, choice.size
    try:
        time = f", about {milliseconds(plan, board):,.0f} ms a picture (estimated)"
    except BoardError:
        time = ""
    return (
        f"{choice.arch} at {w}x{h}, {plan.macs / 1e6:.0f}M MACs, {plan.arena / KB:.1f} kB of SRAM, "
        f"{plan.flash / KB:.0f} kB of flash ({plan.schedule}){time}"
    )


ANCHORS = """
    bbox_head=dict(
        # k-means of the training boxes in this fit, as shares of the input (w, h), fine to coarse; mean IoU {iou:.2f}
        anchors={anchors!r},
    ),"""
TEMPLATE = """

data_root = {root!r}
labels = {out!r}
metainfo = dict(classes={classes!r})
picture = dict(fit={fit!r})  # how pictures come to the input's size: "stretch" or "letterbox"

model = dict(
    backbone=dict(
        arch={arch!r},
        out_indices={stages!r},{checkpoint}
    ),
    neck=dict(width={width}),{head}
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="MinIoUCrop", min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.4),
    {{{{_base_.resize}}}},
    dict(type="RandomFlip", prob=0.5),  # take it out where left and right differ, as in text
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
pictures = dict(_delete_=True, type="CocoDataset", data_root=data_root, data_prefix=dict(img=""), metainfo=metainfo)
train_dataloader = dict(
    batch_size={batch},
    dataset=dict(**pictures, ann_file=labels + "/train.json", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    dataset=dict(**pictures, ann_file=labels + "/val.json", test_mode=True, pipeline={{{{_base_.test_pipeline}}}}),
)
test_dataloader = dict(
    batch_size=16,
    dataset=dict(**pictures, ann_file=labels + "/{test}.json", test_mode=True, pipeline={{{{_base_.test_pipeline}}}}),
)
val_evaluator = dict(_delete_=True, type="CocoMetric", metric="bbox", ann_file=labels + "/val.json")
test_evaluator = dict(_delete_=True, type="CocoMetric", metric="bbox", ann_file=labels + "/{test}.json")

train_cfg = dict(max_epochs={epochs}, val_interval={interval})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end={warm_up}),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size={batch})
default_hooks = dict(checkpoint=dict(interval={interval}, save_best="coco/bbox_mAP_50", rule="greater"))
"""
