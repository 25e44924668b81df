"""WIDER FACE's official text as a data set, S3FD's crops, and its multi-scale test."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from detection import load_config
from detection.faces.s3fd_tta import View, views, vote
from detection.faces.widerface_data import read_faces
from nni_mcunet.core.errors import UserError

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))
MINI = "configs/det/s3fd_widerface_mini.py"

TEXT = """0--Parade/a.jpg
3
10 20 30 40 0 0 0 0 0 0
50 60 7 8 2 0 0 1 0 0
5 5 0 9 0 0 0 0 0 0
1--Handshaking/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/b.jpg
1
1 2 3 4 0 0 0 0 2 1
"""


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def mini(monkeypatch) -> Path:
    folder = SHARED / "data" / "widerface_mini"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set MCUNET_SHARED to the folder that has it")
    monkeypatch.setenv("MCUNET_SHARED", str(SHARED))
    return folder


def built(config: dict, registry: str = "DATASETS"):
    from mmdet import registry as registries

    with DefaultScope.overwrite_default_scope("mmdet"):
        return getattr(registries, registry).build(config)


@pytest.fixture
def official(tmp_path) -> dict:
    """A folder laid out as the archives unpack, of three grey pictures; the config of its data set."""
    import cv2

    (tmp_path / "text.txt").write_text(TEXT)
    for name in ("0--Parade/a.jpg", "1--Handshaking/none.jpg", "1--Handshaking/b.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return dict(type="WIDERFaceText", data_root=str(tmp_path), ann_file="text.txt", data_prefix=dict(img="images"))


# ---- the text


def test_the_official_text(official, tmp_path):
    faces = read_faces(tmp_path / "text.txt")
    assert [(name, len(rows)) for name, rows in faces.items()] == [
        ("0--Parade/a.jpg", 3), ("1--Handshaking/none.jpg", 0), ("1--Handshaking/b.jpg", 1),
    ]  # fmt: skip
    data = built(official)
    assert [d["instances"] for d in map(data.get_data_info, range(len(data)))] == [
        [
            dict(bbox=[10, 20, 40, 60], bbox_label=0, ignore_flag=0),
            dict(bbox=[50, 60, 57, 68], bbox_label=0, ignore_flag=1),  # marked invalid
        ],
        [],
        [dict(bbox=[1, 2, 4, 6], bbox_label=0, ignore_flag=0)],
    ]
    first = data.get_data_info(0)
    assert first["img_path"] == str(tmp_path / "images/0--Parade/a.jpg")
    assert (first["width"], first["height"]) == (100, 80)
    filtered = official | dict(filter_cfg=dict(filter_empty_gt=True))
    assert len(built(filtered)) == 2
    assert len(built(filtered | dict(test_mode=True))) == 3  # a metric counts every image


def test_what_is_left_out_is_counted(official, monkeypatch):
    lines = []
    monkeypatch.setattr("detection.faces.widerface_data.tell", lines.append)
    built(official | dict(filter_cfg=dict(filter_empty_gt=True)))
    counted, dropped = lines
    assert (
        "3 pictures, 3 faces, 1 of them marked invalid and ignored; 1 rows without width or height left out" in counted
    )
    assert "1 pictures without a face left out" in dropped


@pytest.mark.parametrize(
    "text, message",
    [
        ("a/b.jpg\nmany\n", r"line 2: 'many' is not the number of faces of 'a/b\.jpg'"),
        ("a/b.jpg\n", r"line 2: '' is not the number"),
        ("a/b.jpg\n1\n1 2 3 4\n", r"line 3: '1 2 3 4' is no face of 10 integers"),
        ("a/b.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", r"1 of 2 faces; is the file whole\?"),
        ("a/b.jpg\n1\na/c.jpg\n1\n", r"line 3: 'a/c\.jpg' is no face"),
    ],
)
def test_a_damaged_text_is_refused(text, message, tmp_path):
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_faces(tmp_path / "text.txt")


def test_a_folder_without_the_pictures_is_refused(official, tmp_path):
    with pytest.raises(UserError, match=r"3 of the 3 pictures of .*text\.txt.*elsewhere/0--Parade/a\.jpg"):
        built(official | dict(data_prefix=dict(img="elsewhere")))
    (tmp_path / "images/1--Handshaking/b.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of the 3 pictures.*1--Handshaking/b\.jpg"):
        built(official)


def test_a_damaged_picture_is_left_to_the_loading(official, tmp_path):
    (tmp_path / "images/1--Handshaking/b.jpg").write_bytes(b"no picture")
    assert built(official).get_data_info(2)["width"] == 0


def test_the_whole_validation_set():
    path = SHARED / "data/widerface_gt/wider_face_split/wider_face_val_bbx_gt.txt"
    if not path.is_file():
        pytest.skip(f"no {path}: set MCUNET_SHARED to the folder that has it")
    faces = read_faces(path)
    assert (len(faces), sum(map(len, faces.values()))) == (3226, 39_708)


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_same_faces_as_mmdets_own_data_set(mini, part):
    """mmdet's WIDERFaceDataset reads a conversion to XML, whose corners are x + w and y + h as well."""
    ours = built(dict(load_config(MINI)[f"{part}_dataloader"].dataset, filter_cfg=None))
    prefix = dict(img=f"WIDER_{part}")
    theirs = built(dict(type="WIDERFaceDataset", data_root=str(mini), ann_file=f"{part}.txt", data_prefix=prefix))
    boxes = []
    for data in ours, theirs:
        images = map(data.get_data_info, range(len(data)))
        boxes.append({Path(d["img_path"]).name: sorted(face["bbox"] for face in d["instances"]) for d in images})
    assert len(boxes[0]) == {"train": 60, "val": 40}[part]
    assert boxes[0] == boxes[1]


# ---- crops


def picture(h: int, w: int, faces) -> dict:
    """A black picture with white faces, as the loading transforms give it."""
    from mmdet.structures.bbox import HorizontalBoxes

    image = np.zeros((h, w, 3), np.uint8)
    for x1, y1, x2, y2 in faces:
        image[y1:y2, x1:x2] = 255
    return dict(
        img=image,
        img_shape=(h, w),
        gt_bboxes=HorizontalBoxes(np.array(faces, np.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.zeros(len(faces), np.int64),
        gt_ignore_flags=np.zeros(len(faces), bool),
    )


FACES = [[20, 30, 60, 90], [150, 40, 170, 64], [100, 140, 190, 200]]


@pytest.mark.parametrize("kind", ["FaceCrop", "DataAnchorSampling"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_a_crop_keeps_faces_where_they_are_seen(kind, size):
    """Every kept box is white, all white is in boxes but the faces whose centre is outside; the same seed gives the
    same crop, another one another."""
    transform = built(dict(type=kind, size=size), "TRANSFORMS")
    shapes = set()
    for seed in range(25):
        np.random.seed(seed)
        found = transform(picture(240, 200, FACES))
        np.random.seed(seed)
        assert np.array_equal(transform(picture(240, 200, FACES))["img"], found["img"])
        boxes = found["gt_bboxes"].numpy()
        assert found["img"].shape[:2] == found["img_shape"] == size[::-1]
        assert 1 <= len(boxes) == len(found["gt_bboxes_labels"]) == len(found["gt_ignore_flags"])
        assert boxes.min() >= 0 and (boxes[:, 2:] <= size).all()
        for x1, y1, x2, y2 in boxes:
            inner = found["img"][int(np.ceil(y1)) + 1 : int(y2) - 1, int(np.ceil(x1)) + 1 : int(x2) - 1]
            assert (inner > 250).all()
            for side in (
                ((y1 + y2) / 2, x1 - 3),
                ((y1 + y2) / 2, x2 + 3),
                (y1 - 3, (x1 + x2) / 2),
                (y2 + 3, (x1 + x2) / 2),
            ):
                y, x = map(int, np.floor(side))
                if 0 <= y < size[1] and 0 <= x < size[0]:
                    assert found["img"][y, x].max() < 5
        shapes.add(tuple(boxes.ravel().round(3)))
    assert len(shapes) > 15


def test_the_crops_sides_are_s3fds():
    """A fifth are the largest square, the rest from 0.3 to 1 of the short side; 100 pixels become 64."""
    transform = built(dict(type="FaceCrop", size=(64, 64)), "TRANSFORMS")
    np.random.seed(0)
    sides = np.array([64 / transform(picture(100, 160, []))["scale_factor"][0] for _ in range(400)])
    assert (sides == 100).mean() == pytest.approx(0.2, abs=0.05)
    assert 29.5 <= sides.min() < 35 and np.median(sides[sides < 100]) == pytest.approx(65, abs=5)


def test_data_anchor_sampling_brings_a_face_near_an_anchor():
    """A face of 40 pixels: to a side from 8 to 80, that is to an anchor of 16, 32 or 64 within a factor of two."""
    transform = built(dict(type="DataAnchorSampling", size=(64, 64), anchors=(16, 32, 64, 128)), "TRANSFORMS")
    np.random.seed(0)
    sides = []
    for _ in range(200):
        found = transform(picture(300, 300, [[130, 130, 170, 170]]))
        x1, y1, x2, y2 = found["gt_bboxes"].numpy()[0]
        sides.append(40 * found["scale_factor"][0])
        assert min(x1, y1) >= 0 and max(x2, y2) <= 64
    assert 7.9 < min(sides) < 10 and 64 < max(sides) <= 81
    assert len(transform(picture(50, 60, []))["gt_bboxes"]) == 0


def test_faces_that_become_too_small_are_ignored():
    transform = built(dict(type="FaceCrop", size=(40, 48), whole=1, ignore_below=5), "TRANSFORMS")
    found = transform(picture(240, 200, FACES))
    assert found["gt_ignore_flags"].tolist() == [False, True, False]  # 8x12, 4x4.8 and 18x12 pixels


def test_the_recipes_pipelines(mini):
    """Every configured step runs, and what comes out is what the head is trained on."""
    config = load_config(MINI)
    full = load_config("configs/det/s3fd_widerface_l.py").train_dataloader.dataset.pipeline
    steps = [step.type for step in full]
    assert steps.index("PhotoMetricDistortion") < steps.index("RandomChoice") < steps.index("RandomFlip")
    full[steps.index("RandomChoice")].prob = [0.5, 0.5]
    np.random.seed(0)
    for pipeline, size in ((config.train_dataloader.dataset.pipeline, (320, 480)), (full, (640, 640))):
        data = built(dict(config.train_dataloader.dataset, pipeline=pipeline))
        for i in range(4):
            item = data[i]
            assert item["inputs"].shape == (3, *size)
            boxes = item["data_samples"].gt_instances.bboxes.tensor
            assert (boxes[:, 2:] > boxes[:, :2]).all()
    tested = built(config.val_dataloader.dataset)[0]
    assert tested["inputs"].shape == (3, 320, 480)
    assert tested["data_samples"].ori_shape[1] == 1024


# ---- the multi-scale test


def test_the_views_of_a_picture():
    """A million pixels may grow by 1.43; 1024x768 by 1.61; a large one is shrunk, a small one doubled repeatedly."""
    assert views(768, 1024, 1700 * 1200) == [
        View(1), View(1, True), View(0.5, least=30), View(pytest.approx(1.6106, abs=1e-4), most=100),
    ]  # fmt: skip
    small = views(200, 300, 1700 * 1200)
    assert [v.scale for v in small[3:]] == [2, 4, pytest.approx(5.8310, abs=1e-4)]
    assert all(v.most == 100 for v in small[3:])
    huge = views(2400, 3400, 1700 * 1200)
    assert [v.scale for v in huge] == [0.5, 0.5, 0.25, 0.375]
    assert [v.least for v in huge] == [0, 0, 30, 30]


def test_voting_is_the_plain_loop():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (40, 2))
    boxes = np.hstack([corner, corner + rng.uniform(10, 30, (40, 2))])
    scores = rng.permutation(40) / 40 + 0.01
    rows, expected = sorted(zip(scores, boxes.tolist(), strict=True), reverse=True), []
    while rows:
        near = [row for row in rows if overlap(rows[0][1], row[1]) >= 0.3]
        weight = sum(score for score, _ in near)
        expected.append([rows[0][0], *(sum(s * b[k] for s, b in near) / weight for k in range(4))])
        rows = [row for row in rows if row not in near]
    found, best = vote(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3)
    assert 3 < len(expected) < 40
    assert torch.hstack([best[:, None], found]).numpy() == pytest.approx(np.array(expected))
    assert [len(part) for part in vote(torch.zeros(0, 4), torch.zeros(0), 0.3)] == [0, 0]


def overlap(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


class Seer(torch.nn.Module):
    """A detector that finds in each view, mirrored or not, the faces of FOUND, and keeps the sizes of the views."""

    FOUND = ([100.0, 100, 120, 124], [300.0, 50, 500, 260])

    def __init__(self):
        super().__init__()
        self.seen = []

    def test_step(self, data):
        from mmengine.structures import InstanceData

        (image,), (sample,) = data["inputs"], data["data_samples"]
        self.seen.append(tuple(image.shape[1:]))
        boxes = torch.tensor(self.FOUND)
        if sample.flip:
            boxes[:, [0, 2]] = sample.ori_shape[1] - boxes[:, [2, 0]]
        sample.pred_instances = InstanceData(
            bboxes=boxes, scores=torch.tensor([0.6, 0.9]), labels=torch.zeros(2).long()
        )
        return [sample]


def test_the_multi_scale_test_in_mmdet(mini):
    from mmengine.dataset import pseudo_collate

    config, seer = load_config(MINI), Seer()
    data = built(dict(config.test_dataloader.dataset, pipeline=config.tta_pipeline))
    model = built(dict(config.tta_model, module=seer), "MODELS")
    (result,) = model.test_step(pseudo_collate([data[0]]))
    h, w = result.ori_shape
    assert seer.seen[:3] == [(h, w), (h, w), (round(h / 2), round(w / 2))]
    assert len(seer.seen) == 4 and seer.seen[3][0] * seer.seen[3][1] == pytest.approx(1700 * 1200, rel=0.01)
    found = result.pred_instances
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.bboxes.numpy() == pytest.approx(np.array(Seer.FOUND[::-1]), abs=1e-3)
    assert len(result.gt_instances) > 0  # VOC's metric needs them, in the pixels of the file
