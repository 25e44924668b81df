"""Files of strangers: damaged, enormous, of another kind. Each ends in one line, exit code 2, within seconds."""

import argparse
import ast
import copy
import json
import os
import time
from collections.abc import Iterator

import pytest
import yaml
from conftest import ROOT
from inprocess import command, refused

from nni_mcunet.core import errors
from nni_mcunet.core.boards import Board, get_board
from nni_mcunet.core.errors import BoardError, UserError, exit_on_user_error, one_line
from nni_mcunet.core.ir.arch import ArchSpec, parse_schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.validate import (
    check_is_file,
    check_keys,
    check_names,
    check_numbers,
    file_bytes,
    file_text,
    parse_json,
    parse_json_lines,
    parse_yaml,
    read_json,
    read_yaml,
    short,
)
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.timing.report import board_report
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.data import open_data, parse_data
from nni_mcunet.search.data.vww import read_ids, read_labels
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.fit import Recipe
from nni_mcunet.search.supernet.recipe_options import data_and_recipe, read_settings

SMALL = ROOT / "configs/arch/mcunet_in2.json"
LEVELS = [f"&a{i} [" + ", ".join(["x"] * 10 if i == 0 else [f"*a{i - 1}"] * 10) + "]" for i in range(7)]
BOMB = "".join(f"k{i}: {level}\n" for i, level in enumerate(LEVELS))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 20)}]\n" for i in range(1, 6))
JSON = {
    "deep": ("[" * 200_000, "levels deep"),
    "deep objects": ('{"a":' * 5000 + "1" + "}" * 5000, "levels deep"),
    "deep but parsed": ("[" * 65 + "]" * 65, "levels deep"),
    "long number": ('{"a": ' + "9" * 5000 + "}", "5,000 digits"),
    "long negative": ('{"a": -' + "9" * 50 + "}", "51 digits"),
    "NaN": ('{"a": NaN}', "NaN"),
    "infinite": ('{"a": [-Infinity]}', "Infinity"),
    "overflow": ('{"a": [1e999]}', "a number is inf"),
    "twice": ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
    "cut": ('{"a": [1, 2', "not valid JSON, line 1"),
    "empty": ("  \n", "the file is empty"),
    "half a character": ('{"a": "\\ud800"}', "'\\ud800'"),
    "NUL": ('{"a": "x\\u0000y"}', "'\\x00'"),
    "NUL in a key": ('{"x\\u0000y": 1}', "'\\x00'"),
}
YAML = {
    "deep": ("[" * 200_000, "levels deep"),
    "deep by aliases": (
        "".join(f"k{i}: &a{i} [*a{i - 1}]\n" if i else "k0: &a0 [x]\n" for i in range(99)),
        "levels deep",
    ),
    "deep but parsed": ("[" * 65 + "]" * 65, "levels deep"),
    "deep list": ("- " * 5000 + "x", "levels deep"),
    "aliases": (BOMB, "expand"),
    "merges": (MERGES, "expand"),
    "holds itself": ("a: &a [*a]", "holds itself"),
    "long number": ("a: " + "9" * 5000, "5,000 digits"),
    "long sexagesimal": ("a: 1" + ":59" * 2000, "digits"),
    "infinite": ("a: .inf", "line 1: the number .inf"),
    "nan": ("a:\n- .NaN", "line 2: the number .NaN"),
    "overflow": ("a: 1.0e+999", "a number is inf"),
    "twice": ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
    "a list as a key": ("[a, b]: 1", "as a key"),
    "a prefix and no digits": ("a: 0x_", "not valid YAML"),
    "a tag of Python": ("a: !!python/object/apply:os.system [ls]", "python/object"),
    "a date by its tag": ("a: !!timestamp 2020-13-45", "timestamp"),
    "no boolean": ("a: !!bool x", "not valid YAML"),
    "binary": ("a: !!binary aGk=", "binary"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "cut": ("a: [1, ", "not valid YAML"),
    "tabs": ("a:\n\tb: 1", "not valid YAML"),
    "NUL": ('a: "x\\0y"', "'\\x00'"),
    "half a character": ('a: "\\ud800"', "'\\ud800'"),
}
RAW = {
    "Latin-1": ("café: 1".encode("latin-1"), "UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "UTF-8"),
    "NUL bytes": (b"a: 1\0", "NUL"),
}


def message(read, *arguments) -> str:
    """Return the UserError that `read` must raise: one line, and soon."""
    begin = time.monotonic()
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert time.monotonic() - begin < 10 and len(str(error.value)) < 1000 and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("text, words", JSON.values(), ids=JSON)
def test_a_json_that_cannot_be_is_one_line(text, words, tmp_path):
    (tmp_path / "x.json").write_text(text)
    found = message(read_json, tmp_path / "x.json")
    assert words in found and str(tmp_path / "x.json") in found


@pytest.mark.parametrize("text, words", YAML.values(), ids=YAML)
def test_a_yaml_that_cannot_be_is_one_line(text, words, tmp_path):
    (tmp_path / "x.yml").write_text(text)
    found = message(read_yaml, tmp_path / "x.yml")
    assert words in found and str(tmp_path / "x.yml") in found


@pytest.mark.parametrize("data, words", RAW.values(), ids=RAW)
@pytest.mark.parametrize("read", [read_json, read_yaml, file_text])
def test_bytes_that_are_no_text_are_one_line(read, data, words, tmp_path):
    (tmp_path / "x").write_bytes(data)
    assert words in message(read, tmp_path / "x")


def test_what_is_right_is_read_as_it_is(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + '{"a": [1, -2.5, true, null, "é😀"]}'.encode())
    assert read_json(tmp_path / "x.json") == {"a": [1, -2.5, True, None, "é😀"]}
    text = "base: &b {x: 1, y: [2, 2.5]}\nall:\n  <<: *b\n  z: *b\nday: 2024-01-01\nnone: 2020-13-45\n"
    one = {"x": 1, "y": [2, 2.5]}
    assert parse_yaml(text, "T") == {"base": one, "all": one | {"z": one}, "day": "2024-01-01", "none": "2020-13-45"}
    assert parse_yaml("", "T") is None
    deepest = "[" * 64 + "]" * 64
    assert parse_yaml(deepest, "T") == parse_json(deepest, "T")
    for path in [*ROOT.glob("configs/*/*.yml"), *ROOT.glob("nni_mcunet/search/spaces/*.yml")]:
        assert read_yaml(path) == yaml.safe_load(path.read_text())


def test_what_is_no_file_on_a_disk_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", "/dev/zero", "/dev/stdin"):
        for read in (read_json, read_yaml, file_bytes, check_is_file, load_onnx):
            assert "a pipe or a device" in message(read, path)
    assert "is a folder" in message(read_yaml, tmp_path)
    assert "no name of a file" in message(read_yaml, "a\0b")
    with open(tmp_path / "large.yml", "wb") as file:
        file.truncate(1 << 40)  # without a byte on the disk
    assert "more than 262,144 bytes" in message(read_yaml, tmp_path / "large.yml")
    assert "more than 2,147,483,648 bytes" in message(read_json, tmp_path / "large.yml")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json")


def test_a_cut_last_line_is_what_a_kill_leaves():
    assert parse_json_lines('{"a": 1}\n\n{"a": 2}\n', "T") == [{"a": 1}, {"a": 2}]
    assert parse_json_lines('{"a": 1}\n{"a', "T") == [{"a": 1}]
    assert "T, line 1: not valid JSON" in message(parse_json_lines, '{"a\n{"a": 2}\n', "T")
    assert "T, line 2" in message(parse_json_lines, '{"a": 1}\n{"a\n', "T")  # it has its end: no kill did that


def test_a_value_is_quoted_in_one_short_line():
    held: list = []
    held.append(held)
    values = [
        10**5000,
        "x" * 10**6,
        ["y" * 10**6] * 10**4,
        {str(i): i for i in range(10**5)},
        "a\nb\x1b[2J\u202e",
        held,
    ]
    for value in values:
        text = short(value)
        assert len(text) <= 80 and text.isprintable(), text
    assert [short(v) for v in ("a", 3, [1, 2], None)] == ["'a'", "3", "[1, 2]", "None"]


def test_keys_are_checked_by_name():
    check_keys({"a": 1}, ("a", "b"), "it", ("a",))
    assert message(check_keys, [1], ("a",), "it") == "it is [1]: expected a mapping with the keys a"
    assert message(check_keys, {"c": 1}, ("a",), "it") == "it has the unknown key 'c': known are a"
    assert message(check_keys, {}, ("a",), "it", ("a",)) == "it lacks the key 'a'"
    assert len(message(check_keys, {"c" * 10**6: 1, 2: 3}, ("a",), "it")) < 200
    check_numbers({"a": 1, "b": "x"}, ("a",), "it")
    assert "a is '1'" in message(check_numbers, {"a": "1"}, ("a",), "it")
    assert "it is [1]" in message(check_numbers, [1], ("a",), "it")


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x", "/etc/passwd", "", None, 3, "a\0b"])
def test_a_listed_name_does_not_lead_out(name):
    check_names(["a/b.jpg", "a..b.jpg", "..jpg"], "T")
    assert "T names" in message(check_names, ["a.jpg", name], "T")


ODD = (None, True, -1, 10**30, 1.5, 1e308, "", "a\nb", "../..", [], [None], [[1]], {}, {"a": 1}, [-1, 10**30])
SAMPLES = {
    "arch": {
        "name": "x", "resolution": [32, 32], "stem": 8, "head": 16, "classes": 3, "act": "relu", "gate": "sigmoid",
        "stages": [[{"k": 3, "s": 2, "mid": 16, "c": 8, "groups": 1, "expand": True, "se": 4, "plain": False}]],
        "schedule": {"p": [2, 2], "n": 1, "then": [[[1, 1], 2]], "halo": "clip"},
        "pool": {"k": 4, "s": 2, "hidden": 4}, "expected": {"a": "1"},
    },
    "board": {
        "name": "x", "core": "cortex-m4", "clock_hz": 1000, "sram": 10**5, "flash": 10**5, "reserved_sram": 1,
        "reserved_flash": 1, "cycles_per_instruction": 1.0,
    },
    "space": {
        "name": "t", "r": [32, "32x48"], "stem": 8, "first": 8, "first_k": 3, "width": "stage", "k": [3], "e": [2],
        "d": [1], "w": [0.5, 1.0], "stages": [{"c": 8, "s": 2}, {"c": 16, "s": 2, "k": [3, 5]}],
        "only": [["s2_b0_k", [3]]], "head": 16, "classes": 10,
    },
    "search": {
        "space": "demo", "board": "stm32h743", "supernet": "x.pth", "out": "o", "max_sram_kb": 100, "max_mmacs": 10,
        "max_latency_ms": 100, "patches": [1, 2], "halo": "clip", "detector": {"classes": 3, "taps": [2, 3]},
        "data": {"kind": "digits"}, "seed": 0, "population": 10, "parents": 2, "mutation": 0.1, "batch": 5,
    },
    "settings": {
        "space": "demo", "data": {"kind": "digits", "calibration": [2, 8], "workers": 0}, "out": "o", "save_every": 5,
        "recipe": {"epochs": [1, 1], "lr": 0.1, "batch": 8, "seed": 1},
    },
}  # fmt: skip


def places(value, at: tuple = ()) -> Iterator[tuple]:
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def changed(value, at: tuple, new):
    if not at:
        return new
    value = copy.deepcopy(value)
    node = value
    for key in at[:-1]:
        node = node[key]
    node[at[-1]] = new
    return value


def read_sample(kind: str, value, folder) -> None:
    path = folder / ("x.yml" if kind == "settings" else "x.json")
    path.write_text(json.dumps(value))  # a YAML, too
    if kind == "arch":
        build_graph(ArchSpec.load(path))
    elif kind == "board":
        get_board(str(path)).with_arena(100)
    elif kind == "space":
        load_space(str(path))
    elif kind == "search":
        SearchConfig.from_dict(value).limits()
    else:
        data_and_recipe(read_settings(str(path)), argparse.Namespace(data=None), Recipe())


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_odd_value_at_every_place_is_refused_or_means_something(kind, tmp_path):
    """Anything but a UserError would be a traceback."""
    read_sample(kind, SAMPLES[kind], tmp_path)
    refusals = 0
    for at in places(SAMPLES[kind]):
        for odd in ODD:
            try:
                read_sample(kind, changed(SAMPLES[kind], at, odd), tmp_path)
            except UserError as error:
                assert len(str(error)) < 1000, at
                refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(
    "read",
    [
        lambda p: ArchSpec.load(p),
        lambda p: get_board(str(p)),
        lambda p: load_space(str(p)),
        lambda p: read_settings(str(p)),
        lambda p: read_labels(p),
        lambda p: SearchConfig.from_dict({"base": str(p)}),
    ],
)
def test_every_reader_reads_within_bounds(read, tmp_path):
    for name, text in {"deep.json": "[" * 10**5, "long.json": '{"name": ' + "9" * 5000 + "}"}.items():
        (tmp_path / name).write_text(text)
        assert name in message(read, tmp_path / name)
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    assert "latin.json is no UTF-8" in message(read, tmp_path / "latin.json")


def test_numbers_of_thousands_of_digits_elsewhere(tmp_path):
    many = "9" * 5000
    message(parse_schedule, f"{many}x2", "1")
    message(parse_schedule, "2x2", many)
    message(parse_data, "{kind: [")
    message(open_data, {"kind": "../.."})
    (tmp_path / "ids.txt").write_text(f"12 {many}")
    assert "ids.txt" in message(read_ids, tmp_path / "ids.txt")
    for odd in (1 << 50, 10**39):
        with pytest.raises(BoardError, match="sram"):
            Board("x", "cortex-m4", 10**6, odd, 10**6)


def test_a_damaged_plan_is_one_line(tmp_path):
    board = get_board("f412")
    (tmp_path / "build").mkdir()
    (tmp_path / "mcu_model.h").write_text("#define MCU_ARENA_BYTES 4\n")
    for text in ("[1]", "{", '{"live_bytes": [1]}', '{"callback_bytes": {"a": "x"}}', "[" * 10**5):
        (tmp_path / "plan.json").write_text(text)
        assert "plan.json" in message(board_report, tmp_path / "build/x.elf", board, {})


@pytest.mark.parametrize(
    "tool, arguments, name, text",
    [
        ("profile", ["{}"], "deep.json", "[" * 10**5),
        ("profile", ["{}"], "m.onnx", "no model"),
        ("profile", [SMALL, "--board", "{}"], "b.yml", BOMB),
        ("profile", [SMALL, "--board", "{}"], "b.yml", "name: a\ncore: x\nclock_hz: 2020-13-45\nsram: 1\nflash: 1"),
        ("profile", [SMALL, "--board", "{}"], "b.json", '{"name": ' + "9" * 5000 + "}"),
        ("export", ["{}", "x.pth", "-o", "x.onnx"], "a.json", '{"a": 1, "a": 2}'),
        ("quantize", ["{}", "--calib", ".", "-o", "x.onnx"], "m.onnx", "no model"),
        ("generate", ["{}", "--board", "f412", "-o", "x"], "m.onnx", "no model"),
        ("inspect", ["{}"], "m.onnx", "no model"),
        ("train_supernet", ["--config", "{}"], "t.yml", BOMB),
        ("train_supernet", ["--config", "{}"], "t.yml", "space: 2020-13-45x\nout: [1]"),
        ("train_supernet", ["--space", "{}"], "s.yml", f"name: a\nr: 96\nstem: 8\nfirst: 8\nstages: {LEVELS[0]}"),
        ("finetune", ["{}", "x.pth"], "a.json", '{"name": NaN}'),
        ("search", ["run", "--config", "{}"], "n.yml", "experimentName: 2020-13-45"),
        ("search", ["run", "--config", "{}"], "n.yml", BOMB),
        ("report", ["{}/..", "--boards", "f412"], "float.json", "[" * 10**5),
    ],
)
def test_a_command_ends_in_one_line(tool, arguments, name, text, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_text(text)
    (tmp_path / "x.pth").touch()
    monkeypatch.chdir(tmp_path)
    given = [str(a).format(tmp_path / name) for a in arguments]
    if tool == "report":
        given[0] = str(tmp_path)
    refused(command(monkeypatch, capsys, tool, *given), name)


def test_a_message_is_one_line_of_what_a_terminal_shows(capsys):
    worker = (
        'Caught UserError in DataLoader worker process 0.\nOriginal Traceback:\n  File "x"\na.b.UserError: no data\n'
    )
    assert one_line(worker) == "no data"
    assert one_line("a\nb\x1b[2J \u202e") == "a b\\x1b[2J \\u202e"
    assert len(one_line("x" * 10**6 + " remedy")) < 1600 and one_line("x" * 10**6 + " remedy").endswith("remedy")
    assert one_line(f"a {'x' * 300} b") == f"a {'x' * 300} b"
    found = one_line(f"{'/dir' * 999}/name.txt is no file: give another")
    assert len(found) < 340 and found.startswith("/dir/dir") and found.endswith("/name.txt is no file: give another")
    for error, code, words in (
        (UserError("a\nb"), 2, "error: a b"),
        (OSError(36, "File name too long", "x " * 999), 2, f"error: File name too long: {'x ' * 75}..."),
        (OSError(28, "No space left on device"), 2, "error: No space left"),
        (OSError(13, "Permission denied", "x.json"), 2, "error: Permission denied: x.json"),
        (FileNotFoundError(2, "No usable temporary directory found"), 2, "error: No usable"),
        (MemoryError("Unable to allocate 3 TiB"), 2, "error: not enough memory (Unable to allocate 3 TiB)"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(98, "Address already in use"), 1, "Traceback"),
    ):
        with pytest.raises(SystemExit) as end, exit_on_user_error():
            raise error
        found = capsys.readouterr().err
        assert end.value.code == code and found.startswith(words), found
        assert code != 2 or found.count("\n") == 1
        assert code != 130 or not found


def test_others_writing_names_the_user_s_folder():
    with pytest.raises(UserError, match="cannot write out/det: No space left on device"), errors.writing("out/det"):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), errors.writing("out/det"):  # about a file that is read
        raise FileNotFoundError(2, "No such file", "x.jpg")


CASES = {
    "arch_bigint.json": ("profile", ["{}"]),
    "arch_deep.json": ("profile", ["{}"]),
    "board_bombrepr.yml": ("profile", [SMALL, "--board", "{}"]),
    "board_date.yml": ("profile", [SMALL, "--board", "{}"]),
    "nni_date.yml": ("search", ["run", "--config", "{}"]),
    "space_bombstages.yml": ("train_supernet", ["--space", "{}"]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_files_that_went_wrong(name, shared, monkeypatch, capsys):
    path = shared / "cases/files" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    tool, arguments = CASES[name]
    refused(command(monkeypatch, capsys, tool, *(str(a).format(path) for a in arguments)), name)


def test_the_samples_are_of_today(tmp_path):
    """The odd values stand in mappings that are right but for them."""
    assert mobilenet_v2(96).to_dict().keys() <= SAMPLES["arch"].keys()
    assert parse_json(json.dumps(SAMPLES), "T") == SAMPLES


PLAIN = {
    "nni_mcunet/__init__.py",
    "nni_mcunet/core/view.py",
    "nni_mcunet/search/nni/nnictl.py",
    "detection/models/checkpoint.py",
    "detection/own_data/new_config.py",
}  # no user's value


def test_what_a_message_quotes_is_shortened():
    """`!r` writes a value out, however long it is."""
    found = set()
    for path in (p for top in ("nni_mcunet", "detection", "tools") for p in sorted((ROOT / top).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
                found.add(str(path.relative_to(ROOT)))
    assert found == PLAIN
