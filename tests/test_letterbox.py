"""Letterboxed pictures: the same pixels in training, test, calibration, detection and on the board, and boxes back in
the file's pixels. One key of a config says it, and what cannot follow it is refused."""

import json
import pickle
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from nets import any_graph, random_graph, random_model
from PIL import Image
from test_engine import random_schedule
from test_pictures import SIZE, compiled, jpeg, photo, planes, raw565, replicated, to_rgb

from detection import input_pictures, load_config, load_detector
from detection.config.picture_fit import check_view, fit_pictures, picture_view
from detection.data.anchors import dataset_sizes
from detection.data.letterbox import LetterboxPad, LetterboxResize
from nni_mcunet import bridge
from nni_mcunet.cli.main import run
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.plan.picture_source import callback_bytes
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.onnx.write import save_onnx
from nni_mcunet.engine.model import view_of
from nni_mcunet.engine.run import generated, toolchain
from nni_mcunet.engine.run.pictures import with_view
from nni_mcunet.pictures import load, seen

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "configs/det/yolov3_digits.py")
BOX = View(pad=114)
LETTERBOX = {"picture.fit": "letterbox"}


@pytest.mark.parametrize(
    ("picture", "size", "placed"),
    [((480, 640), (192, 256), (192, 256)), ((640, 480), (192, 256), (192, 144)), ((100, 640), (192, 256), (40, 256)),
     ((1, 5000), (192, 256), (1, 256)), ((5000, 1), (192, 256), (192, 1)), ((3, 7), (64, 64), (27, 64)),
     ((240, 320), (224, 224), (168, 224)), ((333, 500), (192, 256), (170, 256))],
)  # fmt: skip
def test_a_picture_is_as_large_as_it_fits(picture, size, placed):
    assert BOX.placed(picture, size) == placed and STRETCH.placed(picture, size) == size


@pytest.mark.parametrize("shape", [(90, 120), (120, 90), (192, 256), (31, 200), (500, 333), (1, 9)])
def test_training_sees_what_the_board_sees(shape):
    """mmdet's pipeline and nni_mcunet.pictures give the same bytes, and boxes go back to the file's pixels."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    boxes = np.array([[0, 0, shape[1], shape[0]]], np.float32)
    results = {"img": rgb[..., ::-1].copy(), "img_shape": shape, "gt_bboxes": boxes.copy()}
    results = LetterboxPad((256, 192), 114)(LetterboxResize((256, 192))(results))
    ours = seen(Image.fromarray(rgb), (192, 256), BOX)
    assert np.array_equal(results["img"][..., ::-1], ours) and results["img_shape"] == (192, 256)
    high, wide = BOX.placed(shape, (192, 256))
    assert (ours[high:] == 114).all() and (ours[:, wide:] == 114).all()
    assert np.array_equal(ours[:high, :wide], cv2.resize(rgb, (wide, high)))
    assert results["gt_bboxes"].tolist() == [[0, 0, wide, high]]
    assert results["gt_bboxes"] / np.tile(results["scale_factor"], 2) == pytest.approx(boxes, rel=1e-6)


def test_grey_pictures_are_padded_alike():
    grey = Image.fromarray(np.full((10, 20), 7, np.uint8))
    assert seen(grey, (16, 16), BOX)[:, 0, 0].tolist() == [7] * 8 + [114] * 8


# --- one key of a config


def steps(config, loader):
    return [step["type"] for step in config[loader].dataset.pipeline]


def test_one_key_reaches_every_pipeline(tmp_path):
    config = load_config(DIGITS, LETTERBOX)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        found = steps(config, loader)
        assert "LetterboxResize" in found and "Resize" not in found
        assert found[-2:] == ["LetterboxPad", "PackDetInputs"]
        pad = config[loader].dataset.pipeline[-2]
        assert pad == {"type": "LetterboxPad", "size": (128, 128), "pad": 114}
    config.dump(tmp_path / "config.py")  # as a training writes it into its work dir
    again = load_config(tmp_path / "config.py")
    assert all(steps(again, name) == steps(config, name) for name in ("train_dataloader", "test_dataloader"))
    back = load_config(tmp_path / "config.py", {"picture.fit": "stretch"})
    assert back.train_dataloader.dataset == load_config(DIGITS).train_dataloader.dataset | {}
    assert picture_view(config) == BOX and picture_view(back) == STRETCH
    assert picture_view(load_config(DIGITS, LETTERBOX | {"picture.pad": 0})) == View(pad=0)


def test_nested_pipelines_are_reached():
    crop = [dict(type="Resize", scale=(9, 9)), dict(type="RandomFlip", prob=0.5)]
    inner = dict(type="CocoDataset", pipeline=[dict(type="LoadPicture"), dict(type="RandomChoice", transforms=[crop])])
    config = Config(
        {"train_dataloader": {"dataset": {"type": "RepeatDataset", "dataset": inner}}, "picture": {"fit": "letterbox"}}
    )
    fit_pictures(config, (64, 48))
    (found,) = config.train_dataloader.dataset.dataset.pipeline[1].transforms
    assert [(step.type, step.get("scale"), step.get("size")) for step in found] == [
        ("LetterboxResize", (64, 48), None), ("RandomFlip", None, None), ("LetterboxPad", None, (64, 48))]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"picture.fit": "crop"}, "picture has fit='crop'"),
        ({"picture.fits": "letterbox"}, "picture has fits"),
        ({"picture.fit": "letterbox", "picture.pad": 300}, "picture: the view pads with 300"),
        ({"test_dataloader.dataset.pipeline.1.keep_ratio": True}, "test_dataloader: Resize has keep_ratio=True"),
        ({"picture.fit": "letterbox", "test_dataloader.dataset.pipeline.1.type": "RandomChoiceResize"},
         "test_dataloader: RandomChoiceResize does not letterbox"),
    ],
)  # fmt: skip
def test_what_cannot_follow_the_key_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        load_config(DIGITS, options)


def test_a_published_detector_takes_the_size_of_its_own_pipeline():
    extd = str(ROOT / "configs/det/extd_widerface.py")
    with pytest.raises(UserError, match="a Resize without scale"):
        load_config(extd, LETTERBOX)
    config = load_config(extd, LETTERBOX | {"test_dataloader.dataset.pipeline.1.scale": (640, 480),
                                            "val_dataloader.dataset.pipeline.1.scale": (640, 480)})  # fmt: skip
    step = config.test_dataloader.dataset.pipeline[1]
    assert (step.type, step.scale) == ("LetterboxResize", (640, 480))


# --- from a config to a board


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A letterboxed config of 64x64 images on three pictures of 32x48, its random weights and two ONNX files."""
    folder = tmp_path_factory.mktemp("letterbox")
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    arch = ArchSpec("small_r64", 64, 16, blocks).save(folder / "arch.json")
    rng = np.random.default_rng(0)
    images, notes = [], []
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (48, 32, 3), np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "width": 32, "height": 48})
        notes.append({"id": i, "image_id": i, "category_id": 0, "bbox": [4, 6, 16, 24], "area": 384, "iscrowd": 0})
    labels = {"images": images, "annotations": notes, "categories": [{"id": 0, "name": "thing"}]}
    (folder / "labels.json").write_text(json.dumps(labels))
    labels = str(folder / "labels.json")
    config = folder / "config.py"
    data = (f"dict(_delete_=True, type='CocoDataset', data_root={str(folder) + '/'!r}, ann_file='labels.json', "
            "data_prefix=dict(img=''), metainfo=dict(classes=('thing',)), pipeline={{{{_base_.{}}}}})")  # fmt: skip
    config.write_text(
        f"_base_ = {str(ROOT / 'configs/det/_base_/yolov3_mcunet.py')!r}\npicture = dict(fit='letterbox', pad=90)\n"
        f"model = dict(backbone=dict(arch={str(arch)!r}, out_indices=(2, 4)), neck=dict(width=16), "
        "bbox_head=dict(anchors=[[(0.1, 0.2)], [(0.3, 0.4)]]))\n"
        f"train_dataloader = dict(dataset={data.format('train_pipeline')})\n"
        f"val_dataloader = dict(dataset={data.format('test_pipeline')})\ntest_dataloader = val_dataloader\n"
        f"val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox', ann_file={labels!r})\n"
        "test_evaluator = val_evaluator\n"
    )
    torch.manual_seed(0)
    detector = load_detector(str(config))
    torch.save({"meta": {}, "state_dict": detector.state_dict()}, folder / "last.pth")
    save_onnx(bridge.detector(str(config), str(folder / "last.pth")), folder / "model.onnx")
    run("quantize", [str(folder / "model.onnx"), "--calib", str(config), "-o", str(folder / "model.int8.onnx")])
    return folder


def test_the_files_say_it(made, tmp_path):
    for name in ("model.onnx", "model.int8.onnx"):
        assert view_of(load_model(made / name)) == View(pad=90)
    run("generate", [str(made / "model.int8.onnx"), "--board", "stm32f412", "-o", str(tmp_path / "fw")])
    assert generated.input_view(tmp_path / "fw") == View(pad=90)
    assert "#define MCU_LETTERBOX 90\n" in (tmp_path / "fw/mcu_model.h").read_text()


def test_calibration_and_comparison_see_the_files_pixels(made):
    (first, *_) = input_pictures(load_config(str(made / "config.py")), 3)
    expected = seen(load(made / "0.png", View(pad=90)), (64, 64), View(pad=90))
    assert np.array_equal(first, expected) and (expected[:, 43:] == 90).all()


def test_boxes_are_in_the_files_pixels(made, tmp_path):
    """mmdet's test loop, the int8 engine in it, and mcunet detect map boxes back by the same factors."""
    config = str(made / "config.py")
    for name, network in (("last.pth", [config, str(made / "last.pth")]), ("model.int8.onnx", [])):
        network = network or [str(made / name)]
        run("detect", [*network, str(made / "0.png"), "-o", str(tmp_path / name), "--score", "0"])
        (report,) = json.loads((tmp_path / name / "boxes.json").read_text())
        dumped = str(tmp_path / f"{name}.pkl")
        run("test", [config, str(made / name), "--work-dir", str(tmp_path / "w"), "--out", dumped])
        found = pickle.loads(Path(dumped).read_bytes())[0]["pred_instances"]
        order = np.argsort(-found["scores"].numpy(), kind="stable")
        boxes = np.array([box["box"] for box in report["boxes"]])
        assert np.allclose(boxes, found["bboxes"].numpy()[order], atol=1e-3) and len(boxes)


def test_files_of_two_views_are_not_mixed(made, tmp_path):
    config, int8 = str(made / "config.py"), str(made / "model.int8.onnx")
    stretched = ["--cfg-options", "picture.fit=stretch"]
    message = "sees pictures by letterbox:90, those of .* are seen by stretch"
    for words in (
        ["test", config, int8, "--work-dir", str(tmp_path), *stretched],
        ["compare-boxes", config, str(made / "last.pth"), "--int8", int8, *stretched],
        ["quantize", str(made / "model.onnx"), "--calib", config, "-o", str(tmp_path / "x.onnx"), *stretched],
    ):
        with pytest.raises(UserError, match=message):
            run(words[0], words[1:])
    with pytest.raises(UserError, match="was judged with letterbox:90"):
        with_view(load_model(int8), "stretch")
    check_view(View(pad=90), load_config(config), int8)


def test_a_checkpoint_is_of_its_trainings_view(made, tmp_path):
    """mmengine keeps the config in it; one of others says nothing."""
    config, path = str(made / "config.py"), tmp_path / "trained.pth"
    state = torch.load(made / "last.pth", weights_only=True)["state_dict"]
    torch.save({"meta": {"cfg": load_config(config).pretty_text}, "state_dict": state}, path)
    assert load_detector(config, str(path)).view == View(pad=90)
    stretched = {"picture.fit": "stretch"}
    with pytest.raises(UserError, match=r"trained\.pth sees pictures by letterbox:90"):
        load_detector(config, str(path), stretched)
    with pytest.raises(UserError, match=r"trained\.pth sees pictures by letterbox:90"):
        words = [config, str(path), "--work-dir", str(tmp_path / "w"), "--cfg-options", "picture.fit=stretch"]
        run("test", words)
    with pytest.raises(UserError, match=r"trained\.pth was trained with bbox_head\.anchors"):
        words = [config, str(path), "--work-dir", str(tmp_path / "w"), "--cfg-options"]
        run("test", [*words, "model.bbox_head.anchors=[[(0.1,0.2)],[(0.3,0.5)]]"])
    torch.save({"meta": {"cfg": "model = dict()"}, "state_dict": state}, path)  # before there was a choice
    with pytest.raises(UserError, match=r"trained\.pth sees pictures by stretch"):
        load_detector(config, str(path))
    assert load_detector(config, str(made / "last.pth"), stretched).view == STRETCH


def test_anchors_are_fractions_of_the_letterboxed_image(made, capsys):
    config = load_config(str(made / "config.py"))
    found = dataset_sizes(config.train_dataloader.dataset, View(pad=90), (64, 64))
    assert found == pytest.approx(np.array([[16 * 43 / 32 / 64, 24 / 48]] * 3))
    assert dataset_sizes(config.train_dataloader.dataset) == pytest.approx(np.array([[0.5, 0.5]] * 3))
    run("anchors", [str(made / "config.py"), "--scales", "1", "--number", "1"])
    assert "anchors=[[(0.336, 0.5)]]" in capsys.readouterr().out
    with pytest.raises(UserError, match="letterboxes"):
        run("anchors", [str(made / "config.py"), str(made / "config.py")])


# --- the C callbacks


@pytest.fixture(scope="module", params=[0, 3])
def case(request, tmp_path_factory):
    """A network in patches that sees letterboxed pictures, compiled with the callbacks."""
    rng = np.random.default_rng(request.param)
    graph = any_graph(rng, 4, 3) if request.param else random_graph(rng, 4)
    while True:
        p = plan(graph, random_schedule(rng, graph), halo="cache" if request.param else "clip")
        if p.segments[0].patched:
            model = replace(random_model(rng, graph), meta={"view": "letterbox:90"})
            return compiled(p, model, tmp_path_factory.mktemp("c") / "model")


def boxed(case, picture):
    """(the picture in its letterbox by numpy, the environment that says its size)."""
    high, wide, _ = picture.shape
    expected = seen(Image.fromarray(picture), case.shape[:2], View(pad=90))
    assert np.array_equal(expected[:high, :wide], picture)  # as large as it fits: nothing was resized
    return expected, {"BOX_H": high, "BOX_W": wide}


def shapes(case):
    h, w, _ = case.shape
    return [(h, w // 2), (h // 2, w), (h, w), (h, 1), (1, w), (h, w - 1), (h - 1, w)]


def test_the_boards_letterbox_is_numpys(case):
    for high, wide in shapes(case):
        picture = photo(high, wide)
        expected, box = boxed(case, picture)
        case.holds(expected, "frame", picture.tobytes(), STRIDE=wide, **box)
        grey = np.repeat(picture[..., :1], 3, 2)
        case.holds(boxed(case, grey)[0], "grey", picture[..., 0].tobytes(), STRIDE=wide, **box)
        data, meaning = raw565(picture)
        expected = boxed(case, meaning)[0]
        case.holds(expected, "rgb565", data, STRIDE=2 * wide, **box)
        case.holds(expected, "lines", data, CAMERA_H=high, CAMERA_W=wide, LINES_W=wide, **box)


def test_a_jpeg_of_another_shape_is_letterboxed(case):
    for high, wide in shapes(case):
        data = jpeg(photo(high, wide))
        expected, box = boxed(case, to_rgb(*np.moveaxis(planes(data), 2, 0)))
        case.holds(expected, "jpeg", data, **box)
        if not (high % 2 or wide % 2):
            half = jpeg(photo(2 * high, 2 * wide), "420")
            case.holds(boxed(case, replicated(half, 2))[0], "jpeg", half, REDUCE=2, **box)


def test_a_picture_that_does_not_fit_its_letterbox_is_an_error(case):
    h, w, _ = case.shape
    picture = photo(h, w)
    for high, wide in ((h + 1, w), (h, w + 1), (0, w), (h, -1)):
        tiles, _, error = case.run("frame", picture.tobytes(), BOX_H=high, BOX_W=wide)
        assert error == 101 and not any(tile.any() for _, _, tile in tiles)
    assert case.run("jpeg", jpeg(photo(h, w // 2)))[2] == SIZE  # without mcu_read_letterbox
    assert case.run("jpeg", jpeg(photo(h // 2, w)))[2] == SIZE
    assert case.run("jpeg", jpeg(picture), ROW=h)[2] == SIZE
    data = raw565(photo(h, w // 2))[0]
    assert case.run("lines", data, CAMERA_H=h, CAMERA_W=w // 2, LINES_W=w // 2)[2] == 4  # MCU_LINES_SIZE


def test_a_network_of_stretched_pictures_has_no_letterbox(case, tmp_path):
    assert (case.folder / "pictures/mcu_letterbox.c").is_file()
    folder = write_sources(case.plan, replace(case.model, meta={}), tmp_path / "x")
    assert not list(folder.glob("pictures/*letterbox*"))


def test_bytes_of_the_callbacks(case):
    """callback_bytes says what the compiler of a 32-bit core reserves."""
    sizes = callback_bytes(case.plan, View(pad=90))
    headers = '#include "mcu_letterbox.h"\n#include "mcu_lines.h"\n'
    checks = "".join(f'_Static_assert(sizeof(mcu_{n}) == {sizes[n]}, "{n}");\n' for n in ("letterbox", "lines"))
    (case.folder / "check").mkdir()
    (case.folder / "check/check.c").write_text(headers + checks)
    flags = [*toolchain.core_flags("cortex-m4"), "-I.", "-Ipictures", "-c", "check/check.c", "-o", "check/check.o"]
    subprocess.run(["arm-none-eabi-gcc", *toolchain.WARNINGS, *flags], cwd=case.folder, check=True)


def test_the_example_of_the_documentation_compiles(case):
    (example,) = [
        e for e in re.findall(r"```c\n(.*?)```", (ROOT / "docs/c.md").read_text(), re.DOTALL) if "letterbox" in e
    ]
    (case.folder / "check").mkdir(exist_ok=True)
    (case.folder / "check/example.c").write_text(example)
    flags = [*toolchain.core_flags("cortex-m7"), "-I.", "-Ipictures", "-c", "check/example.c", "-o", "check/example.o"]
    subprocess.run(["arm-none-eabi-gcc", *toolchain.WARNINGS, *flags], cwd=case.folder, check=True)
