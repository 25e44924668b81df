"""See what a long command says: our lines, how far it is and each metric; those of mmengine, mmdet and pycocotools with
--verbose only. The log file has all of them."""

import json
import logging
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from mmengine.logging import MMLogger, print_log
from PIL import Image

from detection.data.data_survey import survey
from detection.data.datasets import build_dataset
from detection.said import EMPTY, only_ours, tell, without_prints
from detection.training import progress_hook
from detection.training.progress_hook import ProgressHook
from detection.training.testing import add_coco
from nni_mcunet.cli.compare_boxes import print_table
from nni_mcunet.cli.parser import Parser, add_verbose, without_verbose
from nni_mcunet.core.errors import Note, exit_on_user_error, verbose
from nni_mcunet.engine.detect.agreement import agreement


@pytest.fixture
def log(tmp_path, monkeypatch, request):
    """A function that writes one line of each kind; returns what is shown and what the file holds."""

    def write(name: str):
        shown, path = tmp_path / f"{name}.out", tmp_path / f"{name}.log"
        with shown.open("w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            logger = MMLogger.get_instance(f"{request.node.name}{name}", log_file=str(path))
            only_ours(logger)
            print_log("Hooks will be executed", "current")
            print_log("FileClient will be deprecated", "current", logging.WARNING)
            tell("training data: 3 pictures")
            tell("the warm-up outlasts it", logging.WARNING)
            logger.error(EMPTY + ".")
            logger.error("the disk is gone")
            with without_prints():
                print("creating index...")
        return shown.read_text(), path.read_text()

    monkeypatch.delenv("MCUNET_VERBOSE", raising=False)
    yield write
    for name in [name for name in MMLogger._instance_dict if name.startswith(request.node.name)]:
        MMLogger._instance_dict.pop(name)


def test_a_terminal_gets_our_lines_and_errors(log):
    shown, kept = log("quiet")
    assert shown == "training data: 3 pictures\nwarning: the warm-up outlasts it\nerror: the disk is gone\n"
    assert all(text in kept for text in ("Hooks will", "FileClient", "training data", EMPTY, "the disk is gone"))


def test_verbose_shows_the_lines_of_others(log, monkeypatch):
    monkeypatch.setenv("MCUNET_VERBOSE", "1")
    shown, _ = log("verbose")
    for text in ("Hooks will", "FileClient", "mmengine - INFO - training data", EMPTY, "creating index"):
        assert text in shown


def test_verbose_may_stand_anywhere(monkeypatch):
    monkeypatch.setenv("MCUNET_VERBOSE", "")
    words = ["run", "--out", "a"]
    assert without_verbose(words) == words and not verbose()
    assert without_verbose(["run", "--verbose", "--out", "a"]) == words and verbose()
    add_verbose(parser := Parser("mcunet x"))
    assert "--verbose" in parser.format_help()


def test_warnings_of_others_are_for_verbose(monkeypatch, capsys):
    for asked in ("", "1"):
        monkeypatch.setenv("MCUNET_VERBOSE", asked)
        others: list[str] = []
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *where, said=others: said.append(str(message))
            with exit_on_user_error():
                warnings.simplefilter("always")
                warnings.warn("a tensor is a scalar", UserWarning, stacklevel=1)
                warnings.warn("the file ends early", Note, stacklevel=1)
        assert others == ["a tensor is a scalar"] * bool(asked)
        assert capsys.readouterr().err == "note: the file ends early\n"


def test_the_hook_counts_steps_and_says_metrics(monkeypatch, capsys):
    lines, clock = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_hook, "tell", lines.append)
    monkeypatch.setattr("nni_mcunet.core.progress.time", SimpleNamespace(monotonic=lambda: clock.now))
    runner = SimpleNamespace(iter=10, max_iters=20, epoch=1, max_epochs=2, rank=0, test_dataloader=[0] * 3)
    hook = ProgressHook()
    hook.before_train(runner)  # resumed behind its tenth step
    assert lines.pop() == "goes on behind epoch 1 of 2"
    for runner.iter in range(10, 20):
        clock.now += 60
        hook.after_train_iter(runner, 0, None, {"loss": SimpleNamespace(item=lambda: 2.5)})
    hook.after_train(runner)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 10 and said[0] == "training: 1 of 10 steps in 60 s, about 540 s to go, epoch 2 of 2, loss 2.5"
    hook.after_val_epoch(runner, {"pascal_voc/mAP": 0.5, "pascal_voc/AP50": 0.25, "more": 1.0})
    hook.after_val_epoch(runner, {"coco/bbox_mAP": float("nan")})
    assert lines == [
        "epoch 1 of 2: pascal_voc/mAP 0.500, pascal_voc/AP50 0.250",
        "epoch 1 of 2: no box is found yet",
    ]
    hook.before_test_epoch(runner)
    clock.now += 60
    hook.after_test_iter(runner, 0)
    hook.after_test_epoch(runner, {})
    assert capsys.readouterr().err == "testing: 1 of 3 batches in 60 s, about 120 s to go\n"


def test_a_survey_of_coco_json_says_nothing_of_pycocotools(tmp_path, capsys, monkeypatch):
    """Nor does the mark of what a deploy is of: both read annotations again."""
    monkeypatch.delenv("MCUNET_VERBOSE", raising=False)
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg")
    note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    picture = {"id": 1, "file_name": "a.jpg", "width": 32, "height": 24}
    content = {"images": [picture], "annotations": [note], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = {"type": "CocoDataset", "ann_file": str(tmp_path / "a.json"), "data_prefix": {"img": str(tmp_path)},
            "metainfo": {"classes": ("cat",)}, "pipeline": []}  # fmt: skip
    found = survey(build_dataset(data), decode=True)
    assert found.pictures == 1 and capsys.readouterr().out == ""


def test_annotations_are_read_in_one_place():
    """datasets.annotations keeps pycocotools quiet."""
    for path in sorted((ROOT / "detection").rglob("*.py")):
        assert path.name == "datasets.py" or ".load_data_list()" not in path.read_text(), path


def test_the_columns_of_compared_boxes_are_said(capsys):
    print_table({"0.3": agreement(np.array([[0.4, 0.1, 0.2, 0.01], [np.inf] * 4]), np.array([0.4, 0.2]))})
    said = capsys.readouterr().out
    head = next(line for line in said.splitlines() if line.lstrip().startswith("score >="))
    legend = said.partition(head)[0]
    assert "q0.9 px" in head and all(
        word in legend for word in ("pixels", "qN px", "centre", "size", "score", "before NMS")
    )
    shown, before = (line.split() for line in said.splitlines()[-2:])
    assert shown[2] == "50.0%" and shown[-3:] == ["0.10", "0.20", "0.0100"]
    assert before == ["before", "NMS", *["100.0%"] * 5]


def test_without_a_box_there_is_nothing_to_compare(capsys):
    nothing = agreement(np.zeros((0, 4)), np.zeros(0))
    print_table({"0.3": nothing, "0.05": nothing})
    said = capsys.readouterr().out
    assert said.startswith("no box of the float detector has a score of 0.05:") and said.count("\n") == 1


def test_the_metric_s_first_look_at_the_test_set_says_nothing(capsys):
    class Said:
        @property
        def test_evaluator(self):
            print("index created!")
            return SimpleNamespace(metrics=[])

    add_coco(Said())
    assert not capsys.readouterr().out
