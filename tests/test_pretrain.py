"""mcunet pretrain: any backbone learns to classify folders of pictures, goes on after a kill with the same bytes, and a
detector begins with every weight of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from detection import MCUNetBackbone
from nni_mcunet.cli.main import run
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.progress import Progress
from nni_mcunet.search.supernet.training import load_weights

BLOCKS = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),))


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Three classes that differ by their colour, on noise."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for at, name in enumerate(("cat", "dog", "owl")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (40, 32, 3))
                pixels[..., at] += 110
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def words(pets, tmp_path):
    """A backbone without a classifier, and the words that pre-train it."""
    arch = ArchSpec("backbone", (48, 64), 8, BLOCKS).save(tmp_path / "arch.json")
    data = f"{{kind: folder, root: {pets}, workers: 0, calibration: [2, 16], jitter: 0, crop: [0.5, 1]}}"
    return [str(arch), "--data", data, "--batch", "16", "--steps", "20", "--lr", "0.05", "--size", "32", "32"]


def weights(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns_goes_on_after_a_kill_and_a_detector_takes_all_of_it(words, tmp_path, monkeypatch, capsys):
    run("pretrain", [*words, "-o", str(tmp_path / "whole.pth")])
    said = capsys.readouterr().out
    assert "3 classes, batches of 16, learning rate 0.05 at its highest" in said
    accuracy = float(said.split("test ")[1].split()[0])
    assert accuracy > 0.6, said
    spec = ArchSpec.load(tmp_path / "whole.json")
    assert (spec.classes, spec.resolution, str(spec.view)) == (3, (32, 32), "crop:0.875")
    load_weights(spec, tmp_path / "whole.pth")  # as mcunet export reads it

    shown = Progress.to

    def killed(self, step, text=""):
        if step == 7:
            raise KeyboardInterrupt
        shown(self, step, text)

    part = [*words, "-o", str(tmp_path / "part.pth"), "--save-every", "5"]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Progress, "to", killed)
        run("pretrain", part)
    assert not (tmp_path / "part.pth").exists()
    said = capsys.readouterr().err
    assert said.endswith(f"stopped: the same command goes on from {tmp_path / 'part.pth.ckpt'}\n"), said
    run("pretrain", part)
    found = weights(tmp_path / "part.pth")
    assert same(found, weights(tmp_path / "whole.pth"))

    backbone = MCUNetBackbone(str(tmp_path / "arch.json"), (1, 2), init_cfg={"checkpoint": str(tmp_path / "part.pth")})
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.init_weights()
    after = backbone.state_dict()
    assert after.keys() < found.keys() and all(torch.equal(after[key], found[key]) for key in after)
    assert not same(before, after)
    assert {key for key in found if key not in after and not key.startswith("layers.fc.")} == set()


def test_the_papers_recipe_is_the_default(words, tmp_path, capsys):
    plain = [word for word in words if word not in ("--lr", "0.05")]
    run("pretrain", [*plain, "--steps", "1", "-o", str(tmp_path / "x.pth")])
    assert f"learning rate {0.2 * 16 / 1024:g} at its highest" in capsys.readouterr().out
    recipe = torch.load(tmp_path / "x.pth.ckpt", weights_only=True)["identity"]["recipe"]
    assert (recipe["weight_decay"], recipe["adam"], recipe["largest"], recipe["shared"]) == (4e-5, False, 1, 0)


def test_what_cannot_be_done_is_one_line(words, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"x.json is there and is not "):
        run("pretrain", [*words, "-o", str(tmp_path / "x.pth")])
    assert (tmp_path / "x.json").read_text() == "{}"
    (tmp_path / "y.pth").write_text("precious")
    with pytest.raises(UserError, match="no product of this command"):
        run("pretrain", [*words, "-o", str(tmp_path / "y.pth")])
    classes = ArchSpec("other", (48, 64), 8, BLOCKS, classes=5).save(tmp_path / "five.json")
    with pytest.raises(UserError, match="other has 5 classes, and the data 3"):
        run("pretrain", [str(classes), *words[1:], "-o", str(tmp_path / "z.pth")])
