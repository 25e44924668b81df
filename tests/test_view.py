"""One view of a picture from training to the board: the pixels that judged a classifier are those it is calibrated on,
tested with and run with; and the split it was judged by goes with its weights."""

import io
import json
import runpy
import struct
import sys
import zlib
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from nni_mcunet import pictures
from nni_mcunet.core.errors import GraphError, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.model import Model, view_of
from nni_mcunet.engine.quant.ort_session import session, to_input
from nni_mcunet.engine.run import generated
from nni_mcunet.engine.run.pictures import load_picture, read_pictures, with_view
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.data import DataError, open_data
from nni_mcunet.search.data.source import Key
from nni_mcunet.search.run import export
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.fit import Recipe, load_checkpoint
from nni_mcunet.search.supernet.training import check_split, load_supernet, load_weights, train, weights_file

SIZE = (40, 56)  # of the network's input: not square
CROP = View(0.875)
SPEC = ArchSpec("pets", SIZE, 8, ((Block(3, 2, 16, 16),),), head=16, classes=2, view=CROP)


def noise(w, h, seed=0, mode="RGB"):
    """A picture whose every part is another, coarse enough for JPEG."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    coarse = np.random.default_rng(seed).integers(0, 256, (h // 4 + 1, w // 4 + 1, bands), np.uint8)
    return Image.fromarray(coarse.squeeze(2) if bands == 1 else coarse, mode).resize((w, h))


def oriented(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def png(width, height, rows=b"\0\0\0"):
    """The head of a PNG of so many grey pixels, with hardly any data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SAVED = {  # name -> (picture, options of saving it)
    **{f"{w}x{h}.{end}": (noise(w, h), {}) for w, h in ((160, 120), (120, 160), (100, 100), (9, 7), (1, 1), (331, 49))
       for end in ("jpg", "png")},
    **{f"turned{i}.jpg": (noise(160, 120), {"exif": oriented(i)}) for i in range(0, 10)},
    "turned.png": (noise(160, 120), {"exif": oriented(6)}),
    "grey.jpg": (noise(160, 120, mode="L"), {}),
    "cmyk.jpg": (noise(160, 120, mode="CMYK"), {}),
    "alpha.png": (noise(160, 120, mode="RGBA"), {}),
    "greyalpha.png": (noise(160, 120, mode="LA"), {}),
    "palette.png": (noise(160, 120).convert("P", palette=Image.Palette.ADAPTIVE), {}),
    "bits.png": (noise(160, 120, mode="L").convert("1"), {}),
    "deep.png": (Image.fromarray(np.asarray(noise(160, 120, mode="L")).astype(np.uint16) * 256 + 99), {}),
    "badexif.jpg": (noise(160, 120), {"exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"}),
    "plain.bmp": (noise(160, 120), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of two classes with every kind of picture, all of which judge: the training set is another copy."""
    root = tmp_path_factory.mktemp("pets")
    for split in ("train", "val", "test"):
        for at, (name, (image, options)) in enumerate(SAVED.items()):
            path = root / split / ("cat", "dog")[at % 2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **options)
    return root


def data_of(folder, **options):
    return open_data({"kind": "folder", "root": str(folder), "workers": 0, "calibration": [1, 4]} | options)


def judged(data, size=SIZE):
    """Path -> pixels that judge, uint8 (h, w, 3), by way of the batches that a network is judged on."""
    pixels = torch.cat([images for images, _ in data.held_out(size)]).mul(255).round().byte().permute(0, 2, 3, 1)
    return {path: image.numpy() for (path, _), image in zip(data.source.splits["held_out"], pixels, strict=True)}


# --- the same pixels everywhere


@pytest.mark.parametrize("keep", [0.875, 1.0, 0.5])
@pytest.mark.parametrize("size", [SIZE, (48, 48), (49, 10)])
def test_what_judges_is_what_is_deployed(folder, keep, size):
    found = judged(data_of(folder, keep=keep), size)
    assert len(found) == len(SAVED)
    for path, pixels in found.items():
        assert np.array_equal(pixels, load_picture(path, size, View(keep))), path


@pytest.mark.parametrize("view", [CROP, STRETCH])
def test_a_data_set_is_read_with_the_files_view(folder, view):
    """tools/accuracy.py's pictures, of data whose own view is another."""
    data = data_of(folder, keep=0.3)
    before = judged(data)
    deployed = data.as_deployed("test", SIZE, view)
    for (path, label), (pixels, given) in zip(data.source.splits["test"], deployed, strict=True):
        assert given == label and np.array_equal(pixels, load_picture(path, SIZE, view)), path
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), judged(data).values(), strict=True))


def test_the_centre_is_cut_out_and_every_pixel_counts(tmp_path):
    """Against a view put together by hand: the short side to 64 / 0.8 = 80, then the middle 64 x 64."""
    image = noise(320, 240)
    image.save(tmp_path / "a.png")
    cut = image.crop((40 + 20, 20, 280 - 20 + 8, 220 + 8)).crop((4, 4, 196, 196))  # 192 of 240 in the middle
    assert cut.size == (192, 192)
    middle = image.crop(((320 - 192) // 2, (240 - 192) // 2, (320 + 192) // 2, (240 + 192) // 2))
    expected = np.asarray(middle).reshape(64, 3, 64, 3, 3).mean((1, 3))
    found = load_picture(tmp_path / "a.png", (64, 64), View(0.8))
    wide = np.asarray(image.crop((61, 21, 259, 219))).reshape(66, 3, 66, 3, 3).mean((1, 3))
    assert np.abs(found - expected).mean() < 6 < np.abs(found.astype(float) - wide[:64, :64]).mean()


def test_files_are_read_as_their_viewer_shows_them(folder):
    """Turned by EXIF, 16 bits as the upper 8, grey as three equal channels: by either decoder."""
    upright = noise(160, 120)
    undone = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    base = np.asarray(pictures.load(folder / "val/cat/turned0.jpg", CROP).convert("RGB"))
    for value, turn in undone.items():
        path = next(folder.glob(f"val/*/turned{value}.jpg"))
        expected = Image.fromarray(base) if turn is None else Image.fromarray(base).transpose(turn)
        for view in (CROP, STRETCH):
            found = pictures.load(path, view)
            assert found.size == expected.size and np.abs(np.asarray(found).astype(int) - expected).max() <= 1, value
    assert np.abs(base.astype(int) - upright).mean() < 12
    deep = np.asarray(noise(160, 120, mode="L"))
    for view in (CROP, STRETCH):
        pixels = np.asarray(pictures.load(next(folder.glob("val/*/deep.png")), view))
        assert (pixels == deep[..., None]).all(), view
    assert pictures.load(next(folder.glob("val/*/turned.png")), CROP).size == (120, 160)


def test_stretching_is_mmdets(folder):
    import mmcv

    for name in ("160x120.jpg", "9x7.png", "turned6.jpg", "cmyk.jpg", "deep.png", "palette.png"):
        path = next(folder.glob(f"val/*/{name}"))
        bgr = mmcv.imresize(mmcv.imfrombytes(path.read_bytes(), backend="cv2"), SIZE[::-1])
        assert np.array_equal(load_picture(path, SIZE), bgr[..., ::-1]), name


def test_a_whole_side_is_never_left(tmp_path):
    """keep 1 of odd sizes: rounding must not put the part's edge outside of the picture."""
    for w, h in ((3, 3), (25, 50), (49, 98), (103, 47), (107, 187), (1, 3)):
        Image.new("RGB", (w, h)).save(tmp_path / "a.png")
        for size in ((10, 49), (187, 187), (176, 176), (93, 31), (187, 107)):
            assert load_picture(tmp_path / "a.png", size, View(1.0)).shape == (*size, 3)


# --- the view as data


def test_a_view_is_spelled_in_one_way():
    for view in (STRETCH, CROP, View(1.0), View(0.01), View(1 / 3), View(pad=0), View(pad=255)):
        assert View.parse(str(view)) == view
    assert (str(STRETCH), str(CROP), str(View(pad=114))) == ("stretch", "crop:0.875", "letterbox:114")
    boxes = ("letterbox", "letterbox:", "letterbox:256", "letterbox:-1", "letterbox:1.0", "letterbox: 1")
    for wrong in ("", "crop", "crop:", "crop:0", "crop:1.1", "crop:nan", "crop:x", "Stretch", None, 1, {}, *boxes):
        with pytest.raises(UserError, match="expected 'stretch', 'letterbox:PAD'"):
            View.parse(wrong)
    for wrong in (0, 2, float("nan"), True, "1"):
        with pytest.raises(UserError, match="expected a share"):
            View(wrong)
    for keep, pad in ((None, -1), (None, 256), (None, True), (None, 1.0), (0.5, 114)):
        with pytest.raises(UserError, match="expected a byte, 0 to 255, and no share"):
            View(keep, pad)


def test_an_architecture_keeps_its_view_and_stays_the_same_network(tmp_path):
    bare = replace(SPEC, view=None)
    assert bare == SPEC and hash(bare) == hash(SPEC) and "view" not in bare.to_dict()
    assert ArchSpec.load(SPEC.save(tmp_path / "a.json")).view == CROP
    assert ArchSpec.load(bare.save(tmp_path / "b.json")).view is None
    space = load_space("demo")
    spec = space.spec(space.smallest())
    assert space.candidate(replace(spec, view=CROP)) == space.candidate(spec)
    with pytest.raises(UserError, match=r"b.json: the view is 'middle': expected 'stretch', "):
        (tmp_path / "b.json").write_text(json.dumps(bare.to_dict() | {"view": "middle"}))
        ArchSpec.load(tmp_path / "b.json")


def model(**meta):
    net = Net(build_graph(SPEC)).eval()
    return Model(net.graph.folded(), net.folded_weights(), meta)


def test_onnx_files_say_it(tmp_path):
    assert view_of(load_onnx(save_onnx(model(view="crop:0.5"), tmp_path / "a.onnx"))) == View(0.5)
    assert view_of(load_onnx(save_onnx(model(), tmp_path / "b.onnx"))) == STRETCH
    assert view_of(with_view(model(), "crop:0.5")) == View(0.5)
    assert view_of(with_view(model(view="crop:0.5"), None)) == View(0.5)
    with pytest.raises(UserError, match=r"--view stretch: this model was judged with crop:0.5"):
        with_view(model(view="crop:0.5"), "stretch")
    with pytest.raises(UserError, match="is a detector"):
        with_view(model(detector={}), "crop:0.5")
    with pytest.raises(GraphError, match=r"c.onnx: metadata 'mcunet': the view is 7: expected 'stretch'"):
        load_onnx(save_onnx(model(view=7), tmp_path / "c.onnx"))


# --- from the weights to the board


@pytest.fixture
def tool(monkeypatch, capsys):
    """tool(name, *words): a command line in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        code = 0
        try:
            runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return (code, *capsys.readouterr())

    return run


def weights(data, path, seed=0):
    torch.manual_seed(seed)
    net = Net(build_graph(SPEC))
    path.write_bytes(weights_file(net.state_dict(), data))
    return net.eval()


def test_every_step_to_the_board_sees_what_judged(tool, folder, tmp_path, monkeypatch):
    data = data_of(folder)
    net, arch, best = weights(data, tmp_path / "best.pth"), SPEC.save(tmp_path / "best.json"), tmp_path / "best.pth"
    onnx, int8, out = (tmp_path / name for name in ("m.onnx", "m.int8.onnx", "fw"))
    assert tool("export", arch, best, "-o", onnx)[0] == 0
    pixels, run = judged(data), session(load_onnx(onnx))
    for path, image in pixels.items():  # export's mean and std are the training's, too
        seen = load_picture(path, SIZE, view_of(load_onnx(onnx)))
        theirs = run.run(None, {"image": to_input(seen)})[0].ravel()
        with torch.no_grad():
            ours = net(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].ravel().numpy()
        assert np.allclose(theirs, ours, atol=1e-4), path

    calibrated = []
    monkeypatch.setattr(
        "nni_mcunet.engine.run.pictures.load_picture", lambda *a: calibrated.append(a) or load_picture(*a)
    )
    assert tool("quantize", onnx, "--calib", folder / "val/cat", "-o", int8)[0] == 0
    assert len(calibrated) == len(list((folder / "val/cat").iterdir()))
    assert all(args[2] == CROP for args in calibrated)
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert view_of(load_onnx(int8)) == CROP

    path = next(p for p in pixels if "160x120.jpg" in p)
    assert tool("generate", int8, "--board", "F412", "--max-p", 1, "--project", "--picture", path, "-o", out)[0] == 0
    assert (out / "board/picture.rgb").read_bytes() == pixels[path].tobytes()
    assert pixels[path].tobytes() != load_picture(path, SIZE).tobytes()
    assert generated.input_view(out) == CROP and "view: crop:0.875" in (out / "mcu_model.h").read_text()

    def built(folder, board, picture):
        raise UserError(f"saw {zlib.crc32(picture.tobytes())}")

    monkeypatch.setattr("nni_mcunet.engine.board_run.build_firmware", built)
    error = tool("run_board", out, "--board", "F412", "--emulate", "--picture", path)[2]
    assert f"saw {zlib.crc32(pixels[path].tobytes())}" in error


def test_judged_and_deployed_accuracy_are_one(tool, folder, tmp_path):
    """The float file on the engine's pixels is right on exactly as many pictures as the network that judges."""
    data = data_of(folder)
    net = weights(data, tmp_path / "best.pth", seed=2)
    tool("export", SPEC.save(tmp_path / "best.json"), tmp_path / "best.pth", "-o", tmp_path / "m.onnx")
    score = data.task.score(net, data.held_out(SIZE))
    source = f"{{kind: folder, root: {folder}, workers: 0, keep: 0.3}}"  # the file's view counts, not these data's
    code, text, _ = tool("accuracy", tmp_path / "m.onnx", "--data", source, "--split", "held_out")
    assert code == 0 and f"{round(score * len(SAVED))} of {len(SAVED)} held_out pictures, seen by crop:0.875" in text
    tool("quantize", tmp_path / "m.onnx", "--calib", folder / "val/dog", "-o", tmp_path / "m.int8.onnx")
    counts = [tool("accuracy", tmp_path / "m.int8.onnx", "--data", source, "--backend", b)[1] for b in
              ("onnxruntime", "c")]  # fmt: skip
    assert counts[0] == counts[1] and "test pictures" in counts[0]
    assert "is float" in tool("accuracy", tmp_path / "m.onnx", "--data", source, "--backend", "c")[2]
    assert (
        "no test set"
        in tool("accuracy", tmp_path / "m.onnx", "--data", source.replace("pets", "no"))[2] + "no test set"
    )
    assert "no score for each of the data's 10 classes" in tool("accuracy", tmp_path / "m.onnx", "--data", "digits")[2]


def test_a_view_from_the_weights_and_from_the_command_line(tool, folder, tmp_path):
    """Architectures of before there was a view: their weights say it, else --view, else the default is named."""
    data, best = data_of(folder, keep=0.5), tmp_path / "best.pth"
    weights(data, best)
    arch, out = replace(SPEC, view=None).save(tmp_path / "best.json"), tmp_path / "m.onnx"
    assert "crop:0.5," in tool("export", arch, best, "-o", out)[1] and view_of(load_onnx(out)) == View(0.5)
    assert "says the view crop:0.875" in tool("export", SPEC.save(tmp_path / "x.json"), best, "-o", out)[2]
    torch.save(dict(torch.load(best)), tmp_path / "old.pth")
    assert "stretch (default)" in tool("export", arch, tmp_path / "old.pth", "-o", out)[1]
    assert "view" not in load_onnx(out).meta
    quantize = ("quantize", out, "--calib", folder / "val/cat", "--view", "crop:0.7", "-o", tmp_path / "q.onnx")
    assert tool(*quantize)[0] == 0 and view_of(load_onnx(tmp_path / "q.onnx")) == View(0.7)
    assert tool("export", arch, tmp_path / "old.pth", "-o", out, "--view", "crop:0.6")[0] == 0
    assert view_of(load_onnx(out)) == View(0.6)
    code, _, error = tool(*quantize)
    assert code == 2 and "judged with crop:0.6" in error and error.count("\n") == 1


# --- a bound on pixels


@pytest.mark.parametrize("size", [(30000, 30000), (12000, 12000), (1 << 27, 2), (2, 1 << 28)])
def test_a_picture_of_too_many_pixels_is_refused_everywhere(tmp_path, size, monkeypatch):
    from detection.data.pictures import LoadImageFromFile, LoadPicture, inspect

    path = tmp_path / "train/cat/big.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(png(*size))
    for view in (STRETCH, CROP):
        with pytest.raises(UserError, match=r"big.png has more than the 134,217,728 pixels that are read: make it"):
            load_picture(path, SIZE, view)
    assert inspect(path).fault.startswith("more than the 134,217,728 pixels")
    monkeypatch.setattr(LoadImageFromFile, "transform", lambda *_: pytest.fail("is decoded"))
    assert LoadPicture().transform({"img_path": str(path)}) is None
    for i in range(2):
        noise(9, 9).save(tmp_path / "train/cat" / f"{i}.png")
        (tmp_path / "train/dog").mkdir(exist_ok=True)
        noise(9, 9).save(tmp_path / "train/dog" / f"{i}.png")
    data = data_of(tmp_path, held_out=1)
    data.source.splits["train"] = [(str(path), 0)]
    for seed in (None, (0, 0)):
        with pytest.raises(DataError, match=r"data: .*big.png has more than"):
            data.source.sample(Key("train", 0, SIZE, seed))


def test_a_large_camera_picture_is_read(tmp_path, recwarn):
    """108 megapixels: more than Pillow warns of, and nothing is said."""
    assert pictures.open_picture(io.BytesIO(png(12000, 9000))).size == (12000, 9000)
    assert not [w for w in recwarn if "ecompression" in str(w.message)]


@pytest.mark.parametrize("view", [STRETCH, CROP])
def test_a_damaged_picture_is_one_line(tmp_path, view):
    noise(160, 120).save(tmp_path / "a.jpg")
    whole, path = (tmp_path / "a.jpg").read_bytes(), tmp_path / "b.jpg"
    for data, reason in ((whole[:-900], "truncated"), (b"text", "of no known kind"), (b"", "an empty file")):
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"b.jpg is no readable picture \(.*{reason}.*\): give a whole") as error:
            load_picture(path, SIZE, view)
        assert "\n" not in str(error.value) and "BytesIO" not in str(error.value)


def test_all_broken_pictures_are_named_at_once(tmp_path):
    for i in range(9):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(tmp_path / f"{i}.png")
    for i in (2, 3, 5):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"2\.png is no readable picture .*; 2 more cannot be read: 3\.png, 5\.png$"):
        list(read_pictures(tmp_path, (32, 32, 3)))
    (tmp_path / "5.png").unlink()
    (tmp_path / "3.png").unlink()
    with pytest.raises(UserError, match=r"2\.png is no readable picture .* in its place$"):
        list(read_pictures(tmp_path, (32, 32, 3)))


# --- the split goes with the weights


@pytest.fixture
def pets(tmp_path):
    for at, name in enumerate(("cat", "dog")):
        for i in range(8):
            path = tmp_path / "pets/train" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(20, 16, seed=10 * at + i).save(path)
    return tmp_path / "pets"


def test_another_split_is_refused(pets, tmp_path):
    data, best = data_of(pets, held_out=4), tmp_path / "best.pth"
    weights(data, best)
    assert check_split(best, data) is None
    check_split(best, data_of(pets, held_out=4, keep=0.5, jitter=0.1))  # which do not change who judges
    pets.rename(moved := tmp_path / "elsewhere")
    assert check_split(best, data_of(moved, held_out=4)) is None
    for options, message in (
        ({"held_out": 5}, "held_out 4, these have 5"),
        ({"held_out": 4, "seed": 1}, "seed 0, these"),
    ):
        with pytest.raises(UserError, match=f"best.pth was trained and chosen on data with {message}.*give --data as"):
            check_split(best, data_of(moved, **options))
    (moved / "train/cat/0.png").rename(moved / "train/cat/00.png")
    with pytest.raises(UserError, match="another list of pictures"):
        check_split(best, data_of(moved, held_out=4))
    (moved / "train/cat/00.png").unlink()
    with pytest.raises(UserError, match="sizes of 12 train pictures, these have 11"):
        check_split(best, data_of(moved, held_out=4))
    torch.save(dict(torch.load(best)), best)  # as searches once exported them
    assert "best.pth does not say on which pictures it was trained" in check_split(best, data_of(moved, held_out=4))
    load_weights(SPEC, best)


def test_the_files_decide_where_they_are_known(folder, tmp_path):
    """With val/ and test/ nothing is split off: held_out and seed say nothing."""
    weights(data_of(folder), tmp_path / "best.pth")
    assert check_split(tmp_path / "best.pth", data_of(folder, held_out=7, seed=1)) is None


def test_finetune_refuses_what_would_judge_wrongly(tool, pets, tmp_path):
    best, arch = tmp_path / "best.pth", SPEC.save(tmp_path / "best.json")
    weights(data_of(pets, held_out=4), best)

    def run(more, *words):
        data = f"{{kind: folder, root: {pets}, workers: 0, calibration: [1, 4], {more}}}"
        return tool("finetune", arch, best, "--data", data, "--steps", 1, "--batch", 4, *words)

    for more, message in (
        ("held_out: 3", "held_out 4, these have 3"),
        ("held_out: 4, keep: 0.5", "the view crop:0.875"),
    ):
        code, _, error = run(more)
        assert code == 2 and message in error and error.count("\n") == 1
    code, text, error = run("held_out: 4")
    assert code == 0 and "batches of 4, learning rate 7.8125e-05" in text, error  # 0.02 for 1024, by the linear rule
    tuned = torch.load(tmp_path / "best_tuned.pth")
    assert tuned.meta["data"]["held_out"] == 4 and tuned.meta["view"] == "crop:0.875"
    assert load_checkpoint(tmp_path / "best_tuned.pth.ckpt")["identity"]["recipe"]["lr"] == 0.02 * 4 / 1024
    assert "learning rate 0.3 at" in run("held_out: 4", "--lr", 0.3, "--out", tmp_path / "x.pth")[1]
    torch.save(dict(torch.load(best)), best)
    code, _, error = run("held_out: 3", "--out", tmp_path / "y.pth")
    assert code == 0 and "warning: " in error and "best.pth does not say on which pictures" in error


def test_a_learning_rate_is_of_its_batch(tool, pets, tmp_path, monkeypatch):
    from argparse import Namespace

    from nni_mcunet.search.supernet.recipe_options import data_and_recipe

    data = f"{{kind: folder, root: {pets}, held_out: 4}}"

    def rate(recipe, **flags):
        args = Namespace(data=data, **flags)
        return data_and_recipe({"recipe": recipe}, args, Recipe(batch=8, lr=0.4))[1].lr

    assert rate({}) == 0.4 and rate({}, batch=4) == 0.2 and rate({"batch": 2}) == 0.1
    assert rate({"lr": 0.8, "batch": 4}) == 0.8 and rate({"lr": 0.8, "batch": 4}, batch=1) == 0.2
    assert rate({"lr": 0.8}, batch=4) == 0.4 and rate({"lr": 0.8, "batch": 4}, batch=1, lr=0.5) == 0.5
    assert rate({"adam": True}, batch=4) == 0.4


SMALL = Space.from_dict(load_space("demo").to_dict() | {"name": "pets", "r": [32, 48], "classes": 2})


def test_a_search_and_its_supernetwork_have_one_split(pets, tmp_path):
    """The checkpoint knows the files; what a search exports knows them and its view."""
    config = {"kind": "folder", "root": str(pets), "held_out": 4, "workers": 0, "calibration": [1, 4], "keep": 0.75}
    path = tmp_path / "x.pth"
    train(SMALL, recipe := Recipe(largest=1, shared=1, subnets=2, batch=4), path, open_data(config))
    load_supernet(path, open_data(config))
    out = tmp_path / "out"
    space = tmp_path / "space.json"
    space.write_text(json.dumps(SMALL.to_dict()))
    search = SearchConfig.from_dict(dict(space=str(space), board="f412", supernet=str(path), out=str(out), data=config))
    evolution = search.evolution()
    evolution.tell(evolution.ask().index, 0.5)
    out.mkdir()
    (out / "history.jsonl").write_text("".join(json.dumps(asdict(p)) + "\n" for p in evolution.proposals))
    spec = export.export_best(search, out)
    assert spec.view == ArchSpec.load(out / "best.json").view == View(0.75)
    meta = torch.load(out / "best.pth", weights_only=True).meta
    assert meta["view"] == "crop:0.75" and meta["data"] == open_data(config).identity
    assert meta["data"]["files"].keys() == {"train", "held_out"}
    (out / "best.json").unlink()
    export.finish(replace(search, data=config | {"root": str(tmp_path / "none")}), out)
    assert ArchSpec.load(out / "best.json").view == View(0.75)  # where the data are not, too

    old = load_checkpoint(path)
    del old["identity"]["data"]["files"]  # a checkpoint of before: it goes on, and is not refused
    torch.save(old, path)
    load_supernet(path, open_data(config))
    train(SMALL, recipe, path, open_data(config))
    train(SMALL, recipe, tmp_path / "y.pth", open_data(config))
    (pets / "train/dog/1.png").rename(pets / "train/dog/z.png")
    with pytest.raises(UserError, match=r"y.pth was trained on data with another list of pictures"):
        load_supernet(tmp_path / "y.pth", open_data(config))
    with pytest.raises(UserError, match="another data"):
        train(SMALL, recipe, tmp_path / "y.pth", open_data(config))
