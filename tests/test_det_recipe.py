"""Training recipes: losses that do not depend on the batch, ignored objects, and what the log says of a recipe."""

import logging
import re

import detection  # before mmdet

# isort: split
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmdet.models.dense_heads import YOLOV3Head
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import InstanceData

from detection import RecipeReportHook, load_config, load_detector
from detection.training.recipe_report import too_long

DIGITS = "configs/det/yolov3_digits.py"
BOXES = [[20.0, 30.0, 50.0, 70.0], [80.0, 20.0, 100.0, 50.0]]


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        torch.manual_seed(0)
        return load_detector(DIGITS).train()


def objects(boxes, labels=None) -> InstanceData:
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels)
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels=labels)


def losses(model, samples, seed: int = 0) -> dict[str, float]:
    """Compute the losses of the head on random maps, the same for each picture, given (objects, ignored) of each."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [model.graph.tensors[name] for name in model.graph.outputs[::-1]]
    maps = [torch.randn(1, t.c, t.h, t.w, generator=generator).repeat(len(samples), 1, 1, 1) for t in shapes]
    found = model.bbox_head.loss_by_feat(maps, [s[0] for s in samples], [{}] * len(samples), [s[1] for s in samples])
    return {name: float(sum(values)) for name, values in found.items()}


def test_losses_are_the_mean_over_the_pictures(model):
    """mmdet's sums are divided, so that a batch of copies has the loss of one picture."""
    one, other = (objects(BOXES, [3, 7]), None), (objects(BOXES[:1], [1]), None)
    first = losses(model, [one])
    assert losses(model, [one] * 5) == pytest.approx(first)
    assert losses(model, [one, other])["loss_cls"] == pytest.approx(
        (first["loss_cls"] + losses(model, [other])["loss_cls"]) / 2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.bbox_head), "loss_by_feat", YOLOV3Head.loss_by_feat)
        assert losses(model, [one]) == pytest.approx(first)
        assert losses(model, [one] * 5) == pytest.approx({name: 5 * value for name, value in first.items()})


def test_no_ignored_object_changes_nothing(model):
    plain = losses(model, [(objects(BOXES), None)])
    assert losses(model, [(objects(BOXES), objects([]))]) == plain
    assert losses(model, [(objects([]), None)])["loss_cls"] == 0


def test_an_ignored_object_is_not_background(model):
    """Neither an object: the losses of class and box are as without it, that of objectness has fewer negatives."""
    alone = losses(model, [(objects(BOXES[:1]), None)])
    spared = losses(model, [(objects(BOXES[:1]), objects(BOXES[1:]))])
    found = losses(model, [(objects(BOXES), None)])
    assert {k: v for k, v in spared.items() if k != "loss_conf"} == {k: v for k, v in alone.items() if k != "loss_conf"}
    assert spared["loss_conf"] < alone["loss_conf"] and found["loss_cls"] > alone["loss_cls"]


@pytest.mark.parametrize("box", [BOXES[0], [60.0, 60.0, 63.0, 64.0], [0.0, 0.0, 128.0, 128.0]])
def test_what_of_an_ignored_object_is_spared(model, box):
    """The anchors that the object would be given, and those within it: of a tiny one, an ordinary one, and a crowd."""
    head = model.bbox_head
    sizes = [(t.h, t.w) for t in (model.graph.tensors[name] for name in model.graph.outputs[::-1])]
    anchors = head.prior_generator.grid_priors(sizes, device="cpu")
    spared = torch.cat(head._spared(anchors, sizes, objects([box])))
    target, negative = head._get_targets_single(
        anchors, head.responsible_flags(sizes, torch.tensor([box]), "cpu"), objects([box])
    )
    assert spared[target[:, 4] > 0].all() and (target[:, 4] > 0).any() and spared[negative == 0].all()
    x1, y1, x2, y2 = box
    centre = torch.cat(anchors).reshape(-1, 2, 2).mean(1)
    far = (centre[:, 0] < x1 - 64) | (centre[:, 0] > x2 + 64) | (centre[:, 1] < y1 - 64) | (centre[:, 1] > y2 + 64)
    assert not spared[far].any()
    if x2 - x1 == 128:
        assert spared[((torch.cat(anchors) >= 0) & (torch.cat(anchors) <= 128)).all(1)].all()
    else:
        assert spared.float().mean() < 0.1


def test_a_real_object_beside_an_ignored_one_is_trained(model):
    """The same place: what is an object for one is not given up for the other."""
    both = losses(model, [(objects(BOXES[:1]), objects(BOXES[:1]))])
    alone = losses(model, [(objects(BOXES[:1]), None)])
    assert {k: v for k, v in both.items() if k != "loss_conf"} == {k: v for k, v in alone.items() if k != "loss_conf"}


def test_mmdets_loss_hands_the_ignored_on(model):
    """Through the detector: what LoadAnnotations and PackDetInputs mark is what the head spares."""

    def conf(ignored) -> float:
        meta = dict(img_shape=(128, 128), ori_shape=(128, 128), scale_factor=(1.0, 1.0))
        sample = DetDataSample(gt_instances=objects(BOXES[:1]), ignored_instances=objects(ignored), metainfo=meta)
        data = model.data_preprocessor(
            {"inputs": [torch.zeros(3, 128, 128, dtype=torch.uint8)], "data_samples": [sample]}, True
        )
        return float(sum(model(**data, mode="loss")["loss_conf"]).detach())

    torch.manual_seed(0)
    assert conf(BOXES[1:]) < conf([])


def test_the_mean_trains_as_the_clipped_sum_did(monkeypatch):
    """AdamW does not see the scale of the loss, and the clip has it: BCCD's and the digits' recipes are what they were
    when the losses were sums over the batch, clipped at 500."""
    monkeypatch.chdir(ROOT)
    for config in (load_config(DIGITS), load_config("configs/det/yolov3_bccd.py")):
        assert config.optim_wrapper.clip_grad.max_norm * config.train_dataloader.batch_size == 500
    ways = []
    for scale, most in ((8.0, 500.0), (1.0, 62.5)):
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 50, dtype=torch.float64))
        wrapper = OptimWrapper(torch.optim.AdamW([weights], lr=0.003, weight_decay=0.01), clip_grad=dict(max_norm=most))
        for step in range(30):
            wrapper.update_params(
                scale * 1000 * (weights * torch.linspace(0.5, 1.5, 50) - 0.1 * (step % 3)).square().sum()
            )
        ways.append(weights.detach())
    assert torch.allclose(*ways, atol=1e-6) and not torch.allclose(
        ways[0], torch.linspace(-1, 1, 50).double(), atol=1e-2
    )


def scheduler(**config):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optimizer, epoch_length=37))


def linear(**config) -> dict:
    return dict(type="LinearLR", start_factor=0.1, begin=0, **config)


def cosine(**config) -> dict:
    return dict(type="CosineAnnealingLR", eta_min=0, by_epoch=True, begin=5, **config)


def steps(*milestones) -> dict:
    return dict(type="MultiStepLR", by_epoch=True, milestones=list(milestones))


@pytest.mark.parametrize(
    "config, limit, message",
    [
        (
            linear(by_epoch=False, end=1000),
            350,
            "LinearLR goes on to iteration 1,000, and the training ends at 350: the w",
        ),
        (linear(by_epoch=False, end=350), 350, None),
        (linear(by_epoch=True, end=5, convert_to_iter_based=True), 100, "to iteration 185, .* the warm-up outlasts it"),
        (dict(type="ConstantLR", factor=0.1, by_epoch=True, begin=0, end=5), 3, "epoch 5, and the training ends at 3"),
        (cosine(end=300), 100, "to epoch 300, .*never comes to its end"),
        (cosine(T_max=95), 100, None),
        (dict(type="PolyLR", eta_min=0, by_epoch=True, end=20), 10, "PolyLR goes on to epoch 20"),
        (steps(8, 11, 20), 11, r"milestones at epoch \[11, 20\]"),
        (steps(8, 11), 12, None),
        (dict(type="ExponentialLR", gamma=0.9, by_epoch=True), 3, None),
    ],
)
def test_schedules_that_the_training_is_too_short_for(config, limit, message):
    said = too_long(scheduler(**config), limit)
    assert said is None if message is None else re.search(message, said)


class Runner:
    """Stand in for the part of mmengine that the hook reads."""

    max_epochs, max_iters, epoch, param_schedulers = 3, 100, 0, None

    def __init__(self, most, optimizer=torch.optim.SGD):
        parameter = torch.nn.Parameter(torch.zeros(1))
        clip = None if most is None else dict(max_norm=most)
        self.optim_wrapper = OptimWrapper(optimizer([parameter], lr=1.0), clip_grad=clip)
        self.message_hub = MessageHub.get_instance(f"recipe{most}")


def epoch(hook, runner, norms) -> None:
    hook.before_train_epoch(runner)
    for i, norm in enumerate(norms):
        runner.message_hub.update_scalar("train/grad_norm", norm)
        hook.after_train_iter(runner, i)
    hook.after_train_epoch(runner)
    runner.epoch += 1


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr("detection.training.recipe_report.tell", lambda text, level: lines.append((level, text)))
    return lines


def test_adam_s_gradients_may_always_be_clipped(log):
    """It divides by their size: the recipe of `mcunet new-detector` clips nearly all of the first epoch's."""
    epoch(RecipeReportHook(), Runner(50.0, torch.optim.AdamW), [60, 70, 80])
    assert log == []


def test_gradients_that_are_always_clipped_are_in_the_log(log):
    hook, runner = RecipeReportHook(), Runner(50.0)
    epoch(hook, runner, [10, 60, 40])
    assert log == []
    epoch(hook, runner, [100, 300, 200])
    ((level, text),) = log
    assert (
        level == logging.WARNING
        and "clipped in 3 of 3 steps of epoch 2: max_norm is 50 and its norm 200 (median)" in text
    )
    epoch(hook, runner, [100, 300])
    assert len(log) == 1  # once is enough
    epoch(hook, runner, [1, 1])
    epoch(hook, runner, [100])
    assert len(log) == 2
    epoch(RecipeReportHook(), Runner(None), [100])
    assert len(log) == 2


def test_a_warm_up_that_outlasts_the_training_is_in_the_log(log):
    runner = Runner(None)
    runner.param_schedulers = [scheduler(type="LinearLR", start_factor=0.1, by_epoch=False, end=500)]
    RecipeReportHook().before_train(runner)
    ((level, text),) = log
    assert level == logging.WARNING and "warm-up outlasts it" in text
    runner.param_schedulers = {"all": runner.param_schedulers}
    RecipeReportHook().before_train(runner)
    assert len(log) == 2


@pytest.mark.parametrize("name", ["yolov3_voc_h743", "yolov3_bccd", "s3fd_widerface_l", "s3fd_widerface_mini"])
def test_every_config_reports_its_recipe(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_config(f"configs/det/{name}.py").default_hooks.recipe_report.type == "RecipeReportHook"


def test_s3fds_base_is_edgemls_recipe(monkeypatch):
    """Half of the crops by data-anchor sampling, faces under 6 pixels ignored, the schedule as long as the training."""
    monkeypatch.chdir(ROOT)
    config = load_config("configs/det/s3fd_widerface_l.py", {"train_cfg.max_epochs": 50})
    (choice,) = [step for step in config.train_pipeline if step.type == "RandomChoice"]
    assert choice.prob == [0.5, 0.5]
    assert [(one.type, one.ignore_below) for (one,) in choice.transforms] == [
        ("FaceCrop", 6),
        ("DataAnchorSampling", 6),
    ]
    assert all("end" not in step or step.end <= 50 for step in config.param_scheduler)
    from mmdet.registry import TRANSFORMS
    from mmdet.structures.bbox import HorizontalBoxes
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        crop = TRANSFORMS.build(choice.transforms[0][0])
    faces = HorizontalBoxes(torch.tensor([[10.0, 10, 15, 30], [100, 100, 200, 220]]))
    np.random.seed(3)
    found = crop(dict(img=np.zeros((640, 640, 3), np.uint8), gt_bboxes=faces, gt_bboxes_labels=np.zeros(2, int),
                      gt_ignore_flags=np.zeros(2, bool)))  # fmt: skip
    sides = np.minimum(found["gt_bboxes"].widths.numpy(), found["gt_bboxes"].heights.numpy())
    assert (found["gt_ignore_flags"] == (sides < 6)).all() and detection.FaceCrop is not None
