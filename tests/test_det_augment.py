"""Pictures of several sizes, Mosaic and MixUp, crops, a loss of boxes, and averaged weights in a training."""

import detection  # before mmdet

# isort: split
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmdet.datasets.transforms import MinIoURandomCrop
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from detection import MinIoUCrop, load_config, load_detector
from detection.data.datasets import build_dataset
from nni_mcunet.cli.digits import write_all
from nni_mcunet.core.ir.arch import ArchSpec, Block

DIGITS = "configs/det/yolov3_digits.py"
MIXED = """
_base_ = "{base}"
single = dict(
    _base_.train_dataloader.dataset,
    pipeline=[dict(type="LoadPicture"), dict(type="LoadAnnotations", with_bbox=True)],
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type="MultiImageMixDataset",
        dataset=dict(type="RepeatDataset", times=1, dataset=single),
        pipeline=[
            dict(type="Mosaic", img_scale=(640, 640)),
            dict(type="RandomAffine", scaling_ratio_range=(0.5, 1.5), border=(-320, -320)),
            dict(type="MixUp", img_scale=(640, 640), ratio_range=(0.8, 1.6)),
            dict(type="RandomFlip", prob=0.5),
            dict(type="Resize", scale=(640, 640), keep_ratio=False),
            dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type="PackDetInputs"),
        ],
    ),
)
"""


def detection_objects(boxes) -> InstanceData:
    return InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)))


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict:
    """A small network that is wider than high, and 24 pictures."""
    folder = tmp_path_factory.mktemp("digits")
    write_all(folder / "VOC2007", 24, 8, 96, 0)
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    arch = ArchSpec("small", (96, 128), 16, blocks).save(folder / "arch.json")
    data = {f"{loader}_dataloader.dataset.data_root": str(folder) for loader in ("val", "test")}
    return data | {"data_root": str(folder) + "/", "model.backbone.arch": str(arch)}


@pytest.fixture
def mixed(tmp_path, options):
    (tmp_path / "mixed.py").write_text(MIXED.format(base=ROOT / DIGITS))
    return load_config(tmp_path / "mixed.py", options, tmp_path / "work")


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_mosaic_and_mixup_have_the_networks_size(mixed, fit):
    """Their sizes are set as Resize's is, and each step gives pictures of the network's size with boxes in them."""
    mixed.picture = dict(fit=fit)
    mixed = load_config(mixed)
    steps = {step.type: step for step in mixed.train_dataloader.dataset.pipeline}
    assert steps["Mosaic"].img_scale == steps["MixUp"].img_scale == (128, 96)
    assert steps["RandomAffine"].border == (-64, -48)
    data = build_dataset(mixed.train_dataloader.dataset)
    seen = [data[i % len(data)] for i in range(40)]
    assert {tuple(item["inputs"].shape) for item in seen} == {(3, 96, 128)}
    boxes = torch.cat([item["data_samples"].gt_instances.bboxes.tensor for item in seen])
    assert len(boxes) > 100 and boxes.min() >= 0 and boxes[:, 2].max() <= 128 and boxes[:, 3].max() <= 96


def test_a_border_of_zero_stays(options, tmp_path):
    """RandomAffine by itself turns one picture and cuts nothing."""
    (tmp_path / "mixed.py").write_text(MIXED.format(base=ROOT / DIGITS).replace("border=(-320, -320)", "border=(0, 0)"))
    config = load_config(tmp_path / "mixed.py", options)
    assert config.train_dataloader.dataset.pipeline[1].border == (0, 0)


def test_a_training_with_all_of_it(mixed):
    """Mosaic that ends before the training does, pictures of several sizes, boxes' loss and averaged weights: what is
    saved to be deployed are the averaged ones."""
    mixed.model.data_preprocessor.batch_augments = [
        dict(type="BatchSyncRandomResize", random_size_range=(64, 128), size_divisor=32, interval=1)
    ]
    mixed.model.bbox_head.loss_bbox = dict(type="CIoULoss", loss_weight=5.0)
    mixed.custom_hooks = [
        dict(type="YOLOXModeSwitchHook", num_last_epochs=1),
        dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.1, update_buffers=True),
    ]
    mixed.train_cfg.update(max_epochs=3, val_interval=3)
    mixed.train_dataloader.num_workers = mixed.val_dataloader.num_workers = 0
    mixed.train_dataloader.persistent_workers = mixed.val_dataloader.persistent_workers = False
    mixed.default_scope = "mmdet"
    runner = Runner.from_cfg(mixed)
    shapes, forward = set(), type(runner.model.backbone).forward

    def noting(self, image):
        shapes.add(tuple(image.shape[2:]))
        return forward(self, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(runner.model.backbone), "forward", noting)
        runner.train()
    assert len(shapes) >= 3 and all(h % 32 == 0 and w % 32 == 0 for h, w in shapes)
    assert runner.train_dataloader.dataset._skip_type_keys == ("Mosaic", "RandomAffine", "MixUp")
    saved = detection.load_from_local(f"{mixed.work_dir}/epoch_3.pth")
    trained, averaged = runner.model.state_dict(), saved["state_dict"]
    name = "backbone.layers.stem.conv.weight"
    assert not torch.equal(averaged[name], trained[name])
    assert torch.equal(saved["ema_state_dict"][f"module.{name}"], trained[name])
    assert {"loss_cls", "loss_conf", "loss_bbox"} == {
        key.removeprefix("train/") for key in runner.message_hub.log_scalars if "loss_" in key
    }


def test_the_loss_of_boxes_is_mmdets_of_what_is_decoded(monkeypatch):
    """At each object's cell: 1 - CIoU of the box that the board would find there. mmdet's other losses stay."""
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    option = {"model.bbox_head.loss_bbox": dict(type="CIoULoss", loss_weight=2.0)}
    plain, model = (load_detector(load_config(DIGITS, given)).train() for given in ({}, option))
    model.load_state_dict(plain.state_dict())
    boxes = torch.tensor([[20.0, 30.0, 50.0, 70.0], [80.0, 20.0, 100.0, 50.0]])
    objects = detection_objects(boxes)
    maps = [torch.randn(2, t.c, t.h, t.w) for t in (model.graph.tensors[n] for n in model.graph.outputs[::-1])]
    metas = [{}] * 2
    ours = model.bbox_head.loss_by_feat(maps, [objects] * 2, metas)
    theirs = plain.bbox_head.loss_by_feat(maps, [objects] * 2, metas)
    assert set(ours) == {"loss_cls", "loss_conf", "loss_bbox"}
    assert all(torch.equal(torch.stack(ours[k]), torch.stack(theirs[k])) for k in ("loss_cls", "loss_conf"))
    head, expected = model.bbox_head, 0.0
    sizes = [m.shape[-2:] for m in maps]
    anchors = head.prior_generator.grid_priors(sizes, device="cpu")
    targets, _ = head.get_targets([anchors] * 2, [head.responsible_flags(sizes, boxes, "cpu")] * 2, [objects] * 2)
    for m, level, target, stride in zip(maps, anchors, targets, head.featmap_strides, strict=True):
        raw = m.permute(0, 2, 3, 1).reshape(2, -1, head.num_attrib)[..., :4].clone()
        raw[..., :2].sigmoid_()
        for image in range(2):
            for at in target[image, :, 4].nonzero()[:, 0]:
                found = head.bbox_coder.decode(level[at][None], raw[image, at][None], stride)
                nearest = boxes[bbox_overlaps(level[at][None], boxes).argmax()][None]
                expected += 2.0 * float(head.loss_bbox(found, nearest)) / 2.0
    assert float(sum(ours["loss_bbox"])) == pytest.approx(expected / 2, rel=1e-4)


# ---- crops

OBJECTS = np.float32([[10, 10, 60, 50], [30, 20, 120, 110], [140, 70, 158, 90]])


def pictured(boxes) -> dict:
    """A picture whose pixels say where they are: (row, column, 0)."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 0], image[..., 1] = np.indices((120, 160))
    return {
        "img": image,
        "img_shape": (120, 160),
        "gt_bboxes": HorizontalBoxes(torch.from_numpy(boxes.copy())),
        "gt_bboxes_labels": np.arange(len(boxes)),
        "gt_ignore_flags": np.arange(len(boxes)) == 1,
    }


@pytest.mark.parametrize("mode", [0, 0.3, 0.9])
def test_a_crop_overlaps_each_box_and_cuts_all_that_belongs_to_one(mode):
    """At least by the IoU asked for, and the boxes still lie where they did in the picture."""
    np.random.seed(0)
    crop, few, found = MinIoUCrop(min_ious=(mode,), min_crop_size=0.3), 1 if mode == 0.9 else 2, 0
    crop.sample_mode = (mode, 1)
    for _ in range(40):
        one = crop.transform(pictured(OBJECTS[:few]))
        h, w = one["img_shape"]
        assert one["img"].shape == (h, w, 3)
        if (h, w) == (120, 160):
            continue
        y, x = (int(n) for n in one["img"][0, 0, :2])
        window = torch.tensor([[x, y, x + w, y + h]]).float()
        assert bbox_overlaps(window, torch.from_numpy(OBJECTS[:few])).min() >= mode
        assert 0.45 < w / h < 2.2 and w >= 0.29 * 160 and h >= 0.29 * 120
        labels = one["gt_bboxes_labels"]
        assert len(one["gt_bboxes"]) == len(labels) == len(one["gt_ignore_flags"]) > 0
        assert (one["gt_ignore_flags"] == (labels == 1)).all()
        placed = OBJECTS[labels] - [x, y, x, y]
        assert np.allclose(one["gt_bboxes"].numpy(), np.clip(placed, 0, [w, h, w, h]))
        found += 1
    assert found > 3 or mode == 0.9


def test_crops_are_distributed_as_mmdets():
    """Of 1,500 pictures each: how many stay whole, keep all of their boxes, and how large the windows are."""
    means = []
    for kind in (MinIoURandomCrop, MinIoUCrop):
        np.random.seed(0)
        crop = kind(min_ious=(0.1, 0.3, 0.5), min_crop_size=0.3)
        made = [crop.transform(pictured(OBJECTS[:2])) for _ in range(1500)]
        sides = np.array([one["img_shape"] for one in made]) / (120, 160)
        whole, kept = (sides == 1).all(1), np.array([len(one["gt_bboxes"]) for one in made])
        means.append([whole.mean(), kept.mean(), *sides[~whole].mean(0), *sides[~whole].std(0)])
    assert means[1] == pytest.approx(means[0], abs=0.04)
    assert 0.2 < means[0][0] < 0.8 and means[0][1] < 1.97  # not a test of nothing


def test_a_picture_without_objects_is_cropped():
    np.random.seed(0)
    crop = MinIoUCrop(min_ious=(0.5,))
    shapes = {crop.transform(pictured(OBJECTS[:0]))["img_shape"] for _ in range(10)}
    assert len(shapes) > 3
