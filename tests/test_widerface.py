"""The WIDER FACE metric: hand-made cases, the protocol as plain loops, and a published detector's figures."""

import json
import os
import tarfile
import time

import numpy as np
import pytest
import torch
from scipy.io import savemat

import detection  # noqa: F401
from detection.faces.widerface import (
    SETTINGS,
    Faces,
    curve,
    event_report,
    few_faces,
    match,
    overlaps,
    read_results,
    read_truth,
    summary,
    write_results,
)
from detection.faces.widerface_metric import write_report
from nni_mcunet.core.errors import UserError

A, B, C, D = (10, 10, 20, 20), (100, 10, 30, 40), (200, 50, 8, 8), (50, 200, 60, 60)


def faces(*boxes, kept=None) -> Faces:
    """`kept` for all three settings, all faces by default."""
    kept = np.ones(len(boxes), bool) if kept is None else np.array(kept, bool)
    return Faces(np.array(boxes, float).reshape(-1, 4), np.tile(kept, (3, 1)))


def scored(*rows) -> np.ndarray:
    return np.array([(*box, score) for box, score in rows], float).reshape(-1, 5)


def ap(truth: list[Faces], found: list[np.ndarray], setting: str = "hard") -> float:
    keys = [("0--E", f"i{i}") for i in range(len(truth))]
    return curve(match(dict(zip(keys, truth, strict=True)), dict(zip(keys, found, strict=True))), setting).ap


@pytest.mark.parametrize(
    "truth, found, expected",
    [
        ([faces(A, B), faces(C)], [scored((A, 0.9), (B, 0.5)), scored((C, 0.2))], 1),
        ([faces(A, B)], [scored((B, 0.9))], 0.5),  # a face that is not found
        ([faces(A)], [scored()], 0),
        ([faces(A)], [scored((A, 0.5), (D, 0.9))], 0.5),  # a better scored wrong one
        ([faces(A, B)], [scored((A, 0.9), (A, 0.8), (B, 0.7))], 0.5 + 0.5 * 2 / 3),  # the second hit of A is false
        ([faces(A, B)], [scored((A, 0.7), (A, 0.9), (B, 0.8))], 1),  # rows in any order
        ([faces(A, B, kept=[1, 0])], [scored((B, 0.9), (B, 0.8), (A, 0.7))], 1),  # B counts for nothing
        ([faces(A, kept=[0]), faces(B)], [scored((A, 0.9)), scored((B, 0.1))], 1),
        ([faces(A, B)], [scored((A, 0.5), (D, 0.5), (B, 0.5))], 2 / 3),  # a tie is one point of the curve
        ([faces(A), faces((0, 0, 0, 0), kept=[0])], [scored((A, 0.5)), scored((D, 0.9))], 0.5),  # row of zeros
        ([faces(A), faces()], [scored((A, 0.5)), scored((D, 0.9))], 1),  # an empty list is passed over
        ([faces((5, 5, 0, 7))], [scored(((5, 5, 0, 7), 0.5))], 1),  # a face without width is 1 wide
        ([faces(A)], [scored(((30, 30, -20, -20), 0.9), (A, 0.5))], 0.5),
    ],
)
def test_by_hand(truth, found, expected):
    assert ap(truth, found) == pytest.approx(expected, abs=1e-12)


def test_nothing_to_find():
    assert np.isnan(ap([faces(A, kept=[0])], [scored((A, 0.9))]))
    assert np.isnan(ap([], []))


def test_settings_and_few_faces_are_apart():
    kept = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    truth = {("0--E", "many"): Faces(np.array([A, B, C, D], float), kept), ("1--F", "few"): faces(A)}
    matches = match(truth, {("0--E", "many"): scored((A, 0.9)), ("1--F", "few"): scored((A, 0.8))})
    assert [curve(matches, s).faces for s in SETTINGS] == [2, 3, 4]
    assert few_faces(matches).tolist() == [False, True]
    expected = dict(easy=1, medium=2 / 3, hard=2 / 4, easy_few=1, medium_few=1, hard_few=1)
    assert summary(matches) == pytest.approx(expected)
    rows = event_report(matches)
    assert [(r["event"], r["images"], r["hard"]["faces"]) for r in rows] == [("0--E", 1, 3), ("1--F", 1, 1)]
    assert rows[0]["hard"]["ap"] == pytest.approx(1 / 3)


def test_overlap_counts_the_last_pixel():
    boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9], [10, 0, 9, 9], [0, 0, 0, 0]], float)
    assert overlaps(boxes[:1], boxes)[0] == pytest.approx([1, 50 / 150, 0, 1 / 100])


def by_the_book(truth: list[Faces], found: list[np.ndarray], setting: int) -> float:
    """The protocol as it is told: image by image, threshold by threshold."""
    low, high = min(d[:, 4].min() for d in found), max(d[:, 4].max() for d in found)
    points, faces_kept = np.zeros((1000, 2)), sum(int(t.kept[setting].sum()) for t in truth)
    for t, rows in zip(truth, found, strict=True):
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
        state, counts, right = [0] * len(t.boxes), [], []
        for iou in overlaps(rows, t.boxes):
            best = int(iou.argmax())
            counts.append(not (iou[best] >= 0.5 and not t.kept[setting, best]))
            if iou[best] >= 0.5 and t.kept[setting, best]:
                state[best] = 1
            right.append(sum(state))
        for i in range(1000):
            last = np.flatnonzero((rows[:, 4] - low) / (high - low) >= 1 - (i + 1) / 1000)
            if len(last):
                points[i] += sum(counts[: last[-1] + 1]), right[last[-1]]
    recall = np.concatenate([[0], points[:, 1] / faces_kept, [1]])
    precision = np.concatenate([[0], points[:, 1] / np.maximum(points[:, 0], 1), [0]])
    return sum((recall[i] - recall[i - 1]) * precision[i:].max() for i in range(1, len(recall)))


def test_against_plain_loops():
    rng = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(12):
        boxes = np.hstack([rng.integers(0, 150, (6, 2)), rng.integers(5, 60, (6, 2))]).astype(float)
        truth.append(Faces(boxes, rng.random((3, 6)) < 0.6))
        near = np.repeat(boxes, 4, axis=0) + rng.normal(0, 4, (24, 4))
        found.append(np.hstack([near, rng.integers(0, 60, (24, 1)) / 60]))  # with ties
    for i, setting in enumerate(SETTINGS):
        value = ap(truth, found, setting)
        assert value == pytest.approx(by_the_book(truth, found, i), abs=1e-12)
        assert 0.1 < value < 0.9


def cells(rows) -> np.ndarray:
    out = np.empty((len(rows), 1), object)
    out[:, 0] = rows
    return out


@pytest.fixture
def tiny(tmp_path):
    """Ground truth files of two events: image a with A (all settings) and B (hard), image b with C (hard)."""
    folder = tmp_path / "truth" / "ground_truth"
    folder.mkdir(parents=True)
    for setting, kept in (("easy", [[1], []]), ("medium", [[1], []]), ("hard", [[1, 2], [1]])):
        lists = dict(
            event_list=cells(["0--E", "1--F"]),
            file_list=cells([cells(["a"]), cells(["b"])]),
            face_bbx_list=cells([cells([np.array([A, B])]), cells([np.array([C])])]),
            gt_list=cells([cells([np.array(k, np.uint8).reshape(-1, 1)]) for k in kept]),
        )
        savemat(folder / f"wider_{setting}_val.mat", lists)
    return tmp_path / "truth"


def test_files(tiny, tmp_path):
    truth = read_truth(tiny)
    assert list(truth) == [("0--E", "a"), ("1--F", "b")]
    assert truth["0--E", "a"].kept.tolist() == [[True, False], [True, False], [True, True]]
    rows = np.random.default_rng(0).uniform(0, 500, (7, 5)).astype(np.float32)
    write_results(tmp_path / "out", {("0--E", "a"): rows, ("1--F", "b"): rows[:0]})
    assert (tmp_path / "out/1--F/b.txt").read_text() == "b\n0\n"
    back = read_results(tmp_path / "out", truth)
    assert np.array_equal(back["0--E", "a"].astype(np.float32), rows)
    assert back["1--F", "b"].shape == (0, 5)


def test_wrong_folders_say_what_belongs_there(tiny, tmp_path):
    with pytest.raises(UserError, match=r"is no folder.*wider_easy_val\.mat, wider_medium_val\.mat"):
        read_truth(tmp_path / "none")
    with pytest.raises(UserError, match=r"is there, but no wider_easy_val\.mat in it or in its ground_truth/"):
        read_truth(tmp_path)
    truth = read_truth(tiny)
    with pytest.raises(UserError, match=r"expected one text file per picture there, EVENT/NAME\.txt"):
        read_results(tmp_path / "none", truth)
    (tmp_path / "out" / "0--E").mkdir(parents=True)
    with pytest.raises(UserError, match=r"2 of 2 result files are missing.*0--E.a\.txt"):
        read_results(tmp_path / "out", truth)
    for text in ("", "a\n2\n1 2 3 4 0.5\n", "a\n1\n1 2 3 4\n", "a\n1\n1 2 3 x 0.5\n", "a\n1\n1 2 3 4 nan\n"):
        (tmp_path / "out/0--E/a.txt").write_text(text)
        with pytest.raises(UserError, match=r"a\.txt: not NAME, count and rows of x y w h score"):
            read_results(tmp_path / "out", [("0--E", "a")])
    with pytest.raises(UserError, match="1 pictures are not in the ground truth, the first is 0--E/z"):
        match(truth, {("0--E", "z"): scored()})
    whole = (tiny / "ground_truth/wider_hard_val.mat").read_bytes()
    for content in (b"no mat", b"n" * 400, whole[:300], whole[:128]):
        (tiny / "ground_truth/wider_hard_val.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"wider_hard_val\.mat is no ground truth"):
            read_truth(tiny)
    (tiny / "ground_truth/wider_hard_val.mat").unlink()
    with pytest.raises(UserError, match=r"wider_hard_val\.mat is missing"):
        read_truth(tiny)


def sample(path: str, boxes, scores, labels):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    out = DetDataSample(metainfo=dict(img_path=path))
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    out.pred_instances = InstanceData(bboxes=boxes, scores=torch.tensor(scores), labels=torch.tensor(labels))
    return out


def test_metric_of_mmengine(tiny, tmp_path):
    from mmdet.registry import METRICS
    from mmengine.evaluator import Evaluator

    config = dict(type="WIDERFaceMetric", ground_truth=str(tiny), out_dir=str(tmp_path / "out"))
    evaluator = Evaluator(METRICS.build(config))
    corners = [[10, 10, 30, 30], [100, 10, 130, 50], [300, 300, 310, 310]]
    a = sample("images/0--E/a.jpg", corners, [0.9, 0.3, 0.95], [0, 0, 1])  # the last is of another class
    evaluator.process([a, sample("images/1--F/b.jpg", [], [], [])])
    values = evaluator.evaluate(2)
    assert {k: round(v, 6) for k, v in values.items()} == {
        f"widerface/{s}{few}": v for few in ("", "_few") for s, v in zip(SETTINGS, (1, 1, round(2 / 3, 6)), strict=True)
    }
    again = match(read_truth(tiny), read_results(tmp_path / "out/results", read_truth(tiny)))
    assert {f"widerface/{k}": v for k, v in summary(again).items()} == values
    assert len(json.loads((tmp_path / "out/events.json").read_text())) == 2
    assert (tmp_path / "out/events.md").read_text().splitlines()[3] == "| 1--F | 1 | - | - | 0.00 (1) |"
    assert (tmp_path / "out/pr_hard.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"0--E/none\.jpg is not in the ground truth"):
        evaluator.process([sample("0--E/none.jpg", [], [], [])])
    evaluator.process([sample("0--E/a.jpg", [[0, 0, float("nan"), 1]], [0.5], [0])])
    with pytest.raises(UserError, match="0--E/a: a box or score of the detector is not finite"):
        evaluator.evaluate(1)


@pytest.fixture(scope="module")
def published(shared, tmp_path_factory):
    """RetinaFace MobileNet0.25's result files of the validation set, and the ground truth's folder."""
    archive = shared / "data/widerface_results/retinaface_mnet025_widerface_txt.tar.xz"
    if not archive.is_file() or not (shared / "data/widerface_gt").is_dir():
        pytest.skip(f"no widerface_results and widerface_gt in {shared}/data")
    folder = tmp_path_factory.mktemp("widerface")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "widerface_txt", shared / "data/widerface_gt"


def test_published_figures(published, shared, tmp_path):
    """All 3,226 images, the report and its pictures, in far less than a minute."""
    started = time.process_time()
    truth = read_truth(published[1])
    matches = match(truth, read_results(published[0], truth))
    values = summary(matches)
    write_report(tmp_path, matches)
    assert time.process_time() - started < 30  # 2 s here
    assert [100 * values[s] for s in SETTINGS] == pytest.approx([90.70, 88.16, 73.82], abs=0.02)
    expected = json.loads((shared / "data/widerface_results/expected.json").read_text())["full_val_recomputed"]
    assert {s: values[s] for s in SETTINGS} == pytest.approx(expected, abs=1e-12)  # an independent implementation's
    assert [curve(matches, s).faces for s in SETTINGS] == [7211, 13319, 31958]
    assert (len(matches.images), len(matches.face_image)) == (3226, 39708)
    few = few_faces(matches)
    assert (few.sum(), few[matches.face_image].sum()) == (1758, 2614)
    assert [curve(matches, s, few).faces for s in SETTINGS] == [2226, 2441, 2594]
    report = json.loads((tmp_path / "events.json").read_text())
    assert len(report) == 61
    assert [sum(row[s]["faces"] for row in report) for s in SETTINGS] == [7211, 13319, 31958]
    assert sorted(os.listdir(tmp_path)) == ["events.json", "events.md", "pr_easy.png", "pr_hard.png", "pr_medium.png"]


def test_part_of_the_set(published, shared):
    """Only the 40 images of widerface_mini."""
    if not (shared / "data/widerface_mini/val.txt").is_file():
        pytest.skip(f"no widerface_mini in {shared}/data")
    names = set((shared / "data/widerface_mini/val.txt").read_text().split())
    truth = read_truth(published[1])
    matches = match(truth, read_results(published[0], [key for key in truth if key[1] in names]))
    assert [curve(matches, s).faces for s in SETTINGS] == [86, 121, 274]
    assert [curve(matches, s).ap for s in SETTINGS] == pytest.approx([0.9496, 0.9007, 0.7454], abs=6e-5)
