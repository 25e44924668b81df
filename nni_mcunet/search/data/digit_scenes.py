"""Draw scenes of real handwritten digits on textured backgrounds: the data set that needs no download.

The digits are the 1,797 pictures that scikit-learn ships (UCI optical recognition of handwritten digits, 8x8). Digits
of the training scenes never appear in validation scenes. Seeded: same seed, same scenes.
"""

from functools import cache

import cv2
import numpy as np

TRAIN_GLYPHS = 1437
CLASSES = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@cache
def _glyphs() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16.0).astype(np.float32), data.target


@cache
def _halves() -> dict[str, np.ndarray]:
    """Split the digits of "val" in two: "held_out", that a search judges by, and "test", for its final figures."""
    order = np.random.default_rng(0).permutation(np.arange(0, 1797, 5))
    return {"held_out": order[: len(order) // 2], "test": order[len(order) // 2 :]}


def glyph(rng: np.random.Generator, split: str) -> tuple[np.ndarray, int]:
    """Return one 8x8 digit in [0, 1] and its class. Every fifth digit belongs to the split "val", the rest to "train";
    "val" consists of "held_out" and "test"."""
    images, labels = _glyphs()
    if split in _halves():
        index = int(rng.choice(_halves()[split]))
        return images[index], int(labels[index])
    index = int(rng.integers(len(images)))
    index = index - index % 5 if split == "val" else index + (index % 5 == 0)
    index = min(index, len(images) - 1)
    return images[index], int(labels[index])


def texture(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Draw a background: coloured noise of several coarsenesses with stripes; float32 (h, w, 3) in [0, 255]."""
    image = np.empty((h, w, 3), np.float32)
    image[:] = rng.uniform(20, 235, 3)
    for cells in (3, 8, 24):
        noise = rng.normal(0, 24 / np.sqrt(cells / 3), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    stripes = np.sin((xx * np.cos(angle) + yy * np.sin(angle)) * (2 * np.pi / period))
    image += rng.uniform(0, 18) * stripes[..., None]
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.float32)


def paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, y: int, x: int) -> None:
    """Blend an upright glyph mask (h, w) in [0, 1] into `image` in place, in a colour that stands out there."""
    h, w = mask.shape
    patch = image[y : y + h, x : x + w]
    mean = patch.mean((0, 1))
    bright = mean.mean() < 128 if abs(mean.mean() - 128) > 30 else rng.random() < 0.5
    colour = rng.uniform(190, 255, 3) if bright else rng.uniform(0, 60, 3)
    patch += (colour.astype(np.float32) - patch) * mask[..., None]


def scene(
    rng: np.random.Generator, size: tuple[int, int], split: str, most: int = 5, scale: tuple[float, float] = (0.16, 0.5)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a picture with 1..most digits.

    size (h, w); scale: glyph side as a fraction of the shorter side. Returns image uint8 RGB (h, w, 3), boxes float32
    (n, 4) as x1, y1, x2, y2 around the ink, labels int64 (n,).
    """
    h, w = size
    image = texture(rng, h, w)
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, most + 1))):
        small, label = glyph(rng, split)
        side = int(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))) * min(h, w))
        width = max(6, int(side * rng.uniform(0.8, 1.25)))
        if width >= w or side >= h:
            continue
        mask = np.clip(cv2.resize(small, (width, side), interpolation=cv2.INTER_CUBIC), 0, 1)
        ink_y, ink_x = np.nonzero(mask > 0.35)
        y, x = int(rng.integers(0, h - side)), int(rng.integers(0, w - width))
        box = np.array([x + ink_x.min(), y + ink_y.min(), x + ink_x.max() + 1, y + ink_y.max() + 1], np.float32)
        if any(_overlap(box, other) > 0.05 for other in boxes):
            continue
        paint(rng, image, mask, y, x)
        boxes.append(box)
        labels.append(label)
    return np.clip(image, 0, 255).astype(np.uint8), np.reshape(boxes, (-1, 4)), np.array(labels, np.int64)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over the smaller area."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return float(w * h / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])))
