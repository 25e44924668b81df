"""The commands that a search's settings lead to: whole, with its paths, data and limits."""

import argparse
import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from nni_mcunet.cli import search_verbs, train_supernet
from nni_mcunet.cli.main import fill
from nni_mcunet.core.errors import UserError
from nni_mcunet.search.commands import check_trained, data_word, to_board
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.data import open_data, parse_data
from nni_mcunet.search.data.classification import is_chance
from nni_mcunet.search.nni.said import plain
from nni_mcunet.search.run.export import check_supernet
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet import training

OWN = {"board": "stm32f412", "supernet": "out/supernet/my own.pth", "out": "out/search/p"}
PHOTOS = {"kind": "folder", "root": "my photos", "held_out": 40}


def settings(**changes) -> SearchConfig:
    return SearchConfig.from_dict({"space": "demo", **OWN, **changes}, Path.cwd())


def parsed(line: str) -> argparse.Namespace:
    """Read a line as a shell and the command's parser do."""
    program, name, *words = shlex.split(line)
    assert program == "mcunet"
    return fill(argparse.ArgumentParser(name, exit_on_error=False), name).parse_args(words)


def told(run) -> str:
    """Return the command in the error that `run` raises."""
    with pytest.raises(UserError) as error:
        run()
    return str(error.value).split("`")[1]


@pytest.mark.parametrize("data", [{"kind": "digits"}, {"kind": "folder", "root": "photos"}, PHOTOS])
def test_data_are_written_as_they_are_read(data):
    assert parse_data(shlex.split(data_word(data))[0]) == data


def test_a_missing_super_network_is_told_with_its_space_and_data(tmp_path, monkeypatch):
    """Whoever types the line trains for the search, not on digits; the trial's checks and the command's are one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yml").write_text("base: demo\nclasses: 2\n")
    config = settings(space="space.yml", data=PHOTOS)
    for run in (lambda: check_trained(config), lambda: check_supernet(config, here=False)):
        args = parsed(told(run))
        assert (args.space, args.out) == ("space.yml", "out/supernet/my own.pth") and parse_data(args.data) == PHOTOS
        assert args.adam is None
    detector = {"kind": "detection.DetectorData", "config": str(ROOT / "configs/det/yolov3_bccd.py"), "held_out": 58}
    args = parsed(told(lambda: check_trained(settings(data=detector))))
    assert parse_data(args.data) == detector and args.adam and args.lr < 0.01


@pytest.mark.parametrize(
    "limits, words",
    [({}, []), ({"max_sram_kb": 64}, ["--arena-kb 64"]), ({"max_sram_kb": 63.5}, ["--arena-kb 63"]),
     ({"max_sram_kb": 64, "source": "lines", "halo": "best"}, ["--arena-kb 64", "--source lines"])],
)  # fmt: skip
def test_the_winner_s_way_to_the_board_has_the_limits_of_the_search(limits, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = to_board(settings(data=PHOTOS, **limits), tmp_path / "out/search/p")
    assert [line.split()[1] for line in lines] == ["finetune", "export", "quantize", "generate"]
    asked = [parsed(line) for line in lines]
    assert [parse_data(args) for args in (asked[0].data, asked[2].calib)] == [PHOTOS, PHOTOS]
    assert asked[1].checkpoint == "out/search/p/best_tuned.pth"  # which finetune writes beside best.pth
    assert asked[2].model == asked[1].out and asked[3].model == asked[2].out and asked[3].board == "stm32f412"
    assert all(word in lines[3] for word in words) and len(words) == sum(w in lines[3] for w in ("--arena", "--source"))


def test_a_detector_s_winner_goes_through_mmdet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"kind": "detection.DetectorData", "config": "det.py"}
    lines = to_board(settings(detector={"classes": 3, "taps": [2, 4]}, data=data, max_sram_kb=96), Path("out/search/p"))
    train, deploy = map(parsed, lines)
    assert train.config == deploy.config == "det.py" and deploy.arena_kb == 96
    assert str(deploy.checkpoint) == f"{train.work_dir}/last.pth"
    assert lines[0].endswith("=out/search/p/best.json model.backbone.init_cfg.checkpoint=out/search/p/best.pth")
    several = settings(board="f410", boards=["f412"], objectives=["board"])
    assert parsed(to_board(several, Path("out/search/p"))[0]).pareto


def test_the_commands_are_the_last_lines_of_a_search(tmp_path):
    said = search_verbs.following(settings(max_sram_kb=64), tmp_path)
    assert said.splitlines()[-1].lstrip().startswith("mcunet generate ") and "--arena-kb 64" in said


def test_chance():
    assert is_chance(0.5, 2, 100) and is_chance(0.64, 2, 100) and not is_chance(0.66, 2, 100)
    assert is_chance(0.1, 10, 10_000) and not is_chance(0.12, 10, 10_000)


@pytest.mark.parametrize("score", [0.05, 0.9])
def test_a_super_network_that_only_guesses_says_so(score, monkeypatch, capsys):
    space, data = load_space("demo"), open_data({"kind": "digits"})
    monkeypatch.setattr(training, "load_supernet", lambda path: (space, None))
    monkeypatch.setattr(training, "to_device", lambda net, device: net)
    monkeypatch.setattr(training, "evaluate", lambda *_: score)
    train_supernet.report("x.pth", data, "cpu")
    said = capsys.readouterr()
    assert said.out.count("accuracy") == 6
    guesses = "clearly better than guessing, 0.100 for 10 classes" in said.err and "--shared" in said.err
    assert guesses == (score < 0.1), said.err


def test_nnictl_in_a_pipe(monkeypatch):
    """Neither colours nor NNI's own name for the command; --verbose leaves the words as they are."""
    lines = ["\x1b[32mTo stop experiment run \"nnictl stop abc\"\x1b[0m\n",
             "\x1b[33mWARNING: Timeout, retry...\x1b[0m\n",
             "see https://nni/nnictl or mcunet-nnictl stop\n"]  # fmt: skip
    for shown in (False, True):
        monkeypatch.setenv("MCUNET_VERBOSE", "1" if shown else "")
        plain(stream := io.StringIO())
        print(*lines, sep="", end="", file=stream)
        text = stream.getvalue()
        assert "\x1b" not in text and ("Timeout" in text) == shown and text.endswith("or mcunet-nnictl stop\n")
        assert text.startswith('To stop experiment run "nnictl' if shown else 'To stop experiment run "mcunet-nnictl')


def test_nnictl_itself_is_plain(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    line = [sys.executable, "-m", "nni_mcunet.search.nnictl", "create", "--config", "none.yml", "--verbose"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert "\x1b" not in done.stdout and "ERROR: " in done.stdout, done  # which NNI writes in red
