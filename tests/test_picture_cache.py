"""Decoded pictures on disk: once a machine, never stale, within their room, and none where the disk has none."""

import os
import threading

import pytest
import torch
from test_data import folder, picture, same

from nni_mcunet.search.data import DataError, open_data, picture_cache, pictures


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """The files that were decoded, with a cache of its own."""
    found, read = [], pictures.load
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "load", lambda path, view: found.append(path) or read(path, view))
    return found


def sets(tmp_path):
    return sorted((tmp_path / "cache/nni-mcunet/pictures").glob("*.uint8"))


def held_out(config, resolution=(32, 48)):
    return list(open_data(config).held_out(resolution))


def test_the_second_process_decodes_nothing(tmp_path, decoded):
    config = folder(tmp_path / "photos")
    plain = held_out(config | {"disk_gb": 0})
    assert len(decoded) == 4 and not sets(tmp_path)
    first, second = held_out(config), held_out(config)
    assert len(decoded) == 8 and same(plain, first) and same(plain, second)
    one, two = (list(open_data(config).calibration((32, 48), seed=3)) for _ in range(2))
    assert len(decoded) == 14 and all(map(torch.equal, one, two))
    assert open_data(config).identity == open_data(config | {"disk_gb": 0}).identity


@pytest.mark.parametrize("change", ["a picture", "the view", "the resolution", "Pillow"])
def test_nothing_is_stale(tmp_path, decoded, monkeypatch, change):
    config = folder(tmp_path / "photos")
    before, options, size = held_out(config), {}, (32, 48)
    if change == "a picture":
        for name in ("cat", "dog"):
            for i in range(6):
                picture(tmp_path / f"photos/train/{name}/{i}.jpg", seed=99)
    elif change == "the view":
        options = {"keep": 0.5}
    elif change == "the resolution":
        size = (48, 32)
    else:
        monkeypatch.setattr(picture_cache.PIL, "__version__", "0")
    now = held_out(config | options, size)
    assert len(decoded) == 8 and len(sets(tmp_path)) == 2
    assert same(before, now) == (change == "Pillow")


def test_the_least_used_set_makes_way(tmp_path, decoded, monkeypatch):
    config, data = folder(tmp_path / "photos"), open_data(folder(tmp_path / "photos"))
    data.disk = 2 * 4 * 3 * 32 * 32  # two sets
    for i, size in enumerate([(32, 32), (16, 64), (64, 16), (32, 32)]):
        list(data.held_out(size))
        data._kept.clear()
        for path in sets(tmp_path):
            if os.stat(path).st_mtime > 1e9:
                os.utime(path, (i, i))
    assert len(sets(tmp_path)) == 2 and len(decoded) == 16
    data.disk = 1000
    assert same(list(data.held_out((40, 40))), held_out(config | {"disk_gb": 0}, (40, 40))) and len(sets(tmp_path)) == 2


def test_two_that_begin_together_decode_once(tmp_path, decoded):
    config, found = folder(tmp_path / "photos"), []
    threads = [threading.Thread(target=lambda: found.append(held_out(config))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 4 and len(found) == 3 and same(found[0], found[1]) and same(found[0], found[2])


def test_a_full_disk_and_a_broken_picture(tmp_path, decoded, monkeypatch):
    """Neither leaves a set that is half; the pictures are as without a disk, the error as well."""
    config = folder(tmp_path / "photos")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(picture_cache.os, "replace", full)
    assert same(held_out(config), held_out(config | {"disk_gb": 0}))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        for i in range(6):
            (tmp_path / f"photos/train/{name}/{i}.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no readable picture"):
        held_out(config)
    assert [path.suffix for path in (tmp_path / "cache/nni-mcunet/pictures").iterdir()] == [".lock", ".lock"]


def test_a_home_that_is_no_folder(tmp_path, monkeypatch):
    config = folder(tmp_path / "photos")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(held_out(config)) == 1
