"""Refuse a part of a config that mmengine cannot build in one line that names its key."""

import re
import sys

# isort: split
import pytest
from conftest import ROOT
from mmengine.registry import LOOPS, build_from_cfg
from mmengine.runner import BaseLoop

from detection import WorkDirRunner, building, load_config, prepare
from detection.data.data_files import open_pictures
from nni_mcunet.cli.digits import write_all
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict:
    """A small network and a few pictures, as --cfg-options gives them."""
    folder = tmp_path_factory.mktemp("digits")
    write_all(folder / "VOC2007", 4, 2, 64, 0)
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    arch = ArchSpec("small", 64, 16, blocks).save(folder / "arch.json")
    data = {f"{loader}_dataloader.dataset.data_root": str(folder) for loader in ("train", "val", "test")}
    few = {"train_dataloader.num_workers": 0, "val_dataloader.num_workers": 0, "train_cfg.max_epochs": 1}
    return {"model.backbone.arch": str(arch), "train_dataloader.batch_size": 2, **data, **few}


def train(options: dict, folder) -> None:
    config = prepare(ROOT / "configs/det/yolov3_digits.py", options, folder)
    config.log_level = options.get("log_level", "ERROR")
    config.experiment_name = folder.name  # two within a second would share a logger, whose level is not read again
    with building(config, "c.py"):
        WorkDirRunner.from_cfg(config).train()


PIPELINE = r"train_dataloader\.dataset\.pipeline\[1\]"
TYPE = r"\.type is '\w+', and mmdet and mmengine have none of that name"
WRONG = [  # option, its value, the message
    ("train_dataloader.dataset.pipeline.1.type", "LoadAnnotation", PIPELINE + TYPE + r" \(near: LoadAnnotations, "),
    ("train_dataloader.dataset.pipeline.1.nosuch", 3, PIPELINE + " cannot be built: TypeError: .*'nosuch'"),
    ("train_dataloader.sampler.type", "NoSuch", r"train_dataloader\.sampler" + TYPE),
    ("train_dataloader.collate_fn", {"type": "NoSuch"}, r"train_dataloader\.collate_fn" + TYPE),
    ("train_dataloader.batch_size", 0, "train_dataloader cannot be built: ValueError: batch_size should be a positive"),
    ("model.type", "NoSuch", "model" + TYPE),
    ("model.bbox_head.loss_cls.type", "NoSuch", r"model\.bbox_head\.loss_cls" + TYPE),
    ("model.backbone.nosuch", 1, r"model\.backbone cannot be built: TypeError: .*'nosuch'"),
    ("optim_wrapper.optimizer.type", "NoSuch", r"optim_wrapper\.optimizer" + TYPE),
    ("optim_wrapper.optimizer.lr", [1], r"optim_wrapper\.optimizer cannot be built: TypeError"),
    ("param_scheduler.0.type", "NoSuch", r"param_scheduler\[0\]" + TYPE),
    ("default_hooks.checkpoint.type", "NoSuch", r"default_hooks\.checkpoint" + TYPE),
    ("custom_hooks", [{"type": "NoSuch"}], r"custom_hooks\[0\]" + TYPE),
    ("val_evaluator.metric", "NoSuch", "val_evaluator cannot be built: KeyError: metric should be one of"),
    ("train_cfg.max_epochs", [1], "train_cfg cannot be built: TypeError"),
    ("log_level", "LOUD", "mmengine does not run it: KeyError: LOUD"),
    ("val_dataloader", None, "mmengine does not run it: ValueError: val_dataloader, val_cfg, and val_evaluator"),
]  # fmt: skip


@pytest.mark.parametrize("key, value, message", WRONG, ids=lambda part: str(part)[:40])
def test_a_part_that_cannot_be_built(key, value, message, options, tmp_path):
    with pytest.raises(UserError, match=rf"^c\.py: {message}"):
        train(options | {key: value}, tmp_path)


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("data_root", 3, "text"),
        ("custom_hooks.0.type", "EMAHook", "a list"),  # the base has none: mmengine makes it a dict
        ("param_scheduler", 3, "a dict or a list"),
        ("val_evaluator", 3, "a dict or a list"),
        ("model.test_cfg", 3, "a dict"),
        ("load_from", 3, "text"),
    ],
)
def test_a_part_of_another_kind(key, value, expected, options):
    with pytest.raises(UserError, match=rf"\.py: {key.split('.0')[0]} is .*: expected {expected}"):
        load_config(ROOT / "configs/det/yolov3_digits.py", options | {key: value})


@pytest.mark.parametrize(
    "key, expected",
    [
        ("default_hooks.checkpoint.interval", "a number"),
        ("default_hooks.checkpoint.max_keep_ckpts", "a number"),
        ("optim_wrapper.clip_grad.max_norm", "a number"),
        ("optim_wrapper.optimizer.lr", "a number"),
        ("param_scheduler.0.end", "a number"),
        ("train_cfg.val_interval", "a number"),
        ("model.test_cfg.score_thr", "a number"),
        ("model.test_cfg.nms.iou_threshold", "a number"),
        ("train_dataloader.sampler.shuffle", "True or False"),
        ("model.test_cfg.nms.type", "one of nms, soft_nms, nms_match"),
    ],
)
def test_a_value_of_another_kind(key, expected, options):
    """mmengine counts with these after an epoch, or when the first box is found: too late, or never."""
    place = re.escape(key.replace(".0", "[0]"))
    with pytest.raises(UserError, match=rf"\.py: {place} is 'x': expected {expected}$"):
        load_config(ROOT / "configs/det/yolov3_digits.py", options | {key: "x"})


def test_a_module_named_by_an_option_is_imported(options, tmp_path, monkeypatch):
    """mmengine imports those of the file only."""
    (tmp_path / "named_by_an_option.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    load_config(ROOT / "configs/det/yolov3_digits.py", options | {"custom_imports.imports": ["named_by_an_option"]})
    assert "named_by_an_option" in sys.modules
    with pytest.raises(UserError, match=r"--cfg-options do not fit .*nosuchmodule"):
        load_config(ROOT / "configs/det/yolov3_digits.py", options | {"custom_imports.imports": ["nosuchmodule"]})


def test_other_errors_pass(monkeypatch):
    class Loop(BaseLoop):
        def __init__(self): ...

        def run(self):
            raise RuntimeError("while it trains")

    for error in (FileNotFoundError("a"), UserError("b"), RuntimeError("not of a part")):
        with pytest.raises(type(error), match=str(error)), building({}, "c.py"):
            raise error

    def train():
        build_from_cfg({"type": Loop}, LOOPS).run()

    monkeypatch.setattr(sys.modules["detection.data.building"], "RUNS", (train.__code__,))
    with pytest.raises(RuntimeError, match="while it trains"), building({"train_cfg": {"type": "Loop"}}, "c.py"):
        train()


def test_a_pipeline_that_a_command_gives_is_named(options):
    """To compare boxes, the pictures of one loader go through the pipeline of another."""
    config = load_config(ROOT / "configs/det/yolov3_digits.py", options)
    with pytest.raises(UserError, match=r"^the config: pipeline\[0\]" + TYPE):
        open_pictures(config.train_dataloader.dataset, pipeline=[{"type": "NoSuch"}])
