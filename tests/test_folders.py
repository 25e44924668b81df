"""Commands that write folders of many files: whole or not there, and never over a user's."""

import argparse
import io
import json
import re
import shlex
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from conftest import ROOT
from test_tools import refused, tool

from nni_mcunet.cli.main import main
from nni_mcunet.cli.steps import Steps
from nni_mcunet.cli.tables import HEAD
from nni_mcunet.core.errors import UserError


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digits(out, train=4, val=2):
    """The command in this process; what `tool` gives of one of its own."""
    words, said, errors = ["--train", str(train), "--val", str(val), "--size", "32"], io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(errors):
        patch.setattr("sys.argv", [])  # main sets it
        try:
            main(["digits", "--out", str(out), *words])
            code = 0
        except SystemExit as end:
            code = end.code
    return argparse.Namespace(returncode=code, stdout=said.getvalue(), stderr=errors.getvalue())


def test_digits_are_whole_or_not_there(tmp_path):
    """A killed run leaves no data set, and the next run makes the one that an undisturbed run makes."""
    command = [
        sys.executable,
        "tools/make_digits.py",
        "--out",
        str(tmp_path / "a"),
        "--train",
        "100000",
        "--size",
        "32",
    ]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("a/.*/JPEGImages/*_000003.jpg")) and time.monotonic() < deadline:
            time.sleep(0.01)
        refused(digits(tmp_path / "a"), "another command writes")
        running.kill()
    assert files(tmp_path / "a") and not (tmp_path / "a/VOC2007").exists()
    assert digits(tmp_path / "a").returncode == digits(tmp_path / "b").returncode == 0
    made = files(tmp_path / "a")
    assert made == files(tmp_path / "b") and len(made) == 2 * 6 + 4 + 1
    (tmp_path / "a/VOC2007/Annotations/val_000000.xml").write_text("mended by hand")
    made = files(tmp_path / "a")
    done = digits(tmp_path / "a")
    assert done.returncode == 0 and "made with the same arguments" in done.stdout
    refused(digits(tmp_path / "a", train=5), "made with --train 4", "delete it")
    assert files(tmp_path / "a") == made


@pytest.mark.parametrize("marker", [None, "{}", "[1", '{"train": "x", "val": 2, "size": 32, "seed": 0}'])
def test_a_real_voc2007_stays(marker, tmp_path, monkeypatch, capsys):
    lists = tmp_path / "VOC2007/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000005\n")
    if marker:
        (tmp_path / "VOC2007/digits.json").write_text(marker)
    before = files(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    with pytest.raises(SystemExit) as end:
        main(["digits", "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and "was not made by this command" in said
    assert files(tmp_path) == before


def test_digits_on_a_full_disk(small_disk):
    refused(digits(small_disk, train=3000), "No space left", str(small_disk / "VOC2007"))
    assert not list(small_disk.iterdir())


BOARD = {"name": "b", "core": "cortex-m4", "clock_hz": 1000000, "sram": 200000, "flash": 200000}


def test_deploy_fits_the_boards_before_what_takes_minutes(tmp_path, monkeypatch):
    from nni_mcunet.cli import deploy, main

    (tmp_path / "last.pth").touch()
    done = []

    class Recorded:
        def __call__(self, title, product, command, *words, **more):
            done.append(command)

    monkeypatch.setattr(deploy, "Steps", Recorded)
    for name in ("load_config", "identity", "busy_picture"):
        monkeypatch.setattr(f"detection.{name}", lambda *_: {})
    words = [
        "deploy",
        str(ROOT / "configs/det/yolov3_digits.py"),
        str(tmp_path / "last.pth"),
        "--boards",
        "f412",
        "h743",
    ]
    main.main([*words, "-o", str(tmp_path / "out")])
    assert done == [
        "export",
        "quantize",
        "generate",
        "generate",
        "test",
        "test",
        "compare-boxes",
        "run",
        "run",
        "report",
    ]


def test_deploy_takes_no_product_of_anything_else(tmp_path):
    from nni_mcunet.cli.deploy import begin, named_boards

    checkpoint, out, board = tmp_path / "a.pth", tmp_path / "out", tmp_path / "mine.json"
    checkpoint.write_bytes(b"weights")
    board.write_text(json.dumps(BOARD))
    config, data = {"model": "1", "test_cfg": "2"}, {"val.txt": "3"}

    def deploy(boards=(board,), of=None, **more):
        given = {"checkpoint": checkpoint, "arena_kb": None, "source": None, "out": out} | more
        begin(argparse.Namespace(**given), named_boards(list(map(str, boards))), of or {"config": config, "data": data})

    deploy()
    deploy()
    (out / "model.onnx").touch()
    deploy()
    for more, word in (({"of": {"config": config | {"model": "4"}, "data": data}}, "config (model)"),
                       ({"of": {"config": config, "data": {"val.txt": "5"}}}, "data (val.txt)"),
                       ({"of": {"config": {"model": "4"}, "data": {}}}, "config (model, test_cfg) and data (val.txt)"),
                       ({"arena_kb": 64}, "arena_kb")):  # fmt: skip
        with pytest.raises(UserError, match=re.escape(f"made with another {word}: give a new folder")):
            deploy(**more)
    checkpoint.write_bytes(b"other weights")
    with pytest.raises(UserError, match="another checkpoint"):
        deploy()
    checkpoint.write_bytes(b"weights")
    board.write_text(json.dumps(BOARD | {"sram": 100000}))
    deploy()  # nothing is made for it yet
    board.write_text(json.dumps(BOARD))
    deploy()
    (out / "mine.json").touch()
    board.write_text(json.dumps(BOARD | {"sram": 100000}))
    with pytest.raises(UserError, match=r"another board mine \(sram\)"):
        deploy()
    deploy(["stm32f412"])  # one more board, into the same folder
    (out / "stm32f746.json").touch()
    with pytest.raises(UserError, match=r"says what its stm32f746\.json is of"):
        deploy(["stm32f746"])
    with pytest.raises(UserError, match="two have the same name"):
        deploy([board, board])
    for text in ("{", "[1]", '"a"', "[" * 100_000):
        (out / "deploy.json").write_text(text)
        with pytest.raises(UserError, match="damaged"):
            deploy()
    for product in ("model.onnx", "mine.png", "mine"):
        folder = tmp_path / f"of {product}"
        folder.mkdir()
        (folder / product).write_text("mine")
        with pytest.raises(UserError, match=f"says what its {product} is of"):
            deploy(out=folder)
        assert files(folder) == {product: b"mine"}


@pytest.mark.parametrize(
    "boards, said", [("stm32f999", "unknown board 'stm32f999'"), ("stm32f412 a/stm32f412.yml", "a/stm32f412.yml"),
                     ("H743 H743", "two have the same name"), ("stm32f412 riscv.json", "no emulated machine")]
)  # fmt: skip
def test_deploy_looks_at_its_boards_first(boards, said, tmp_path, monkeypatch, capsys):
    """A name that is wrong costs no minutes: the config and the checkpoint are empty."""
    monkeypatch.chdir(tmp_path)
    for name in ("c.py", "c.pth"):
        Path(name).touch()
    monkeypatch.setattr("sys.argv", [])
    Path("riscv.json").write_text(json.dumps(BOARD | {"core": "rv32"}))
    with pytest.raises(SystemExit) as end:
        main(["deploy", "c.py", "c.pth", "--boards", *boards.split(), "-o", "out"])
    assert end.value.code == 2 and said in capsys.readouterr().err and not Path("out").exists()


def test_the_demo_takes_no_product_of_other_files(tmp_path, monkeypatch):
    from nni_mcunet.cli.demo import check_made

    monkeypatch.chdir(tmp_path)
    product = Path("out/search/best.pth")
    check_made(product, {"search.yml": "1"})
    check_made(product, {"search.yml": "2"})  # not made yet: the later files count
    product.parent.mkdir(parents=True)
    product.touch()
    check_made(product, {"search.yml": "2"})
    with pytest.raises(UserError, match=r"out/search/best.pth \(search.yml\) is of other files: delete it"):
        check_made(product, {"search.yml": "1"})
    Path("out/demo.json").unlink()
    with pytest.raises(UserError, match=r"says what its search/best\.pth is of: delete it"):
        check_made(product, {"search.yml": "2"})


def test_a_step_that_says_itself_whether_it_is_done(tmp_path, capsys, monkeypatch):
    step, product = Steps(), tmp_path / "product"

    def run(command):
        with product.open("a") as file:
            file.write("x")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("nni_mcunet.cli.steps.subprocess.run", run)
    for done, text in ((None, "x"), (None, "x"), (True, "x"), (False, "xx")):
        step("a step", product, "profile", done=done)
        assert product.read_text() == text
    assert "is there: not run again" in capsys.readouterr().out


def test_a_step_that_ctrl_c_stops_says_how_it_goes_on(tmp_path, capsys, monkeypatch):
    def run(command):
        raise KeyboardInterrupt

    monkeypatch.setattr("nni_mcunet.cli.steps.subprocess.run", run)
    with pytest.raises(KeyboardInterrupt):
        Steps()("a step", tmp_path / "product", "profile")
    assert capsys.readouterr().err == "stopped: the same command begins this step again, after those that are done\n"


def test_deploy_ends_with_the_command_of_the_page(tmp_path, monkeypatch, capsys):
    """In words that `mcunet report` takes."""
    from nni_mcunet.cli import deploy, report
    from nni_mcunet.cli.main import fill
    from nni_mcunet.cli.parser import Parser

    steps: list[str] = []
    monkeypatch.setattr(deploy, "Steps", lambda: lambda title, *words, **options: steps.append(title))
    monkeypatch.setattr("detection.identity", lambda config: {})
    monkeypatch.setattr("detection.load_config", lambda *words: None)
    monkeypatch.setattr("detection.busy_picture", lambda config: tmp_path / "a cell.jpg")
    (tmp_path / "c.pth").write_bytes(b"weights")
    (tmp_path / "c.py").touch()
    out = tmp_path / "on boards"
    main(
        [
            "deploy",
            str(tmp_path / "c.py"),
            str(tmp_path / "c.pth"),
            "--boards",
            "stm32h743",
            "stm32f412",
            "-o",
            str(out),
        ]
    )
    assert steps[-1] == "report"
    _, last = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    program, name, *words = shlex.split(last)
    args = fill(Parser("x"), name).parse_args(words)
    report.check_page(args)
    assert (program, name, args.out, args.boards) == ("mcunet", "report", out, ["stm32h743", "stm32f412"])
    assert args.html == "" and args.picture == str(tmp_path / "a cell.jpg")


@pytest.mark.parametrize(
    "words", [["digits", "--out"], ["deploy", "c.py", "c.pth", "--boards", "h743", "-o"], ["demo", "--out"],
              ["tables", "-o"]], ids=lambda words: words[0]
)  # fmt: skip
def test_a_folder_is_named(words, monkeypatch, capsys, tmp_path):
    """An empty name would be the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    given = ["c.pth", "c.py", "file"]
    for name in given:
        (tmp_path / name).touch()
    for name, said in (("", "is empty: give one"), ("file", "file is a file: give a folder")):
        with pytest.raises(SystemExit) as end:
            main([*words, name])
        errors = capsys.readouterr().err
        assert end.value.code == 2 and said in errors and errors.count("\n") == 1
    assert sorted(files(tmp_path)) == given


@pytest.mark.parametrize(
    "words", [["generate", "m.onnx", "--board", "stm32f412", "-o", "{}/fw"], ["demo", "--out", "{}/demo"],
              ["new-detector", "photos", "--board", "stm32f412", "-o", "{}/d"],
              ["quantize", "m.onnx", "--calib", "photos", "-o", "{}/q.onnx"],
              ["profile", "mcunet_in1", "--json", "{}/p.json"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_place_without_files_is_refused_before_the_work(words, monkeypatch, capsys, tmp_path):
    """Before the network is read, too, which is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "photos").mkdir()
    for place, said in (("/proc", "/proc takes no files"), ("/sys", ""), ("file", "is a file, not a folder")):
        with pytest.raises(SystemExit) as end:
            main([word.format(place) for word in words])
        errors = capsys.readouterr().err
        assert end.value.code == 2 and errors.count("\n") == 1
        assert errors.startswith(f"error: cannot write {place}/") and said in errors and "name another place" in errors
    assert list(files(tmp_path)) == ["file"]


def test_tables_refuse_a_folder_of_others(tmp_path):
    (tmp_path / "fig1.png").write_bytes(b"mine")
    refused(tool("tables", "-o", tmp_path), "and no tables.md of this command", "give another folder")
    assert files(tmp_path) == {"fig1.png": b"mine"}


def test_the_folder_of_the_paper_s_tables_is_known_by_its_head():
    assert (ROOT / "docs/paper/tables.md").read_text().startswith(HEAD)
