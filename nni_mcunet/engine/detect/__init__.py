"""Post-process a detector's outputs in integers, by the type that its description names: YOLOv3, YOLOX
or S3FD.

Each type has one file in numpy (yolo.py, yolox.py, s3fd.py), one in C that gives the same boxes bit for bit
(kernels/mcu_yolo.c, mcu_yolox.c, mcu_face.c) and, for onnxruntime, one function in frontend/onnx/boxes.py.
"""

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ...core.boards import Board
from ...core.errors import UserError
from ...core.ir.graph import Graph
from ...core.types import Groups, PlainDict
from ..model import QuantModel
from .boxes import BOX, LEAST_ROOM
from .s3fd import Face
from .yolo import Yolo
from .yolox import Yolox

Detector: TypeAlias = Yolo | Yolox | Face
TYPES: dict[str, type[Detector]] = {"yolov3": Yolo, "yolox": Yolox, "s3fd": Face}


def type_of(meta: PlainDict) -> str:
    """Return the type that a detector's description names; the first files named none and are YOLOv3."""
    return meta.get("type", "yolov3")


def detector(meta: PlainDict, outputs: list[PlainDict], candidates: int | None = None) -> Detector:
    """Compute the integers of a detector, with decode(maps) -> boxes and to_c().

    meta     plain data beside the model: {"type", "classes": [names], "strides": [pixels per cell], "score_thr",
             "nms_iou", "max_per_img", optionally "nms_pre"} and what its type adds (Yolo.of, Yolox.of, Face.of)
    outputs  the graph's, in order: {"scale", "zero_point", "h", "w", "c"} each, and "gains" (c,) where it has some

    Raises UserError for an unknown type, wrong keys, and lengths or depths that do not fit the outputs.
    """
    kind = type_of(meta)
    if kind not in tuple(TYPES):  # a file may say a list, which a dict would not take
        raise UserError(f"detector: unknown type '{kind}'; known are {', '.join(TYPES)}")
    try:
        return TYPES[kind].of({**meta, "type": kind}, outputs, candidates)
    except UserError:
        raise
    except Exception as error:  # a description out of a file: whatever of it is not as expected
        raise UserError(f"detector: its description is malformed ({type(error).__name__}: {error})") from None


def channel_groups(meta: PlainDict, graph: Graph) -> dict[str, Groups]:
    """Return output -> groups of its channels that may have a gain (core/ir/box_channels.py). meta: which `detector`
    has taken."""
    channels = [graph.tensors[name].c for name in graph.outputs]
    return dict(zip(graph.outputs, TYPES[type_of(meta)].groups(meta, channels), strict=True))


def likely(meta: PlainDict, maps: list[np.ndarray]) -> list[np.ndarray]:
    """Return for each of a network's outputs, real (h, w, c), which boxes count, bool (h, w, boxes a cell)."""
    return TYPES[type_of(meta)].likely(meta, maps)


def with_room(board: Board, candidates: int) -> Board:
    """Return the board that also keeps SRAM for a detector's list of boxes. Its reserve holds LEAST_ROOM already."""
    more = max(0, candidates - LEAST_ROOM) * BOX.itemsize
    return replace(board, reserved_sram=board.reserved_sram + more)


def detector_params(model: QuantModel) -> Detector | None:
    """Return the integers of the model's post-processing, with its numpy twin and its C, or None for a model that has
    none."""
    if "detector" not in model.meta:
        return None
    outputs = []
    for name in model.graph.outputs:
        t, s = model.graph.tensors[name], model.scales[name]
        own = {"gains": model.gains[name]} if name in model.gains else {}
        outputs.append({"h": t.h, "w": t.w, "c": t.c, "scale": s.scale, "zero_point": s.zero_point, **own})
    return detector(model.meta["detector"], outputs)
