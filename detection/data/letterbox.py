"""Letterbox pictures in mmdet's pipelines: resized in their own shape, the rest of the network's image padded.

mmdet's Resize(keep_ratio=True) takes its scale for that of a long and a short edge: a portrait picture is then higher
than an image that lies, whatever the padding. These two follow nni_mcunet's View, which calibration, `mcunet detect`
and the boards follow, too.
"""

from typing import Any

from mmdet.datasets.transforms import Pad, Resize
from mmdet.registry import TRANSFORMS

from nni_mcunet.core.types import PlainDict
from nni_mcunet.core.view import View


@TRANSFORMS.register_module()
class LetterboxResize(Resize):
    """Resize a picture in its own shape as large as it fits into `scale` (w, h), with its boxes. LetterboxPad fills the
    rest: at the end of the pipeline, so that flips and colours of a training leave the padding where it is."""

    def __init__(self, scale: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(tuple(scale), **kwargs)

    def _resize_img(self, results: PlainDict) -> None:
        w, h = self.scale
        results["scale"] = View(pad=0).placed(results["img"].shape[:2], (h, w))[::-1]
        super()._resize_img(results)


@TRANSFORMS.register_module()
class LetterboxPad(Pad):
    """Pad a picture on the right and below to `size` (w, h) with the byte `pad`. Its boxes stay where they are."""

    def __init__(self, size: tuple[int, int], pad: int) -> None:
        super().__init__(size=tuple(size), pad_val=dict(img=pad))
