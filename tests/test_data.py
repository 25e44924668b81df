"""The data sets: every layout in miniature, the pictures that real folders contain, and batches that repeat exactly."""

import gc
import json
import os
import pickle

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from nni_mcunet.search.data import KINDS, DataError, open_data, parse_data
from nni_mcunet.search.data.digit_scenes import _halves, scene
from nni_mcunet.search.data.vww import AREA

SIZE = (32, 48)


def picture(path, seed=0, mode="RGB", size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = Image.new(mode, (1, 1)).getbands()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(bands)), np.uint8)
    Image.fromarray(pixels.squeeze(), mode=mode).save(path, **options)
    return path


def folder(root, classes=("cat", "dog"), count=6, parts=("train",)):
    for part in parts:
        for c, name in enumerate(classes):
            for i in range(count):
                picture(root / part / name / f"{i}.jpg", seed=10 * c + i)
    return {"kind": "folder", "root": str(root), "held_out": 4, "workers": 0, "calibration": [2, 3]}


def first_steps(data, steps, part=(0, 1), seed=3):
    return list(data.training(steps, 4, lambda step: ((32, 48), (40, 40))[step % 2], seed, part))


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


# --- the embedded digits


def test_no_digit_is_in_two_splits():
    held_out, test = (set(_halves()[name].tolist()) for name in ("held_out", "test"))
    assert not held_out & test and held_out | test == set(range(0, 1797, 5))
    assert abs(len(held_out) - len(test)) <= 1


def test_the_detectors_scenes_are_what_they_were():
    sums = [int(scene(np.random.default_rng(5), (64, 96), split)[0].sum()) for split in ("train", "val")]
    assert sums == SCENES


SCENES = [3108717, 3109295]  # of pixels, before the splits for searches were added


@pytest.mark.parametrize("scale", [[0.8, 0.95], [0.25, 0.4]])
def test_digits_come_in_the_size_asked_for(scale):
    data = open_data({"kind": "digits", "scale": scale, "held_out": 5, "test": 3})
    batches = list(data.held_out((64, 96)))
    assert sum(len(labels) for _, labels in batches) == 5 and data.task.classes == 10
    images = batches[0][0]
    assert images.shape[1:] == (3, 64, 96) and images.dtype == torch.float32 and 0 <= images.min() < images.max() <= 1
    assert sum(len(labels) for _, labels in data.test((64, 96))) == 3


# --- batches that repeat exactly


@pytest.mark.parametrize("kind", ["digits", "folder"])
def test_batches_depend_on_the_step_alone(tmp_path, kind):
    data = open_data({"kind": "digits"} if kind == "digits" else folder(tmp_path))
    whole = first_steps(data, range(5))
    assert [tuple(images.shape[2:]) for images, _ in whole] == [(32, 48), (40, 40)] * 2 + [(32, 48)]
    assert same(whole[3:], first_steps(data, range(3, 5)))
    assert not same(whole, first_steps(data, range(5), seed=4))
    left, right = first_steps(data, range(2), (0, 2)), first_steps(data, range(2), (1, 2))
    halves = [tuple(torch.cat(pair) for pair in zip(a, b, strict=True)) for a, b in zip(left, right, strict=True)]
    assert same(whole[:2], halves)


def test_the_number_of_workers_changes_nothing(tmp_path):
    config = folder(tmp_path)
    alone, two = open_data(config), open_data(config | {"workers": 2})
    assert same(first_steps(alone, range(3)), first_steps(two, range(3)))
    assert same(list(alone.held_out(SIZE)), list(two.held_out(SIZE)))
    assert alone.identity == two.identity


def test_an_epoch_sees_every_picture_once(tmp_path):
    data = open_data(folder(tmp_path, count=10) | {"held_out": 4})  # 16 left to train on
    images = torch.cat([images for images, _ in data.training(range(4), 4, lambda step: SIZE, 0)])
    labels = torch.cat([labels for _, labels in data.training(range(4), 4, lambda step: SIZE, 0)])
    held_out = torch.cat([labels for _, labels in data.held_out(SIZE)])
    assert len(images) == 16 and labels.sum() + held_out.sum() == 10
    with pytest.raises(DataError, match="16 training pictures do not fill a batch of 17: give a smaller --batch"):
        data.epoch(17)


def test_training_views_vary_and_the_evaluations_do_not(tmp_path):
    data = open_data(folder(tmp_path))
    source, key = data.source, next(iter(first_steps(data, range(1))))
    from nni_mcunet.search.data.source import Key

    views = [source.sample(Key("train", 0, SIZE, (0, step)))[0] for step in range(3)]
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])
    assert torch.equal(source.sample(Key("train", 0, SIZE))[0], source.sample(Key("train", 0, SIZE))[0])
    assert key[0].dtype == torch.uint8


def test_the_defaults_are_the_papers():
    """Appendix B: 10,000 (ImageNet) or 5,000 training pictures judge, 20 batches of 64 re-calibrate."""
    options = {kind: defaults for kind, (_, defaults) in KINDS.items() if kind != "digits"}
    assert {kind: defaults["held_out"] for kind, defaults in options.items()} == {
        "folder": None, "imagenet": 10000, "cifar10": 5000, "vww": 5000
    }  # fmt: skip
    assert all(defaults["calibration"] == [20, 64] for defaults in options.values())
    assert AREA == 0.005  # of Visual Wake Words, as in the public scripts


def test_the_calibration_has_the_size_asked_for(tmp_path):
    data = open_data(folder(tmp_path))
    assert [len(images) for images in data.calibration(SIZE)] == [3, 3]
    assert [len(images) for images in data.calibration(SIZE, 1, 5)] == [5]
    again = zip(data.calibration(SIZE), data.calibration(SIZE), strict=True)
    assert all(torch.equal(a, b) for a, b in again)


def test_pictures_are_kept_as_long_as_there_is_room(monkeypatch):
    import nni_mcunet.search.data as module

    data, drawn = open_data({"held_out": 6}), []
    sample = data.source.sample
    monkeypatch.setattr(data.source, "sample", lambda key: drawn.append(key) or sample(key))
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * 6 * 3 * 32 * 48)
    for size, new in ((SIZE, 6), (SIZE, 0), ((48, 32), 6), (SIZE, 0), ((32, 47), 6), (SIZE, 6), ((300, 300), 6)):
        before = len(drawn)
        labels = torch.cat([labels for _, labels in data.held_out(size)])
        assert len(drawn) - before == new and len(labels) == 6


# --- folders


def test_the_evaluations_view_is_the_centre(tmp_path):
    """A picture with a red frame one eighth wide: 0.875 of the centre keeps half of the frame."""
    config = folder(tmp_path)
    for name in ("cat", "dog"):
        pixels = np.zeros((64, 128, 3), np.uint8)
        pixels[:, :, 2] = 255
        pixels[:, :32], pixels[:, 96:] = (255, 0, 0), (255, 0, 0)  # outside of the centred square
        for i in range(6):
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{i}.png")
            (tmp_path / "train" / name / f"{i}.jpg").unlink()
    image = next(open_data(config).held_out((56, 56)))[0][0]
    assert image[2].mean() > 0.99 and image[0].mean() < 0.01
    wide = next(open_data(config).held_out((32, 64)))[0][0]
    assert wide[0, :, :4].mean() > 0.99 and wide[2, :, 28:36].mean() > 0.99


def test_grey_alpha_palette_and_cmyk_pictures_become_rgb(tmp_path):
    config = folder(tmp_path, count=1)
    for i, (mode, ending) in enumerate([("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("LA", "png")]):
        picture(tmp_path / f"train/cat/x{i}.{ending}", mode=mode)
    Image.fromarray(np.zeros((9, 7), np.uint8), mode="P").save(tmp_path / "train/cat/p.gif")
    data = open_data(config)
    images = [images for images, _ in data.held_out(SIZE)]
    assert torch.cat(images).shape == (4, 3, *SIZE)
    assert next(data.training(range(1), 3, lambda step: SIZE, 0))[0].shape == (3, 3, *SIZE)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("broken", ["truncated", "text"])
def test_a_broken_picture_is_named(tmp_path, workers, broken):
    config = folder(tmp_path) | {"workers": workers}
    for path in tmp_path.glob("train/cat/*.jpg"):
        path.write_bytes(path.read_bytes()[:400] if broken == "truncated" else b"no picture")
    with pytest.raises(DataError, match=r"^data: .*cat/\d\.jpg is no readable picture") as error:
        list(open_data(config).held_out(SIZE))
    assert "\n" not in str(error.value)


def test_val_and_test_beside_train(tmp_path):
    assert open_data(folder(tmp_path)).source.sizes == {"train": 8, "held_out": 4}
    with pytest.raises(DataError, match="there is no test set"):
        open_data(folder(tmp_path)).test(SIZE)
    assert open_data(folder(tmp_path, parts=("val",))).source.sizes == {"train": 8, "held_out": 4, "test": 12}
    assert open_data(folder(tmp_path, parts=("test",))).source.sizes == {"train": 12, "held_out": 12, "test": 12}


def test_a_small_folder_holds_out_a_fifth(tmp_path):
    data = open_data({key: value for key, value in folder(tmp_path).items() if key != "held_out"})
    assert data.source.sizes == {"train": 10, "held_out": 2} and data.identity["held_out"] == 2


def test_imagenets_layout(tmp_path):
    config = folder(tmp_path, ("n01440764", "n01443537"), parts=("train", "val")) | {"kind": "imagenet"}
    assert open_data(config).source.sizes == {"train": 8, "held_out": 4, "test": 12}


def test_a_sample_of_imagenet_is_read(shared, tmp_path):
    if not (sample := shared / "data/imagenet_sample").is_dir():
        pytest.skip("no sample of ImageNet")
    for path in sorted(sample.rglob("*.jpg"))[:6]:
        (link := tmp_path / "train" / path.stem.split("_")[-1] / path.name).parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    data = open_data({"kind": "folder", "root": str(tmp_path), "held_out": 2, "workers": 0})
    images, _ = next(data.held_out((96, 96)))
    assert images.shape == (2, 3, 96, 96) and 0.02 < images.std() < 0.5


# --- CIFAR-10


def cifar(root, change=None):
    rng, base = np.random.default_rng(0), root / "cifar-10-batches-py"
    base.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (4, 3072), np.uint8)
        data[0] = np.repeat(np.array([250, 20, 30], np.uint8), 1024)  # one red picture of class 7
        batch = {b"data": data, b"labels": [7, 1, 2, 3]} | (change or {})
        (base / name).write_bytes(pickle.dumps(batch, protocol=2))
    return {"kind": "cifar10", "root": str(root), "held_out": 5, "workers": 0}


def test_cifar10_is_read_plane_by_plane(tmp_path):
    data = open_data(cifar(tmp_path))
    assert data.source.sizes == {"train": 15, "held_out": 5, "test": 4} and data.task.classes == 10
    images, labels = next(data.test((16, 24)))
    assert labels.tolist() == [7, 1, 2, 3]
    assert torch.allclose(images[0].mean((1, 2)) * 255, torch.tensor([250.0, 20.0, 30.0]), atol=1)
    assert open_data(cifar_config(tmp_path)).source.sizes == data.source.sizes


def cifar_config(root):
    """The unpacked folder itself as the root."""
    return {"kind": "cifar10", "root": str(root / "cifar-10-batches-py"), "held_out": 5}


class Evil:
    def __reduce__(self):
        return print, ("pwned",)


@pytest.mark.parametrize(
    "change, message",
    [
        ({b"labels": Evil()}, "would run .*print"),
        ({b"labels": [7, 1, 2, 10]}, "labels under 10"),
        ({b"data": np.zeros((4, 9), np.uint8)}, r"uint8 \(n, 3072\)"),
        ({b"data": None}, "no batch"),
    ],
)
def test_a_foreign_pickle_is_refused(tmp_path, change, message, capsys):
    with pytest.raises(DataError, match=message):
        open_data(cifar(tmp_path, change))
    assert "pwned" not in capsys.readouterr().out


# --- Visual Wake Words


def coco(root, year):
    """Pictures 1..4 (train) and 5..8 (val) of 100 x 50. The odd ones have a person of just more than the threshold; the
    second of just as much, the fourth a large dog."""
    (root / "annotations").mkdir(parents=True)
    exact = AREA * 100 * 50
    for part, ids in (("train", range(1, 5)), ("val", range(5, 9))):
        images = [{"id": i, "file_name": f"{i:012}.jpg", "width": 100, "height": 50} for i in ids]
        boxes = [{"image_id": i, "category_id": 1, "area": exact + 0.01, "iscrowd": 0} for i in ids if i % 2]
        boxes += [{"image_id": i, "category_id": 1, "area": exact, "iscrowd": 0} for i in ids if i % 4 == 2]
        boxes += [{"image_id": i, "category_id": 18, "area": 4000, "iscrowd": 0} for i in ids if i % 4 == 0]
        categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
        text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
        (root / "annotations" / f"instances_{part}{year}.json").write_text(text)
        for image in images:
            picture(root / f"{part}{year}" / image["file_name"], seed=image["id"])
    (root / "annotations/mscoco_minival_ids.txt").write_text("1\n6\n8\n999\n")
    return {"kind": "vww", "root": str(root), "held_out": 2, "workers": 0}


@pytest.mark.parametrize("year", [2014, 2017])
def test_visual_wake_words(tmp_path, year):
    data = open_data(coco(tmp_path, year))
    assert data.task.classes == 2 and data.source.sizes == {"train": 3, "held_out": 2, "test": 3}
    labels = {p.split("/")[-1]: label for items in data.source.splits.values() for p, label in items}
    assert {int(name[:12]): label for name, label in labels.items()} == {i: i % 2 for i in range(1, 9)}
    assert [int(p[-16:-4]) for p, _ in data.source.splits["test"]] == [1, 6, 8]
    assert next(data.test(SIZE))[0].shape == (3, 3, *SIZE)


# --- wrong folders and settings


@pytest.mark.parametrize(
    "kind, missing, message",
    [
        ("folder", "train", r"train is missing; expected in .*train/CLASS/\*.jpg.*; found: "),
        ("imagenet", "val", r"val is missing; expected in .*found: train/"),
        (
            "cifar10",
            "cifar-10-batches-py/data_batch_3",
            r"data_batch_3 is missing.*unpacked\); found: cifar-10-batches-py/",
        ),
        ("vww", "annotations/mscoco_minival_ids.txt", r"minival_ids.txt is missing.*tensorflow/models"),
        ("vww", "annotations/instances_val2017.json", r"instances_val2017.json is missing"),
        ("vww", "val2017", r"val2017 is missing"),
    ],
)
def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path, kind, missing, message):
    if kind == "cifar10":
        config = cifar(tmp_path)
    elif kind == "vww":
        config = coco(tmp_path, 2017)
    else:
        config = folder(tmp_path, ("n01440764", "n01443537"), parts=("train", "val")) | {"kind": kind}
    (tmp_path / missing).rename(tmp_path.parent / f"gone{tmp_path.name}")
    with pytest.raises(DataError, match=message):
        open_data(config)


def test_a_flat_validation_folder_of_imagenet(tmp_path):
    config = folder(tmp_path, ("n01440764", "n01443537")) | {"kind": "imagenet"}
    picture(tmp_path / "val/ILSVRC2012_val_00000001.JPEG", format="JPEG")
    with pytest.raises(DataError, match="is flat: sort its pictures"):
        open_data(config)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "imagnet"}, "kind is 'imagnet': expected one of digits"),
        ({"kind": ["folder"]}, "kind is "),
        ({"kind": str(ROOT / "tests")}, f"for a folder of pictures by class say folder:{ROOT / 'tests'}"),
        ({"rot": 1}, "data of the kind folder has the unknown key 'rot'"),
        ({"root": None}, "root is None: expected the data set's folder"),
        ({"root": "/nowhere/at/all"}, "no folder /nowhere/at/all; expected there: train/CLASS"),
        ({"held_out": 12}, r"held_out \(of 12 training pictures\) is 12: expected an integer from 1 to 11"),
        ({"held_out": "4"}, "held_out is '4'"),
        ({"crop": [0.5, 0.1]}, "crop is"),
        ({"workers": -1}, "workers is -1"),
        ({"calibration": 20}, "calibration is 20"),
        ({"calibration": [0, 64]}, "calibration is 0"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        open_data(folder(tmp_path) | change)


def test_wrong_scales_are_refused():
    for scale in ([0.9, 0.2], [0.5, 1.0], 0.5, [True, 0.5]):
        with pytest.raises(DataError, match="scale is"):
            open_data({"kind": "digits", "scale": scale})
    with pytest.raises(DataError, match="under 8 pixels"):
        next(open_data({"kind": "digits", "scale": [0.1, 0.2]}).held_out((64, 64)))
    with pytest.raises(DataError, match="a mapping such as"):
        open_data("digits")


def test_classes_of_val_must_be_those_of_train(tmp_path):
    config = folder(tmp_path)
    folder(tmp_path, ("cat", "horse"), parts=("val",))
    with pytest.raises(DataError, match="val/horse is a class that train/ does not have"):
        open_data(config)
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    (tmp_path / "train/bird").mkdir()
    with pytest.raises(DataError, match="train/bird has no picture"):
        open_data(config)


def test_data_on_a_command_line():
    assert parse_data("digits") == {"kind": "digits"}
    assert parse_data("imagenet:/data/in") == {"kind": "imagenet", "root": "/data/in"}
    assert parse_data("{kind: digits, scale: [0.2, 0.4]}") == {"kind": "digits", "scale": [0.2, 0.4]}
    with pytest.raises(DataError, match="not valid YAML"):
        parse_data("{kind: [")


def test_kept_pictures_hold_no_files_open(tmp_path):
    """Two for each batch from a worker would be thousands with ImageNet's at six resolutions."""
    data, files = open_data(folder(tmp_path) | {"workers": 1}), []
    for size in (8, 16, 32):  # what the first workers opened for good is no concern of this test
        list(data.held_out((size, size)))
        list(data.calibration((size, size)))
        gc.collect()  # what is left of the workers
        files.append(len(os.listdir("/proc/self/fd")))
    assert len(data._kept) == 6 and files[1] == files[2]
