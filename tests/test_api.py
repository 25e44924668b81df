"""The front door: `import nni_mcunet as mcu` is light, its documented examples run, it says what the commands say. A
mistake is one line."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from inprocess import command, refused
from PIL import Image
from test_serial import DONE, HELLO, Device, line, output

import nni_mcunet as mcu
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.engine.frontend import FORMATS, load_model
from nni_mcunet.engine.run.board_project import model_hash
from nni_mcunet.engine.run.host import build_host

ARCH = {
    "name": "tiny",
    "resolution": [32, 40],
    "stem": 8,
    "stages": [[{"k": 3, "s": 2, "mid": 8, "c": 8}], [{"k": 3, "s": 2, "mid": 24, "c": 16}]],
    "head": 16,
    "classes": 4,
}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST = "import nni_mcunet as mcu\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny trained classifier with its files, and photographs."""
    folder, rng = tmp_path_factory.mktemp("api"), np.random.default_rng(0)
    (folder / "arch.json").write_text(json.dumps(ARCH))
    torch.manual_seed(0)
    torch.save(Net(build_graph(mcu.ArchSpec.from_dict(ARCH))).state_dict(), folder / "weights.pth")
    mcu.load(folder / "arch.json", folder / "weights.pth").save(folder / "model.onnx")
    (folder / "photos").mkdir()
    for i in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize((60, 50), Image.Resampling.BILINEAR).save(folder / f"photos/{i}.png")
    Image.open(folder / "photos/0.png").save(folder / "photo.jpg")
    for i in range(12):
        (folder / f"pets/train/{'abcd'[i % 4]}").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"photos/{i % 6}.png", folder / f"pets/train/{'abcd'[i % 4]}/{i}.png")
    return folder


def pets(folder):
    """The data set of four classes in `folder`."""
    return {"kind": "folder", "root": str(folder / "pets"), "held_out": 4, "workers": 0}


@pytest.fixture(scope="module")
def int8(folder):
    return mcu.quantize(folder / "model.onnx", folder / "photos")


@pytest.fixture(scope="module")
def firmware(folder, int8):
    return mcu.compile(int8, "stm32f412", folder / "fw", schedule=mcu.Schedule(p=(2, 2), n=2))


def test_the_import_is_light():
    """Every script that begins with it pays for each name outside the standard library and numpy."""
    code = (
        "import sys, time, numpy; t = time.perf_counter(); import nni_mcunet as mcu; took = time.perf_counter() - t;"
        "first = {m for m in sys.modules if m.startswith('nni_mcunet')};"
        "mcu.boards(), mcu.zoo(), mcu.plan('mcunet_in0'), mcu.profile('mcunet_in0', 'F412');"
        "heavy = {'torch', 'mmdet', 'mmengine', 'nni', 'onnx', 'onnxruntime', 'matplotlib', 'cv2', 'PIL', 'tqdm'};"
        "print(took, sorted(first), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    took, _, rest = done.stdout.partition(" ")
    assert done.returncode == 0 and float(took) < 0.5, done
    assert rest.strip() == "['nni_mcunet'] []"


def test_every_public_name_is_there_and_documented():
    assert set(mcu.__all__) <= set(dir(mcu))
    for name in mcu.__all__:
        assert getattr(mcu, name).__doc__, name
    functions = [name for name in mcu.__all__ if name.islower()]
    assert {"load", "quantize", "inspect", "accuracy", "compile", "run", "report"} < {*functions}
    for name in functions:
        function = getattr(mcu, name)
        assert ">>> " in function.__doc__ and function.__annotations__["return"], name
    with pytest.raises(AttributeError, match="has no attribute 'export'"):
        mcu.export  # noqa: B018
    import nni_mcunet.profiling.profile

    assert callable(nni_mcunet.profile) and mcu.profile is nni_mcunet.profile


def examples():
    """Python of a page that begins with the import: the README's one, the whole of docs/api.md."""
    readme = [b for b in BLOCK.findall((ROOT / "README.md").read_text()) if b.startswith(FIRST)]
    page = BLOCK.findall((ROOT / "docs/api.md").read_text())
    assert page[0].startswith(FIRST) and len(page) > 6
    return {"docs/api.md": page} | ({"README.md": readme} if readme else {})


@pytest.mark.parametrize("page", examples())
def test_documented_examples_run(page, folder, tmp_path, monkeypatch, capsys):
    for name in ("model.onnx", "arch.json", "weights.pth", "photo.jpg", "photos", "pets"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in examples()[page]:
        exec(compile(block, page, "exec"), names)
    said = capsys.readouterr().out
    assert "peak" in said and "instructions" in said and (tmp_path / "out/fw/mcu_model.h").is_file()


def test_the_readme_s_example_is_ten_lines():
    (block, *_) = examples()["docs/api.md"]
    assert 8 <= len([text for text in block.splitlines() if text.strip()]) <= 10


def test_zoo_and_load(folder, monkeypatch, capsys):
    names = mcu.zoo()
    assert {path.stem for path in (ROOT / "configs/arch").glob("*.json")} | {"extd_32", "lffd"} <= set(names)
    assert mcu.zoo("mcunet_in?") == [f"mcunet_in{i}" for i in range(5)] and mcu.zoo("nothing") == []
    by_name, by_file = mcu.load("mcunet_in0"), mcu.load(ROOT / "configs/arch/mcunet_in0.json")
    assert by_name.graph == by_file.graph and by_name.kind == "architecture" and by_name.image == (48, 48, 3)
    assert mcu.load(mcu.ArchSpec.load(ROOT / "configs/arch/mcunet_in0.json")).graph == by_name.graph
    assert mcu.load(by_name) is by_name and mcu.load(by_name.graph).graph == by_name.graph
    trained = mcu.load(mcu.ArchSpec.from_dict(ARCH), folder / "weights.pth", view="crop:0.5")
    assert trained.kind == "float" and trained.model.meta == {"view": "crop:0.5"}
    assert mcu.load("extd_32").image == (480, 640, 3)
    assert mcu.load(folder / "model.onnx").kind == "float" == mcu.load(mcu.load(folder / "model.onnx").model).kind
    done = command(monkeypatch, capsys, "profile", "mcunet_in0", "--board", "F412")
    assert done.code == 0 and done.out == f"{mcu.profile('mcunet_in0', 'stm32f412')}\n"
    refused(command(monkeypatch, capsys, "profile", "mobilnet_v2"), "'mobilnet_v2'", "did you mean mobilenet_v2")


def test_inspect_is_the_command(folder, int8, tmp_path, monkeypatch, capsys):
    int8.save(tmp_path / "i.onnx")
    found = mcu.inspect(tmp_path / "i.onnx", folder / "model.onnx", folder / "photos", images=3)
    assert len(found.pictures) == 3 and [e.name for e in found.tensors][1:] == [row.name for row in found.layers]
    pair = "--float", folder / "model.onnx", "--calib", folder / "photos", "--images", 3
    done = command(monkeypatch, capsys, "inspect", tmp_path / "i.onnx", *pair)
    assert done.code == 0 and done.out == f"{found}\n" and "SQNR dB" in done.out
    assert str(mcu.inspect(int8)) == str(mcu.inspect(tmp_path / "i.onnx")) and not mcu.inspect(int8).layers
    mcu.inspect(int8).draw("stem", tmp_path / "w.png")
    found.draw("stem", tmp_path / "v.png")
    assert (tmp_path / "w.png").stat().st_size != (tmp_path / "v.png").stat().st_size
    for draw, message in (
        (lambda: found.draw("nothing", tmp_path / "x.png"), "no layer 'nothing'; it has "),
        (lambda: mcu.inspect(int8).draw(found.tensors[0].name, tmp_path / "x.png"), "no weights to draw"),
        (lambda: found.draw("stem", tmp_path / "x.onnx"), "ends in .png"),
    ):
        with pytest.raises(mcu.UserError, match=message):
            draw()


def test_accuracy_is_the_command(folder, int8, tmp_path, monkeypatch, capsys):
    int8.save(tmp_path / "i.onnx")
    data = pets(folder)
    found = mcu.accuracy(int8, data, split="held_out")
    assert 0 <= found.right <= found.count == 4 and found.share == found.right / 4
    assert mcu.accuracy(tmp_path / "i.onnx", json.dumps(data), split="held_out", backend="c") == found
    done = command(
        monkeypatch, capsys, "accuracy", tmp_path / "i.onnx", "--data", json.dumps(data), "--split", "held_out"
    )
    assert done.code == 0 and done.out == f"{found}\n"


def test_a_format_is_known_by_content_not_by_name(folder, tmp_path, monkeypatch):
    (tmp_path / "model.bin").write_bytes((folder / "model.onnx").read_bytes())
    assert load_model(tmp_path / "model.bin").graph == load_model(folder / "model.onnx").graph
    first = next(iter(FORMATS.values()))._replace(
        known=lambda head: head == b"TOY", reader=lambda path, size, outputs: size
    )
    monkeypatch.setattr("nni_mcunet.engine.frontend.FORMATS", {"toy": first, **FORMATS})
    (tmp_path / "model.onnx").write_bytes(b"TOY")
    assert load_model(tmp_path / "model.onnx", (3, 4)) == (3, 4)
    with pytest.raises(mcu.UserError, match=r"model\.onnx: not a valid ONNX file"):
        (tmp_path / "model.onnx").write_bytes(b"TOY no more")
        load_model(tmp_path / "model.onnx")


def test_plans_are_those_of_the_commands(folder, int8, tmp_path, monkeypatch, capsys):
    """quantize, generate and run give the same bytes as quantize(), compile() and run()."""
    (tmp_path / "photos").symlink_to(folder / "photos")
    ours = int8.save(tmp_path / "ours.onnx")
    flags = ("--calib", folder / "photos", "-o", tmp_path / "theirs.onnx")
    assert command(monkeypatch, capsys, "quantize", folder / "model.onnx", *flags).code == 0
    assert (tmp_path / "theirs.onnx").read_bytes() == ours.read_bytes()
    fw = mcu.compile(ours, "stm32f412", tmp_path / "ours", arena_kb=3, halo="cache", max_overhead=0.5)
    flags = ("--arena-kb", 3, "--halo", "cache", "--max-overhead", 0.5, "-o", tmp_path / "theirs")
    assert command(monkeypatch, capsys, "generate", ours, "--board", "F412", *flags).code == 0
    for path in (tmp_path / "theirs").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "ours" / path.name).read_bytes(), path.name
    assert fw.arena == fw.facts["arena_bytes"] <= 3 * 1024 and fw.plan.schedule.n
    assert f"arena {fw.arena:,} of 3,072 bytes" in str(fw) and fw.flash == fw.plan.flash
    assert fw.board == mcu.boards()["stm32f412"]
    best = mcu.best_schedule(ours, "stm32f412", arena_kb=3, halo="cache", max_overhead=0.5)
    assert (best.schedule, best.arena) == (fw.plan.schedule, fw.arena)
    flags = ("--board", "F412", "--emulate", "--picture", folder / "photo.jpg", "--json", tmp_path / "run.json")
    assert command(monkeypatch, capsys, "run_board", tmp_path / "theirs", *flags).code == 0
    assert json.loads((tmp_path / "run.json").read_text()) == fw.run(folder / "photo.jpg", on="emulator").to_dict()


def test_pictures_of_every_kind(folder, int8):
    net, (h, w, c) = mcu.load(folder / "model.onnx"), int8.image
    arrays = np.random.default_rng(1).integers(0, 256, (9, h, w, c), dtype=np.uint8)

    def scales(pictures, **more):
        found = mcu.quantize(net, pictures, method="minmax", **more)
        return found.model.scales, found.pictures

    assert scales(arrays) == scales(list(arrays)) == scales(iter(arrays)) and scales(arrays)[1] == 9
    assert scales(arrays, images=3) == scales(arrays[[0, 3, 6]])
    assert scales((a for a in arrays), images=3) == scales(arrays[:3])
    assert scales(arrays[0]) == scales(arrays[:1])
    assert scales(sorted((folder / "photos").iterdir())) == scales(folder / "photos")
    assert int8.kind == "int8" and int8.pictures == 6 and int8.sqnr["fc"] == int8.layers[-1].total > 10
    with pytest.warns(mcu.QuantizationWarning, match="int8 loses the output 'fc'"):
        mcu.quantize(net, 0 * arrays + arrays[:, :1, :1] // 64, method="percentile", percent=50)


def test_host_emulator_and_serial_say_the_same(folder, firmware):
    picture = folder / "photo.jpg"
    here = mcu.run(firmware.folder, picture)
    there = firmware.run(picture, on="emulator", layers=True)
    assert np.array_equal(here.outputs[0], there.outputs[0]) and here.top == there.top and len(here.top) == 4
    assert there.facts["board"] == "stm32f412" and {"s0_b0_dw", "fc"} <= {row["name"] for row in there.layers}
    assert there.facts["made_for"] == "stm32f412" and "made_for" not in here.facts and here.layers == []
    assert re.search(r"instructions +[\d,]+", str(there))
    hello = HELLO | {"board": "stm32f412", "model": model_hash(firmware.folder)}
    parts = [line(hello, {"read": [0, 0, 32, 40]}, output(here.outputs[0].tobytes()), DONE)]
    with Device(parts) as device:
        found = firmware.run(picture, on=f"serial:{device.port}", timeout=20)
    assert np.array_equal(found.outputs[0], here.outputs[0]) and found.facts["clock_hz"] == 100
    wrong = [line(hello, {"read": [0, 0, 32, 40]}, output(bytes(4)), DONE)]
    with Device(wrong) as device, pytest.raises(mcu.UserError, match="are not those of the same C"):
        firmware.run(picture, on=f"serial:{device.port}", timeout=20)


def test_a_folder_that_was_written_again_is_not_run(int8, tmp_path):
    """Its first Firmware would run the second network's C."""
    picture = np.zeros(int8.image, np.uint8)
    first = mcu.compile(int8, "stm32f412", tmp_path / "fw")
    first.run(picture)  # builds the library, which stays loaded
    mcu.compile(int8, "stm32f412", tmp_path / "fw").run(picture)  # the same C again
    first.run(picture)
    second = mcu.compile(int8, "stm32f412", tmp_path / "fw", schedule=mcu.Schedule((2, 2), 2))
    for on in ("host", "emulator"):
        with pytest.raises(mcu.UserError, match="holds other C than this Firmware's: compile each network into"):
            first.run(picture, on=on)
    second.run(picture)


def test_boxes_of_a_detector(tmp_path):
    """Names and pixels as the emulated board gives them."""
    from test_firmware import write_model

    write_model(tmp_path)
    picture = np.random.default_rng(3).integers(0, 256, build_host(tmp_path).input_shape, dtype=np.uint8)
    here, there = mcu.run(tmp_path, picture), mcu.run(tmp_path, picture, "stm32h743", on="emulator")
    assert here.boxes == there.boxes and here.boxes and set(here.boxes[0]) == {"box", "score", "label", "name"}
    assert here.top == [] and here.boxes[0]["name"] in str(here)


ARRAY = np.zeros((32, 40, 3), np.uint8)
MISTAKES = {
    "load a number": (lambda f: mcu.load(3), "network is 3: expected the name"),
    "load nothing": (lambda f: mcu.load(""), "network is ''"),
    "load an unknown name": (lambda f: mcu.load("mcunet"), "unknown network 'mcunet': did you mean mcunet_in"),
    "load a missing file": (lambda f: mcu.load("no.onnx"), "no such file: no.onnx"),
    "load a missing architecture": (lambda f: mcu.load("no.json"), "no such file: no.json"),
    "load a missing config": (lambda f: mcu.load("no.py"), "no such file: no.py"),
    "load a folder": (lambda f: mcu.load(f), "is a folder: name a file in it"),
    "load only weights": (lambda f: mcu.load(f / "weights.pth"), "holds weights and no network"),
    "load weights twice": (lambda f: mcu.load(f / "model.onnx", f / "weights.pth"), "has its own weights"),
    "load others' weights": (lambda f: mcu.load("mcunet_in0", f / "weights.pth"), "does not hold the weights of"),
    "load missing weights": (lambda f: mcu.load("mcunet_in0", "no.pth"), "no such file: no.pth"),
    "load weights of a number": (lambda f: mcu.load("mcunet_in0", 7), "weights is 7"),
    "load a size": (lambda f: mcu.load(f / "model.onnx", size=32), "size is 32: expected .h, w."),
    "load options": (lambda f: mcu.load("c.py", options="a=1"), "options is 'a=1'"),
    "zoo of a number": (lambda f: mcu.zoo(3), "pattern is 3"),
    "profile an unknown board": (lambda f: mcu.profile("mcunet_in0", "stm32"), "unknown board 'stm32': use one of"),
    "profile a number as board": (lambda f: mcu.profile("mcunet_in0", 412), "board is 412"),
    "profile a missing board": (lambda f: mcu.profile("mcunet_in0", "no.yml"), "no such file: no.yml"),
    "profile grids": (lambda f: mcu.profile("mcunet_in0", max_p="4"), "max_p is '4': expected an integer"),
    "plan a text": (lambda f: mcu.plan("mcunet_in0", "3x3"), "schedule is '3x3': expected"),
    "plan too many blocks": (lambda f: mcu.plan("mcunet_in0", mcu.Schedule((2, 2), 99)), "n = 99"),
    "plan a halo": (lambda f: mcu.plan("mcunet_in0", halo="none at all"), "halo is 'none at all'"),
    "best of no objective": (lambda f: mcu.best_schedule("mcunet_in0", "F412", objective="x"), "expected one of macs"),
    "best of no halo": (lambda f: mcu.best_schedule("mcunet_in0", "F412", halo="full"), "expected one of clip, cache"),
    "best in less than nothing": (lambda f: mcu.best_schedule("mcunet_in0", "F412", arena_kb=0), "0 bytes for"),
    "best on what is too small": (lambda f: mcu.best_schedule("mobilenet_v2", "F410"), "bytes of flash"),
    "best of an overhead": (lambda f: mcu.best_schedule("mcunet_in0", "F412", max_overhead=-1), "0 or more"),
    "best of a word": (lambda f: mcu.best_schedule("mcunet_in0", "F412", max_overhead="5%"), "max_overhead is '5%'"),
    "quantize an architecture": (lambda f: mcu.quantize("mcunet_in0", ARRAY), "mcunet_in0 has no weights"),
    "quantize without pictures": (lambda f: mcu.quantize(f / "model.onnx"), "no pictures and no qat"),
    "quantize on no folder": (lambda f: mcu.quantize(f / "model.onnx", "no"), "no such file: no"),
    "quantize on a number": (lambda f: mcu.quantize(f / "model.onnx", 5), "pictures is 5"),
    "quantize on numbers": (lambda f: mcu.quantize(f / "model.onnx", [1, 2]), "picture is 1: expected a file, or"),
    "quantize on nothing": (lambda f: mcu.quantize(f / "model.onnx", []), "no picture to calibrate on"),
    "quantize on floats": (lambda f: mcu.quantize(f / "model.onnx", ARRAY / 1.0), "float64; the model reads"),
    "quantize by no method": (lambda f: mcu.quantize(f / "model.onnx", ARRAY, method="x"), "expected one of minmax"),
    "quantize by a percentage": (
        lambda f: mcu.quantize(f / "model.onnx", ARRAY, method="percentile", percent=3), "50 to 100"),
    "quantize on no pictures": (lambda f: mcu.quantize(f / "model.onnx", ARRAY, images=0), "images is 0"),
    "quantize a mean": (lambda f: mcu.quantize(f / "model.onnx", ARRAY, mean=["a"]), "mean is"),
    "quantize a view": (lambda f: mcu.quantize(f / "model.onnx", ARRAY, view="wide"), "view is 'wide'"),
    "inspect a float network": (lambda f: mcu.inspect(f / "model.onnx"), "is float: quantise it first"),
    "inspect with no pictures": (lambda f: mcu.inspect("i.onnx", f / "model.onnx"), "give both or neither"),
    "accuracy of an architecture": (lambda f: mcu.accuracy("mcunet_in0", "digits"), "mcunet_in0 has no weights"),
    "accuracy on no data": (lambda f: mcu.accuracy(f / "model.onnx", 5), "data is 5: expected 'KIND:ROOT'"),
    "accuracy on other classes": (lambda f: mcu.accuracy(f / "model.onnx", "digits"), "the data's 10 classes"),
    "accuracy by no backend": (lambda f: mcu.accuracy(f / "model.onnx", "digits", backend="m4"), "backend is 'm4'"),
    "accuracy of floats in C": (lambda f: mcu.accuracy(f / "model.onnx", pets(f), backend="c"), "the C is int8"),
    "accuracy on no split": (lambda f: mcu.accuracy(f / "model.onnx", pets(f), split="x"), "no x set; there are"),
    "report of nothing": (lambda f: mcu.report(f, ["stm32f412"]), "no such file"),
    "report on a word": (lambda f: mcu.report(f, "stm32f412"), "boards is 'stm32f412': expected a list"),
    "save no boxes": (lambda f: mcu.load(f / "model.onnx").save("x.onnx", boxes=True), "is no detector"),
    "save as a picture": (lambda f: mcu.load(f / "model.onnx").save("x.png"), "ends in .onnx"),
    "save an architecture": (lambda f: mcu.load("mcunet_in0").save("x.onnx"), "has no weights to save"),
    "compile a float network": (lambda f: mcu.compile(f / "model.onnx", "F412", "x"), "is float: quantise it first"),
    "compile an architecture": (lambda f: mcu.compile("mcunet_in0", "F412", "x"), "an architecture without weights"),
    "run no folder": (lambda f: mcu.run("no", ARRAY), "no: no mcu_model.h"),
    "run a number": (lambda f: mcu.run(4, ARRAY), "firmware is 4"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line(what, folder):
    mistake, words = MISTAKES[what]
    with pytest.raises(mcu.UserError, match=words) as caught:
        mistake(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_mistakes_with_an_int8_network(folder, int8, firmware, tmp_path):
    out, picture = tmp_path / "fw", folder / "photo.jpg"
    two = mcu.Schedule(p=(2, 2), n=2)
    for mistake, words in {
        lambda: mcu.quantize(int8, ARRAY): "is int8 already",
        lambda: mcu.compile(int8, "F412", 7): "out is 7",
        lambda: mcu.compile(int8, "F412", folder / "photos"): "give a new folder",
        lambda: mcu.compile(int8, "F412", out, arena_kb=1): "bytes of sram, 1,024 are there",
        lambda: mcu.compile(int8, "F412", out, arena_kb="1"): "arena_kb is '1'",
        lambda: mcu.compile(int8, "F412", out, schedule=two, max_p=3): "of no use with a schedule",
        lambda: mcu.compile(int8, "F412", out, schedule=two, segments=2): "schedule .* leaves nothing to choose",
        lambda: mcu.compile(int8, "F412", out, objective="instructions", segments=2): "leave them out",
        lambda: mcu.compile(int8, "F412", out, prefix=3): "prefix is 3",
        lambda: mcu.compile(int8, "F412", out, picture=picture): "give project=True",
        lambda: mcu.run(firmware.folder, picture, on="emulator"): "which board",
        lambda: firmware.run(picture, on="gpu"): "on is 'gpu'",
        lambda: firmware.run(picture, on="serial:"): "on is 'serial:'",
        lambda: firmware.run(picture, on="serial:/dev/none"): "there is no such port",
        lambda: firmware.run(picture, on="emulator", timeout=-1): "timeout is -1",
        lambda: firmware.run(picture, layers=True): "counted in the emulator",
        lambda: firmware.run("no.jpg"): "no such file: no.jpg",
        lambda: firmware.run(None): "picture is None",
        lambda: firmware.run(ARRAY[:3]): "the model reads",
    }.items():
        with pytest.raises(mcu.UserError, match=words) as caught:
            mistake()
        assert "\n" not in str(caught.value)
    assert not out.exists()
