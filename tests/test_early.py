"""Names and numbers that can be checked at once are checked before the work that they would make useless: the files
that a command reads first are empty, or not even there."""

import json
from pathlib import Path

import pytest
from inprocess import command

from nni_mcunet.core.file_sets import MANIFEST

CASES = [
    (["generate", "no.onnx", "--board", "stm32f999", "-o", "out"], "unknown board 'stm32f999'"),
    (["generate", "no.onnx", "--board", "stm32f412", "-o", "taken"], f"taken is not empty and has no {MANIFEST}"),
    (["generate", "no.onnx", "--board", "stm32f412", "--project", "--picture", "no.jpg", "-o", "out"], "no.jpg"),
    (["profile", "there.onnx", "--board", "stm32f999"], "unknown board 'stm32f999'"),
    (["detect", "there.py", "there.pth", "there", "-o", "taken"], f"taken is not empty and has no {MANIFEST}"),
    (["detect", "no.py", "no.pth", "a.jpg", "--score", "30", "-o", "out"], "'30': expected a number from 0 to 1"),
    (["run_board", "no", "--board", "stm32f412", "--emulate", "--picture", "a.jpg", "--score", "nan"], "from 0 to 1"),
    (
        ["run_board", "no", "--board", "stm32f412", "--emulate", "--picture", "a.jpg", "--timeout", "-1"],
        "seconds above 0",
    ),
    (["compare_boxes", "no.py", "no.pth", "--score", "0.3", "1.5"], "'1.5': expected a number from 0 to 1"),
    (["new_detector", "there", "--board", "stm32f999"], "unknown board 'stm32f999'"),
    (["new_detector", "there", "--board", "stm32f412", "-o", "taken"], f"taken is not empty and has no {MANIFEST}"),
    (["new_detector", "no", "--board", "stm32f412", "--size", "0", "64"], "'0': expected a positive integer"),
    (["finetune", "arch.json", "there.pth", "--data", "folder:no", "--device", "tpu"], "device is tpu"),
    (["finetune", "no.json", "no.pth", "--data", "folder:no"], "no.json"),
    (["finetune", "arch.json", "no.pth", "--data", "folder:no"], "no.pth"),
    (["pretrain", "arch.json", "--data", "folder:no", "--device", "tpu"], "device is tpu"),
    (["pretrain", "no.json", "--data", "folder:no"], "no.json"),
    (["train_supernet", "--space", "no", "--data", "folder:no"], "space"),
    (["train_supernet", "--data", "folder:no", "--device", "tpu"], "device is tpu"),
    (
        ["deploy", "there.py", "there.pth", "--boards", "stm32f412", "--arena-kb", "0", "-o", "out"],
        "0 bytes for the network",
    ),
    (["deploy", "there.py", "no.pth", "--boards", "stm32f412", "-o", "out"], "no.pth"),
    (["search", "run", "--timeout", "0"], "'0': expected seconds above 0"),
    (["search", "run", "--silence", "x"], "'x': expected seconds above 0"),
]


@pytest.mark.parametrize("words, said", CASES, ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "")
def test_a_slip_is_said_before_the_work(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/mine.txt").touch()
    Path("there").mkdir()
    for ending in (".onnx", ".py", ".pth"):
        Path(f"there{ending}").touch()
    layer = {"k": 3, "s": 2, "mid": 8, "c": 8}
    arch = {"name": "a", "resolution": [32, 32], "stem": 8, "stages": [[layer]], "head": 8, "classes": 2}
    Path("arch.json").write_text(json.dumps(arch))
    done = command(monkeypatch, capsys, *words)
    last = done.err.splitlines()[-1]
    assert done.code == 2 and "error: " in last and said in last, done
    assert not Path("out").exists() and [p.name for p in Path("taken").iterdir()] == ["mine.txt"]
