"""Every command of the pages is run, in the order of its page, in a folder that has the files it names; or NOT_RUN says
why not and what runs it instead. Trainings take an epoch or a few steps."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import groupby

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_docs import commands
from torch import nn

from nni_mcunet.cli.digits import write_all
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.view import View

pytestmark = pytest.mark.slow

NOT_RUN = {  # how a command begins -> why it is not run, and what runs it
    "run out/fw --board stm32h743 --port": "a board on a wire; tests/test_serial.py has its other end",
    "train configs/det/yolov3_voc_h743.py": "Pascal VOC for hundreds of epochs; the walkthrough's runs",
    "pretrain configs/arch/mcunetv2_voc_f412.json": "ImageNet; tests/test_pretrain.py",
    "train configs/det/yolov3_bccd_f412_qat.py": "BCCD and a trained checkpoint; tests/test_qat_training.py",
    "test configs/det/yolov3_bccd_f412_qat.py": "as before",
    "compare-boxes configs/det/yolov3_bccd_f412_qat.py": "as before",
    "quantize model.onnx --qat LAST.pth": "as before",
    "finetune best.json best.pth --qat --data imagenet": "ImageNet; the search page's runs on folders by class",
    "accuracy int8.tflite": "ImageNet's classes; tests/test_tflite_published.py",
    "search ": "a search of minutes; make demo, and tests/test_search_pictures.py on pictures",
    "finetune out/search/imagenet_f412": "ImageNet; the line below it runs",
    "train-supernet": "minutes; make demo",
    "report out/bccd": "of a deploy of BCCD; tests/test_pages.py",
}
NAMES = {"CONFIG": "configs/det/yolov3_digits.py", "CKPT.pth": "last.pth", "MODEL.onnx": "model.int8.onnx"}
QUICK = {  # what is added to a command
    "train": ["--cfg-options", "train_cfg.max_epochs=1", "train_dataloader.num_workers=0"],
    "finetune": ["--steps", "60", "--batch", "8"],
}
ARCH, TRAINED = "out/search/demo_h743/best.json", "out/demo/det/last.pth"  # as the walkthrough names them
PAGES = {page: [line for _, line in lines] for page, lines in groupby(commands(), lambda found: found[0])}


def why_not(line: str) -> str | None:
    return next((why for begin, why in NOT_RUN.items() if line.startswith(f"mcunet {begin}")), None)


def mcunet(folder, words) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "nni_mcunet", *map(str, words)], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, (
        f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory, shared):
    """A folder with a file of each name that the pages use."""
    home = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "configs", home / "configs")
    (home / "out").mkdir()
    write_all(home / "out/digits/VOC2007", 16, 8, 128, 0)
    shutil.copytree(home / "out/digits/VOC2007/JPEGImages", home / "faces")
    _detector(home)
    _classifier(home)
    _signals(home)
    for name, source in {
        "photo.jpg": next((home / "out/digits/VOC2007/JPEGImages").iterdir()),
        "my.yml": ROOT / "nni_mcunet/core/boards/stm32f412.yml",
        "yunet.onnx": shared / "models/yunet/yunet_n_320_320.onnx",
        "quantised_elsewhere.onnx": shared / "models/vww1/vww1_int8_qlinear.onnx",
        "vww_96_int8.tflite": shared / "models/tflite/vww_96_int8.tflite",
    }.items():
        shutil.copy(source, home / name)
    return home


def _detector(home) -> None:
    """The walkthrough's network and checkpoint, and its files under the names of other pages."""
    arch = home / ARCH
    arch.parent.mkdir(parents=True)
    shutil.copy(ROOT / "configs/arch/mcu_w50_r128.json", arch)
    option = f"model.backbone.arch={ARCH}"
    mcunet(home, ["train", NAMES["CONFIG"], "--work-dir", "first", *QUICK["train"], option])
    mcunet(home, ["export", NAMES["CONFIG"], "first/last.pth", "-o", "model.onnx"])
    mcunet(home, ["quantize", "model.onnx", "--calib", "out/digits/VOC2007/JPEGImages", "-o", "model.int8.onnx"])
    shutil.copy(home / "first/last.pth", home / "last.pth")
    for name in ("faces.int8.onnx", "scene.int8.onnx"):
        shutil.copy(home / "model.int8.onnx", home / name)


def _classifier(home) -> None:
    """Three classes by colour in photos/train, some in photos, and a network with weights that have seen none."""
    rng = np.random.default_rng(0)
    for number in range(60):
        folder = home / "photos/train" / "rgb"[number % 3] if number < 57 else home / "photos"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 160, (44, 60, 3), np.uint8)
        pixels[..., number % 3] += 60
        Image.fromarray(pixels).save(folder / f"{number}.png")
    blocks = (
        (Block(0, 1, 0, 8),),
        (Block(3, 2, 24, 16), Block(3, 1, 32, 16)),
        (Block(3, 2, 48, 24), Block(3, 1, 48, 24)),
    )
    spec = ArchSpec("best", (40, 40), 8, blocks, head=16, classes=3, view=View(0.875))
    spec.save(home / "best.json")
    torch.manual_seed(0)
    torch.save(Net(build_graph(spec)).state_dict(), home / "best.pth")
    data = ["--data", "folder:photos", *QUICK["finetune"]]
    mcunet(home, ["finetune", "best.json", "best.pth", *data])
    mcunet(home, ["finetune", "best.json", "best_tuned.pth", "--qat", *data, "--out", "best_qat.pth"])
    mcunet(home, ["export", "best.json", "best_tuned.pth", "-o", "class.onnx"])


def _signals(home) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    torch.onnx.export(net.eval(), (torch.zeros(1, 1, 49, 10),), home / "kws.onnx", dynamo=True, verbose=False)
    spectra = np.random.default_rng(0).integers(0, 256, (20, 49, 10), np.uint8)
    np.save(home / "mfcc.npy", spectra)
    np.save(home / "yes.npy", spectra[0])


def _meant(home, page: str) -> dict[str, str]:
    """Return what a page means by a name: `photos` are pictures by class, labelled pictures, or pictures."""
    files = home / "out/digits/VOC2007"
    if page == "int8.md":
        return {"model.onnx": "class.onnx", "model.int8.onnx": "class.int8.onnx"}
    if page == "search.md":
        return {}
    folder = home / f"photos_of_{page}"
    shutil.copytree(files / "JPEGImages", folder)
    if page in ("detectors.md", "README.md"):
        shutil.copytree(files / "Annotations", folder, dirs_exist_ok=True)
    found = {"photos": folder.name, "5,9": "2,4"}  # blocks of this network in two segments
    if page == "README.md":  # the demo's winner and its digits: the classifier here
        found |= {f"$W/{name}": name for name in ("best.json", "best.pth", "best_tuned.pth")}
        found["digits"] = "folder:photos"
    return found


def test_a_reason_not_to_run_a_command_is_of_one():
    """A command that has changed its words is run, or its reason is given anew."""
    for begin in NOT_RUN:
        assert any(line.startswith(f"mcunet {begin}") for lines in PAGES.values() for line in lines), begin


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, place):
    said = re.search(r'^D="(.*?)"', (ROOT / "docs" / page).read_text(), re.MULTILINE) if page != "README.md" else None
    names = NAMES | _meant(place, page) | ({"$D": said[1]} if said else {})
    for of_another_page in ("out/fw", "out/mine", "work_dirs/mine"):
        shutil.rmtree(place / of_another_page, ignore_errors=True)
    if page == "report.md":  # it begins with what another page has generated
        mcunet(place, ["generate", "model.int8.onnx", "--board", "stm32f412", "-o", "out/fw"])
    for line in PAGES[page]:
        if why_not(line):
            continue
        text = re.sub(r"\[[^\]]*\]", " ", line.partition("   #")[0].partition(" # ")[0])
        words = [names.get(word, word) for word in shlex.split(text)[1:]]
        if page == "walkthrough.md" and words[0] == "digits":
            shutil.rmtree(place / "out/digits")
            words += ["--train", 16, "--val", 8]
        options = QUICK.get(words[0], [])
        mcunet(place, [*words, *(options[1:] if "--cfg-options" in words else options)])
