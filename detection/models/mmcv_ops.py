"""Replace mmcv's compiled operators, without a compiler.

`mmcv-lite` ships mmcv.ops but not the extension `mmcv._ext` behind it, so that `import mmdet` fails. `install_ops` puts
a stand-in there that provides the one operator YOLO and S3FD evaluation call, non-maximum suppression, and refuses the
rest when they are called. Where a compiled `mmcv._ext` exists nothing is touched.
"""

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, NoReturn

import torch
from torch import Tensor

from nni_mcunet.core.types import Plain

BLOCK = 512  # rows of the overlap matrix held at once


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices (int64) of the boxes kept, best score first.

    boxes (n, 4) as x1, y1, x2, y2; scores (n,); offset 0 or 1 is added to every width and height. Equal to mmcv's CPU
    operator, whose unstable sort decides between equal scores.
    """
    order = scores.sort(0, descending=True)[1]
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    keep = torch.ones(len(boxes), dtype=torch.bool).numpy()
    for start in range(0, len(boxes), BLOCK):
        rows, rest = slice(start, start + BLOCK), slice(start, None)
        low = torch.maximum(boxes[rows, None, :2], boxes[None, rest, :2])
        high = torch.minimum(boxes[rows, None, 2:], boxes[None, rest, 2:])
        common = (high - low + offset).clamp(min=0).prod(2)
        overlap = common / (areas[rows, None] + areas[None, rest] - common)
        suppress = (overlap > iou_threshold).cpu().numpy()
        for i in range(len(suppress)):
            if keep[start + i]:
                keep[start + i + 1 :] &= ~suppress[i, i + 1 :]
    return order[torch.from_numpy(keep).to(order.device)]


class _Ops(types.ModuleType):
    """Stand in for `mmcv._ext`, with `nms`; every other name is an operator that refuses to run."""

    def __getattr__(self, name: str) -> Plain:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv.ops needs its compiled operator '{name}': install mmcv instead of mmcv-lite"
            )

        return missing


def install_ops() -> bool:
    """Put the stand-in into sys.modules; False where a compiled extension (or the stand-in) is already there."""
    if "mmcv._ext" in sys.modules or importlib.util.find_spec("mmcv._ext"):
        return False
    ops = _Ops("mmcv._ext", __doc__)
    ops.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)  # no loader: mmengine sees no full mmcv
    vars(ops)["nms"] = nms
    sys.modules["mmcv._ext"] = ops
    return True
