"""The settings of a search: classArgs with a base, the limits they mean, boards from files; what is wrong is named."""

import pytest

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import BoardError, UserError
from nni_mcunet.search.config import ConfigError, SearchConfig
from nni_mcunet.search.supernet.recipe_options import read_settings


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boardz": 1}, "unknown key 'boardz'"),
        ({"board": "stm32x"}, "unknown board 'stm32x'"),
        ({"population": 0}, "population is 0"),
        ({"parents": -1}, "parents is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"max_flash_kb": 4096}, "max_flash_kb is 4096: stm32h743 has 2016 kB"),
        ({"max_latency_ms": 0}, "max_latency_ms is 0"),
        ({"patches": []}, "patches is"),
        ({"patches": [0]}, "patches is"),
        ({"patches": 2}, "patches is 2: expected a list"),
        ({"halo": "none"}, "halo is 'none': expected one of clip, cache, best"),
        ({"halo": ["clip"]}, "halo is"),
        ({"data": "digits"}, "data is 'digits': expected a mapping with a kind"),
        ({"base": 3}, "base is 3"),
        ({"base": "missing.yml"}, "base: no such file: .*missing.yml"),
        ({"max_sram_kb": 9999}, "984 kB"),
        ({"detector": {"classes": 10, "taps": [9]}}, "taps"),
        ({"detector": {"class": 10}}, "unknown key 'class'"),
        ({"detector": 3}, "detector is 3: expected a mapping"),
        ({"detector": {"classes": 10, "taps": 3}}, "detector.taps is 3"),
        ({"detector": {"classes": 10, "taps": ["2"]}}, "detector.taps is '2'"),
        ({"detector": {"classes": 10, "taps": [2], "width": "48"}}, "detector.width is '48'"),
        ({"detector": {"classes": 10, "taps": [2], "width": 0}}, "detector.width is 0"),
        ({"detector": {"classes": None, "taps": [2]}}, "detector.classes is None"),
        ({"detector": {"classes": 10, "taps": [2], "anchors": 0}}, "detector.anchors is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"batch": True}, "batch is True"),
        ({"mutation": 5}, "mutation is 5"),
        ({"mutation": "0,1"}, "mutation is '0,1'"),
        ({"mutation": float("nan")}, "mutation is nan"),
        ({"max_sram_kb": float("nan")}, "max_sram_kb is nan"),
        ({"max_mmacs": float("inf")}, "max_mmacs is inf"),
        ({"max_mmacs": "18"}, "max_mmacs is '18'"),
        ({"space": 5}, "space is 5"),
        ({"supernet": 5}, "supernet is 5"),
        ({"out": None}, "out is None"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    args = dict(space="demo", board="h743", supernet="x.pth", out="out")
    with pytest.raises(UserError, match=message):
        SearchConfig.from_dict(args | change).evolution()


def test_a_base_gives_what_is_not_said(tmp_path):
    (tmp_path / "deep.yml").write_text(
        "{space: demo, board: f412, seed: 7, max_mmacs: 9, data: {kind: folder, root: d}}"
    )
    (tmp_path / "base.yml").write_text("{base: deep.yml, board: board.yml, supernet: s.pth, seed: 8}")
    (tmp_path / "board.yml").write_text("{name: x, core: cortex-m4, clock_hz: 5000000, sram: 65536, flash: 262144}")
    config = SearchConfig.from_dict({"base": "base.yml", "out": "o", "parents": 0, "max_mmacs": None}, tmp_path)
    assert (config.space, config.seed, config.parents, config.max_mmacs) == ("demo", 8, 0, None)
    assert config.supernet == str(tmp_path / "s.pth") and config.out == str(tmp_path / "o")
    assert config.data == {"kind": "folder", "root": str(tmp_path / "d")}
    assert config.limits().board.name == "x" and config.limits().board.arena_limit == 56 * 1024
    (tmp_path / "deep.yml").write_text("{spaces: demo}")
    with pytest.raises(ConfigError, match=r"deep\.yml has the unknown key 'spaces'"):
        SearchConfig.from_dict({"base": "base.yml", "out": "o"}, tmp_path)
    (tmp_path / "deep.yml").write_text("{base: base.yml}")
    with pytest.raises(ConfigError, match="is its own base"):
        SearchConfig.from_dict({"base": "base.yml", "out": "o"}, tmp_path)


def test_limits_are_those_of_the_settings():
    args = dict(space="demo", board="f412", supernet="x.pth", out="out", max_sram_kb=64, max_flash_kb=100.5)
    found = SearchConfig.from_dict(args | {"max_latency_ms": 300, "max_mmacs": 1.5, "patches": [1, 2]}).limits()
    assert (found.board.arena_limit, found.board.model_limit) == (64 * 1024, 100.5 * 1024)
    assert (found.max_ms, found.max_macs, found.patches) == (300, 1_500_000, (1, 2))


@pytest.mark.parametrize(
    "text, message",
    [
        ("{name: x, core: cortex-m4, clock_hz: 1, sram: 9, flsh: 9}", "unknown key 'flsh'"),
        ("{name: x, core: cortex-m4, clock_hz: 1, sram: 9}", "lacks the key 'flash'"),
        ("[1]", "the board is .*: expected a mapping"),
        ("{name: x", "b.yml"),
        ("{name: x, core: m, clock_hz: 1, sram: 1e6, flash: 9}", r"sram \(bytes\) is '1e6': expected an integer"),
        ("{name: x, core: 4, clock_hz: 1, sram: 9, flash: 9}", "core is 4"),
        ("{name: x, core: m, clock_hz: 1, sram: 65536, flash: 65536, cycles_per_instruction: 0}", "instruction is 0"),
    ],
)
def test_a_malformed_board_is_refused(tmp_path, text, message):
    (tmp_path / "b.yml").write_text(text)
    with pytest.raises(BoardError, match=message):
        get_board(str(tmp_path / "b.yml"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("space: 5", "space is 5"),
        ("out: 5", "out is 5"),
        ("save_every: 0", "save_every is 0"),
        ("save_every: no", "save_every is False"),
        ("steps: 5", "unknown key 'steps'"),
    ],
)
def test_a_wrong_training_file_is_refused(tmp_path, text, message):
    (tmp_path / "s.yml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(str(tmp_path / "s.yml"))
