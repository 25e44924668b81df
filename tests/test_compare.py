"""Matching of two detectors' boxes: who goes with whom, how far they are, and what is said about it."""

import numpy as np
import pytest

from nni_mcunet.engine.detect.agreement import agreement, box_errors, iou_matrix, prediction_errors


def corner_errors(expected, found):
    return box_errors(expected, found)[:, 0]


def boxes(*rows):
    """(corners, scores, labels) of rows x1, y1, x2, y2, label."""
    rows = np.array(rows, np.float64).reshape(-1, 5)
    return rows[:, :4], np.ones(len(rows)), rows[:, 4].astype(int)


def test_errors_are_the_farthest_coordinate():
    wanted = boxes((10, 10, 30, 30, 0), (50, 50, 80, 90, 1))
    found = boxes((51, 50, 80, 87.5, 1), (10, 9.5, 30.25, 30, 0))
    assert corner_errors(wanted, found).tolist() == [0.5, 2.5]


def test_each_box_is_matched_once_and_the_greatest_overlap_first():
    """Both overlap the one found box; the nearer takes it, whatever their order, and the other has none."""
    near, far, found = (10, 10, 30, 30, 0), (14, 10, 34, 30, 0), boxes((11, 10, 31, 30, 0))
    assert corner_errors(boxes(near, far), found).tolist() == [1, np.inf]
    assert corner_errors(boxes(far, near), found).tolist() == [np.inf, 1]


def test_another_class_or_no_overlap_is_no_match():
    wanted = boxes((10, 10, 30, 30, 0))
    for found in (boxes((10, 10, 30, 30, 1)), boxes((30, 10, 50, 30, 0)), boxes()):
        assert corner_errors(wanted, found).tolist() == [np.inf]
    assert corner_errors(boxes(), wanted).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_against_plain_loops(seed):
    rng = np.random.default_rng(seed)

    def some():
        low = rng.uniform(0, 60, (12, 2))
        return np.hstack([low, low + rng.uniform(5, 40, (12, 2))]), np.ones(12), rng.integers(0, 2, 12)

    a, b = some(), some()

    def iou(p, q):
        w, h = min(p[2], q[2]) - max(p[0], q[0]), min(p[3], q[3]) - max(p[1], q[1])
        both = max(w, 0) * max(h, 0)
        return both / ((p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - both)

    assert iou_matrix(a[0], b[0])[3, 5] == pytest.approx(iou(a[0][3], b[0][5]))
    pairs = [(iou(a[0][i], b[0][j]), i, j) for i in range(12) for j in range(12) if a[2][i] == b[2][j]]
    expected, taken = {}, set()
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap > 0 and i not in expected and j not in taken:
            expected[i] = np.abs(a[0][i] - b[0][j]).max()
            taken.add(j)
    assert corner_errors(a, b).tolist() == [expected.get(i, np.inf) for i in range(12)]


def test_the_nearest_prediction_of_the_class_counts():
    """NMS has kept another of two near-equal boxes: what int8 predicts is as near as it was."""
    wanted = boxes((10, 10, 30, 30, 0), (50, 50, 80, 90, 1))
    predicted = boxes((14, 10, 34, 30, 0), (10, 10, 30.25, 30, 0), (50, 50, 80, 90, 0), (50, 53, 80, 90, 1))
    assert prediction_errors(wanted, predicted).tolist() == [0.25, 3]
    assert prediction_errors(wanted, boxes()).tolist() == [np.inf, np.inf]
    assert prediction_errors(boxes(), predicted).shape == (0,)


def test_centre_size_and_score_are_told_apart():
    wanted, moved = boxes((10, 10, 30, 40, 0)), boxes((11, 12, 31, 42, 0))
    assert box_errors(wanted, moved)[0].tolist() == [2, 1.5, 0, 0]
    grown = boxes((8, 10, 32, 40, 0))[0], np.array([0.75]), np.array([0])
    assert box_errors(wanted, grown)[0].tolist() == [2, 0, 2, 0.25]


def test_agreement():
    errors = np.array([[0.0, 0, 0, 0], [1, 0.5, 0.25, 0.1], [3, 1, 2, 0.2], [np.inf] * 4])
    result = agreement(errors, np.array([0.0, 1, 2, 3]), within=(1, 2))
    assert result == {"boxes": 4, "within": {"1": 0.5, "2": 0.5}, "before_nms": {"1": 0.5, "2": 0.75},
                      "unmatched": 0.25,
                      "quantiles": {"0.5": 1.0, "0.9": pytest.approx(2.6), "0.99": pytest.approx(2.96)},
                      "mean": {"centre": 0.5, "size": 0.75, "score": pytest.approx(0.1)}}  # fmt: skip
    empty = agreement(np.zeros((0, 4)), np.zeros(0))
    assert (
        empty["within"]["2"] is None
        and empty["before_nms"]["2"] is None
        and empty["mean"] == {"centre": None, "size": None, "score": None}
    )
