"""Sets of files: only into folders that are new, empty or ours, never over a user's file, and whole after a kill."""

import contextlib
import fcntl
import json
import os
import shutil
import signal

import numpy as np
import pytest
from conftest import ROOT
from kills import FOREIGN, Kills, compiles, contents, kills
from nets import block_graph, random_model
from test_tools import refused, tool

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.file_sets import MANIFEST, STAGED, Seal, is_whole, owned, write_set
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen import sources as emit
from nni_mcunet.engine.codegen.sources import sources, write_sources
from nni_mcunet.engine.frontend.onnx import save_onnx
from nni_mcunet.engine.run.board_project import model_hash

SET_SEAL = Seal("a.h", "#error\n")
OLD = {"a.h": "old a", "b.c": "old b", "sub/c.c": "old c", "gone/d.c": "old d"}
NEW = {"a.h": "new a", "b.c": "new b", "sub/c.c": "new c", "e.c": "new e"}


def write(folder, files=OLD, name="model"):
    return write_set(folder, {name: files}, SET_SEAL)


def texts(folder):
    return {name: data.decode() for name, data in contents(folder).items()}


def test_a_set_replaces_itself(tmp_path):
    folder = write(tmp_path / "a/b/")
    assert texts(folder) == OLD and is_whole(folder) and owned(folder) == {"model": list(OLD)}
    (folder / "mine.c").write_text("mine")
    os.utime(folder / "b.c", ns=(0, 0))
    assert write(folder) == folder and (folder / "b.c").stat().st_mtime_ns == 0  # nothing to do: not written again
    write(folder, NEW)
    assert texts(folder) == NEW | {"mine.c": "mine"} and is_whole(folder) and not (folder / STAGED).exists()
    (folder / "b.c").unlink()
    write(folder, NEW)
    assert texts(folder) == NEW | {"mine.c": "mine"}


def test_sets_beside_each_other(tmp_path):
    """Each is replaced without the other; none takes the other's names."""
    write_set(tmp_path, {"kernels": {"k.c": "1"}, "model": OLD}, SET_SEAL)
    write_set(tmp_path, {"kernels": {"k.c": "2"}, "two": {"two.h": "two"}}, Seal("two.h", "#error\n"))
    assert texts(tmp_path) == OLD | {"k.c": "2", "two.h": "two"}
    with pytest.raises(UserError, match=r"a\.h belongs to 'model', which stays"):
        write_set(tmp_path, {"two": {"two.h": "two", "a.h": "taken"}}, Seal("two.h", "#error\n"))
    assert texts(tmp_path) == OLD | {"k.c": "2", "two.h": "two"}


def edited(folder):
    (folder / "b.c").write_text("mended by hand")


def edited_and_to_be_removed(folder):
    (folder / "gone/d.c").write_text("mended by hand")


def taken(folder):
    (folder / "e.c").write_text("mine")


def linked(folder):
    (folder / "b.c").rename(folder / "elsewhere.c")
    (folder / "b.c").symlink_to("elsewhere.c")


def folder_for_a_file(folder):
    (folder / "e.c").mkdir()


def file_for_a_folder(folder):
    shutil.rmtree(folder / "sub")
    (folder / "sub").write_text("mine")


def linked_folder(folder):
    (folder / "sub").rename(folder.parent / "outside")
    (folder / "sub").symlink_to(folder.parent / "outside")


def no_manifest(folder):
    (folder / MANIFEST).unlink()


def damaged(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-30])


def deep(folder):
    (folder / MANIFEST).write_text("[" * 100_000)


def leads_out(folder):
    (folder.parent / "precious.txt").write_text("precious")
    known = json.loads((folder / MANIFEST).read_text())
    known["sets"]["model"]["../precious.txt"] = known["sets"]["model"]["b.c"]
    (folder / MANIFEST).write_text(json.dumps(known))


def pipe(folder):
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (edited, "b.c was edited since it was written"),
        (edited_and_to_be_removed, "d.c was edited"),
        (taken, "e.c is not a file that this command has written"),
        (linked, "b.c is not a file"),
        (folder_for_a_file, "e.c is not a file"),
        (file_for_a_folder, "sub stands where a folder is needed"),
        (linked_folder, "sub stands where a folder is needed"),
        (no_manifest, f"is not empty and has no {MANIFEST}"),
        (damaged, f"{MANIFEST} is damaged or not ours"),
        (deep, f"{MANIFEST} is damaged or not ours"),
        (leads_out, f"{MANIFEST} is damaged or not ours"),
        (pipe, f"{MANIFEST} is not a file"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_file_of_the_user_s_stays(spoil, words, tmp_path):
    folder = write(tmp_path / "fw")
    spoil(folder)

    def everything():
        return {p: p.read_bytes() if p.is_file() else p.is_symlink() for p in tmp_path.rglob("*")}

    before = everything()
    with pytest.raises(UserError, match=words) as error:
        write(folder, NEW)
    assert "\n" not in str(error.value) and everything() == before


def test_places_that_are_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    places = {"": "empty", "  ": "empty", ".": "not empty", tmp_path / "file": "file is a file"}
    places |= {tmp_path / "link": "a link to nothing", tmp_path / "full/": "it holds mine.txt"}
    for place, words in places.items():
        with pytest.raises(UserError, match=words):
            write(place)
    with pytest.raises(UserError, match="file is a file, not a folder"):
        write(tmp_path / "file/below")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write(tmp_path / "link")
    assert texts(tmp_path / "there") == OLD and (tmp_path / "link").is_symlink()


def test_one_writer_at_a_time(tmp_path):
    fd = os.open(write(tmp_path / "fw"), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another command writes"):
        write(tmp_path / "fw", NEW)
    os.close(fd)
    write(tmp_path / "fw", NEW)


def death_at(step: int, folder, files) -> bool:
    """Write in a process that kills itself before its step-th renaming or removal; whether it came that far."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            left = iter(range(step))
            for name in ("replace", "unlink", "mkdir"):
                real = getattr(os, name)

                def dying(*args, real=real, **more):
                    if next(left, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **more)

                setattr(os, name, dying)
            write(folder, files)
            os._exit(0)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("there", [None, OLD], ids=["new", "old"])
def test_a_kill_at_each_step(there, tmp_path):
    """The next write, the same again or another, finds nothing in its way."""
    left = set()
    for step in range(100):
        folder = tmp_path / str(step)
        if there:
            (write(folder, there) / "mine.c").write_text("mine")
        if not death_at(step, folder, NEW):
            break
        found = texts(folder) if folder.exists() else {}
        mine = {"mine.c": found.pop("mine.c")} if there else {}
        state = "old" if found == (there or {}) else "new" if found == NEW else "sealed"
        assert state != "sealed" or found.get("a.h") == SET_SEAL.text
        left.add(state)
        death_at(step // 2, folder, OLD)  # and another one meanwhile
        write(folder, then := (NEW, OLD)[step % 2])
        assert texts(folder) == then | mine and is_whole(folder) and not (folder / STAGED).exists()
    assert step > 10 and left == {"old", "sealed", "new"}


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    """Two libraries with projects, "old" and "new", and the commands that made them."""
    return Kills(tmp_path_factory.mktemp("kills"))


def test_a_full_disk(killer, small_disk):
    model, *options = killer.words["new"]
    shutil.copytree(killer.folder / "old", small_disk / "fw")
    old = texts(small_disk / "fw")
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free - 60_000))
    done = tool("generate", model, *options, small_disk / "fw")
    refused(done, "No space left on device", str(small_disk / "fw"))
    assert STAGED not in done.stderr and len(done.stderr.splitlines()) == 1
    assert texts(small_disk / "fw") == old and is_whole(small_disk / "fw")
    refused(tool("generate", model, *options, small_disk / "other"), "No space left")
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "fw"]
    (small_disk / "filler").unlink()
    assert tool("generate", model, *options, small_disk / "fw").returncode == 0


def test_kills():
    """A sample of `make kills`."""
    found = kills(4, seed=1)
    assert found["held"] == found["kills"] == 4 and not found["failed"]


def test_generate_refuses_foreign_folders(killer, tmp_path):
    """Nothing that stands there is touched, and the line says the way out."""
    model, *options = killer.words["new"]
    folder = tmp_path / "firmware"
    (folder / "board").mkdir(parents=True)
    files = {"mcu_driver.c": "int x;\n", "mcu_model.h": "/* Generated; do not edit. */\n", "Makefile": "all:\n"}
    for name, text in files.items():
        (folder / name).write_text(text)
    refused(tool("generate", model, *options, folder), "not empty", MANIFEST, "new folder")
    assert texts(folder) == files
    refused(tool("generate", model, *options, ""), "the name of the folder to write is empty")
    refused(tool("generate", model, *options, model), "is a file")
    refused(tool("generate", model, *options, model / "fw"), str(model))
    refused(tool("generate", model, *options, "/proc/fw"), "/proc/fw")
    refused(tool("generate", model, "--board", "F412", "-o", killer.folder / "old"), "holds a project", "--project")


def test_run_board_says_that_a_library_is_not_whole(killer, tmp_path):
    folder = tmp_path / "fw"
    shutil.copytree(killer.folder / "old", folder)
    known = json.loads((folder / MANIFEST).read_text())
    known["sets"]["mcu"]["mcu_model.h"].append("0")
    (folder / MANIFEST).write_text(json.dumps(known))
    (folder / "mcu_model.h").write_text(emit.seal("mcu").text)
    done = tool("run_board", folder, "--board", "stm32f412", "--emulate", "--picture", ROOT / "docs/paper/fig1.png")
    refused(done, "stopped while it wrote it", "run it again")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The libraries of two models, the second with kernels of another version."""
    folder, found = tmp_path_factory.mktemp("libraries"), []
    for seed in range(2):
        p = plan(block_graph(np.random.default_rng(seed), (12, 12), 2))
        model = random_model(np.random.default_rng(seed), p.graph)
        kernels = {n: t + "\n/* another version */\n" * seed for n, t in emit._kernels().items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emit, "_kernels", lambda kernels=kernels: kernels)
            shared = emit.shared_files.__wrapped__()
            found.append(write_set(folder / str(seed), {"k": shared, "mcu": sources(p, model)}, emit.seal("mcu")))
    return found


def test_files_of_two_libraries_do_not_compile(libraries, tmp_path):
    """One file at a time, as a user copies them into a firmware."""
    one, other = libraries
    names = [n for n in contents(one) if (one / n).read_bytes() != (other / n).read_bytes()]
    assert len(names) > 20 and {"mcu_model.h", "mcu_model.c", "mcu_weights.h", "mcu.h"} <= set(names)
    shutil.copytree(one, tmp_path / "mixed")
    for name in names:
        shutil.copy(other / name, tmp_path / "mixed" / name)
        assert not compiles(tmp_path / "mixed", "-E"), name
        shutil.copy(one / name, tmp_path / "mixed" / name)
    assert compiles(tmp_path / "mixed")
    for name in emit.shared_files():
        shutil.copy(other / name, tmp_path / "mixed" / name)
    assert not compiles(tmp_path / "mixed", "-E"), "a model with all the kernels of another version"


def test_the_identity_of_an_image(libraries, tmp_path):
    """It changes with any C file of the library, and with no other file."""
    folder = tmp_path / "fw"
    shutil.copytree(libraries[0], folder)
    first = model_hash(folder)
    for name in FOREIGN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    assert model_hash(folder) == first != model_hash(libraries[1])
    for name in ("mcu_model.c", "mcu_weights.h", "mcu_pool.c"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + " ")
        assert model_hash(folder) != first
        (folder / name).write_text(text)
    with pytest.raises(UserError, match="holds no library of this version"):
        model_hash(tmp_path)


def test_a_project_compiles_only_its_own_sources(tmp_path):
    """A program of the user's in the folder is neither built in nor part of the image's identity."""
    model = random_model(np.random.default_rng(0), block_graph(np.random.default_rng(0), (12, 12), 2))
    save_onnx(model, tmp_path / "m.onnx")
    write_sources(plan(model.graph), model, tmp_path / "fw")
    for name, text in FOREIGN.items():
        (tmp_path / "fw" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "fw" / name).write_text(text)
    command = ["generate", tmp_path / "m.onnx", "--board", "stm32f412", "--project", "-o", tmp_path / "fw"]
    refused(tool(*command, "--prefix", "two"), "holds the model mcu, too", "a project is of one")
    done = tool(*command)
    assert done.returncode == 0, done.stderr
    assert "application.c" not in (tmp_path / "fw/Makefile").read_text()
    assert f'"{model_hash(tmp_path / "fw")}"' in (tmp_path / "fw/board/config.h").read_text()
    assert all((tmp_path / "fw" / name).read_text() == text for name, text in FOREIGN.items())
