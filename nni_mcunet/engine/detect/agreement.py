"""Compare two detectors' boxes: the integer engine's and the float network's on the same pictures."""

from collections.abc import Sequence

import numpy as np

from ...core.types import PlainDict

Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]  # (n, 4) as x1, y1, x2, y2; scores (n,); labels (n,)


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the (n, m) overlaps of corners (n, 4) and (m, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.maximum(high - low, 0).prod(2)
    area_a, area_b = (np.maximum(c[:, 2:] - c[:, :2], 0).prod(1) for c in (a, b))
    return both / np.maximum(area_a[:, None] + area_b[None] - both, 1e-12)


PARTS = ("centre", "size", "score")  # behind the corners in box_errors


def box_errors(expected: Boxes, found: Boxes) -> np.ndarray:
    """Return (n, 4) how far each expected box is from the found box matched to it, inf without a match: the largest
    difference of a coordinate; the mean of its centre's two and of its size's two, in pixels; that of the score. Boxes
    of one class are matched, the greatest overlap first, each once."""
    overlap = iou_matrix(expected[0], found[0]) * (expected[2][:, None] == found[2][None])
    errors = np.full((len(expected[0]), 1 + len(PARTS)), np.inf)
    free = np.ones(len(found[0]), bool)
    for pair in np.argsort(-overlap, axis=None, kind="stable"):
        i, j = np.unravel_index(pair, overlap.shape)
        if overlap[i, j] <= 0:
            break
        if np.isinf(errors[i, 0]) and free[j]:
            low, high = np.split(expected[0][i] - found[0][j], 2)
            centre, size = np.abs(low + high).mean() / 2, np.abs(high - low).mean()
            score = abs(float(expected[1][i]) - float(found[1][j]))
            errors[i], free[j] = (max(np.abs(low).max(), np.abs(high).max()), centre, size, score), False
    return errors


def prediction_errors(expected: Boxes, predicted: Boxes) -> np.ndarray:
    """Return (n,) how far each expected box is from the nearest predicted one of its class, as the largest difference
    of a coordinate, inf where there is none. predicted: before NMS, so that many lie on one object."""
    apart = np.abs(expected[0][:, None] - predicted[0][None]).max(2)
    apart[expected[2][:, None] != predicted[2][None]] = np.inf
    return apart.min(1, initial=np.inf)


def agreement(errors: np.ndarray, predicted: np.ndarray, within: Sequence[float] = (0.5, 1, 2, 4, 8)) -> PlainDict:
    """Sum up box_errors: how many boxes, the fraction whose coordinates are within so many pixels, those without a
    match; of those that have one the quantiles of the largest difference, and the means of PARTS. predicted: the same
    boxes' prediction_errors, for the fraction before NMS."""
    corners, matched = errors[:, 0], errors[np.isfinite(errors[:, 0])]

    def shares(apart: np.ndarray) -> PlainDict:
        return {str(p): float((apart <= p).mean()) if len(apart) else None for p in within}

    return {
        "boxes": len(errors),
        "within": shares(corners),
        "before_nms": shares(predicted),
        "unmatched": float(np.isinf(corners).mean()) if len(errors) else None,
        "quantiles": {str(q): float(np.quantile(matched[:, 0], q)) if len(matched) else None for q in (0.5, 0.9, 0.99)},
        "mean": {part: float(matched[:, 1 + i].mean()) if len(matched) else None for i, part in enumerate(PARTS)},
    }
