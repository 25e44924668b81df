"""The page runs the network: its bytes are the host's, from the picture's file on, in a browser and in node."""

import base64
import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from chromium import visited
from conftest import ROOT
from faces import face_model
from PIL import Image

import nni_mcunet as mcu
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.view import View
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.model import PIXELS, Scale
from nni_mcunet.engine.run.host import build_host
from nni_mcunet.engine.run.wasm import build_wasm
from nni_mcunet.pictures import seen

STATIC = ROOT / "nni_mcunet/pages/static"
IMAGENET = Scale((2.64 + 2.12) / 255, -14)  # of pixels normalised by ImageNet's mean and deviation
needs_page = pytest.mark.skipif(
    find_spec("vl_convert") is None or find_spec("ziglang") is None, reason="pip install 'nni-mcunet[page,wasm]'"
)
# Ask for each picture's outputs and boxes, from the bytes of its file on.
ANSWERS = """
  const found = [];
  for (const data of PICTURES) {
    const blob = new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))]);
    const { outputs, boxes } = await answerTo(blob);
    found.push({ outputs: outputs.map((output) => Array.from(output)), boxes });
  }
  return found;
"""


MODULE = """
  const file = require('fs').readFileSync('PATH');
  const c = new WebAssembly.Instance(new WebAssembly.Module(file), {}).exports;
  c._initialize();
  const bytes = BYTES;
  new Uint8Array(c.memory.buffer, c.image(), bytes.length).set(bytes);
  c.run();
  const outputs = [0, 1, 2, 3].map((i) => Array.from(new Int8Array(c.memory.buffer, c.output(i), c.output_bytes(i))));
  console.log(JSON.stringify(outputs));
"""
DROP = """
  const drop = async (bytes) => {
    const items = new DataTransfer();
    items.items.add(new File([bytes], 'photo.jpg', { type: 'image/jpeg' }));
    document.getElementById('drop').dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: items }));
    await new Promise((done) => setTimeout(done, 2000));
    return document.getElementById('found').textContent;
  };
  const canvas = document.getElementById('shown');
  document.getElementById('least').value = 0;
  const good = await drop(Uint8Array.from(atob('DATA'), (letter) => letter.charCodeAt(0)));
  return { good, size: [canvas.width, canvas.height], bad: await drop(new Uint8Array(9)) };
"""


def node(script: str) -> str:
    """Return the text that a script prints in NNI's own node."""
    import nni_node

    program = Path(nni_node.__path__[0]) / "node"
    done = subprocess.run([program, "-"], input=script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_picture_is_resized_as_in_training():
    """OpenCV's filter and Pillow's, byte for byte, for every view, for RGB and grey, smaller and larger."""
    rng, cases, expected = np.random.default_rng(0), [], []
    views = [View(), View(pad=114), View(keep=0.875), View(keep=1)]
    for number in range(80):
        h, w, high, wide = map(int, (*rng.integers(3, 90, 2), *rng.integers(1, 60, 2)))
        if number % 7 == 0:
            high, wide, h, w = h, w, 2 * h, 2 * w
        if number % 11 == 0:
            high, wide = (h, w) if number % 2 else (h, wide)
        rgb, view, channels = (
            rng.integers(0, 256, (h, w, 3)).astype(np.uint8),
            views[number % 4],
            1 + number % 3 // 2 * 2,
        )
        image = Image.fromarray(rgb)
        found = seen(image if channels == 3 else image.convert("L"), (high, wide), view)
        expected.append(found.ravel().tolist())
        cases.append([rgb.ravel().tolist(), [h, w], [high, wide, channels], {"keep": view.keep, "pad": view.pad}])
    script = (STATIC / "resize.js").read_text() + (
        f"console.log(JSON.stringify({json.dumps(cases)}.map(([rgb, ...rest]) => "
        "Array.from(seen(Uint8Array.from(rgb), ...rest).bytes))));"
    )
    for case, got, want in zip(cases, json.loads(node(script)), expected, strict=True):
        assert got == want, case[1:]


def compare(folder: Path, files: list[Path], tmp_path) -> int:
    """Hold the page's answers to these pictures against the host's; return how many boxes there were."""
    html = mcu.page(folder, emulate=False)
    data = json.dumps([base64.b64encode(file.read_bytes()).decode() for file in files])
    with visited(html, tmp_path / "profile") as view:
        answers = view.ask(ANSWERS.replace("PICTURES", data))
        assert view.ask("return await check()").startswith("Compared: the same bytes")
    for file, got in zip(files, answers, strict=True):
        host = mcu.run(folder, file)
        assert [output.tolist() for output in host.outputs] == got["outputs"], file
        boxes = [{key: box[key] for key in ("score", "label", "name")} for box in host.boxes]
        assert boxes == [{key: box[key] for key in ("score", "label", "name")} for box in got["boxes"]], file
        for here, there in zip(host.boxes, got["boxes"], strict=True):
            assert here["box"] == pytest.approx(there["box"], abs=1e-4), file
    return sum(len(answer["boxes"]) for answer in answers)


def pictures(home: Path, count: int) -> list[Path]:
    """Smooth pictures of several sizes, as JPEG and PNG, one of them grey."""
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        size = tuple(map(int, rng.integers(40, 200, 2)))
        image = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        image = image.convert("L") if number == 2 else image
        files.append(home / f"{number}.{'png' if number % 2 else 'jpg'}")
        image.save(files[-1])
    return files


@pytest.fixture(scope="module", params=[PIXELS, IMAGENET], ids=["plain", "table"])
def detector(request, tmp_path_factory):
    """A small detector, letterboxed, as C in a folder; it reads a picture's bytes less 128, or by a table."""
    model, _ = face_model(64, 96, 3, 0.02)
    model.scales[model.graph.inputs[0].name] = request.param
    model.meta["view"] = "letterbox:114"
    out = tmp_path_factory.mktemp("network") / "fw"
    write_library(out, plan(model.graph), model, get_board("stm32h743"))
    return out


@needs_page
def test_the_bytes_are_the_hosts(detector, tmp_path):
    assert compare(detector, pictures(tmp_path, 4), tmp_path) > 10


@needs_page
def test_a_dropped_picture_is_answered(detector, tmp_path):
    """The boxes are listed and drawn; a file that is no picture is refused in a line."""
    (file,) = pictures(tmp_path, 1)
    data = base64.b64encode(file.read_bytes()).decode()
    with visited(mcu.page(detector, emulate=False), tmp_path / "profile") as view:
        said = view.ask(DROP.replace("DATA", data))
    assert "ms in this browser" in said["good"] and "face  0." in said["good"]
    assert tuple(said["size"]) == Image.open(file).size and said["bad"].startswith("This is no picture")


@needs_page
def test_a_page_opens_with_its_picture(detector, tmp_path):
    """The photograph that it was made with, its file as it is: the boxes are those of the C on this machine."""
    (file,) = pictures(tmp_path, 1)
    boxes = mcu.run(detector, file).boxes
    with visited(mcu.page(detector, file, emulate=False), tmp_path / "profile") as view:
        size, said = view.ask("""for (let i = 0; i < 100 && last === null; i++) {
          await new Promise((done) => setTimeout(done, 100));
        }
        const canvas = document.getElementById('shown');
        document.getElementById('least').value = 0;
        show(last);
        return [[canvas.width, canvas.height], document.getElementById('found').textContent];""")
    assert tuple(size) == Image.open(file).size
    assert boxes and [line.split()[:2] for line in said.splitlines()[1:]] == [
        [box["name"], f"{box['score']:.3f}"] for box in boxes
    ]


def test_a_page_carries_no_picture_that_a_browser_does_not_read(tmp_path):
    from nni_mcunet.api import pages

    for name, size in (("a.npy", 9), ("a.tif", 9), ("a.jpg", pages.HEAVY + 1)):
        (tmp_path / name).write_bytes(bytes(size))
        assert pages._shown(tmp_path / name) is None
    (tmp_path / "a.PNG").write_bytes(b"png")
    assert pages._shown(tmp_path / "a.PNG") == base64.b64encode(b"png").decode()


@needs_page
def test_each_network_has_a_module_of_its_own(tmp_path):
    """One behind the other, pictures of other sizes: the compiler's cache would give the first one's object of page.c,
    whose header is another file now. In node, which needs no browser."""
    for h, w in ((64, 96), (96, 64)):
        model, picture = face_model(h, w, 2, 0.02)
        folder = tmp_path / f"{h}"
        write_library(folder, plan(model.graph), model, get_board("stm32h743"))
        (tmp_path / "model.wasm").write_bytes(build_wasm(folder))
        script = MODULE.replace("PATH", str(tmp_path / "model.wasm")).replace("BYTES", str(picture.ravel().tolist()))
        for got, want in zip(json.loads(node(script)), build_host(folder).run(picture), strict=True):
            assert got == want.tolist()


def test_without_the_compiler_the_page_says_why(detector, monkeypatch):
    from nni_mcunet.api import pages
    from nni_mcunet.engine.run import toolchain

    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    assert "pip install 'nni-mcunet[wasm]'" in pages._network(detector, None)


def spread(folder: Path, count: int = 20) -> list[Path]:
    found = sorted(folder.rglob("*.jpg"))
    return found[:: max(1, len(found) // count)][:count]


@needs_page
@pytest.mark.slow
def test_twenty_photographs_of_blood_cells(shared, tmp_path):
    mcu.compile("zoo:blood-cells-f412", "stm32f412", tmp_path / "fw")
    assert compare(tmp_path / "fw", spread(shared / "data/bccd/BCCD/JPEGImages"), tmp_path) > 100


@needs_page
@pytest.mark.slow
def test_twenty_photographs_of_faces(shared, tmp_path):
    files = spread(shared / "data/widerface_mini")
    path, reads = shared / "models/yunet/yunet_n_320_320.onnx", {"mean": 0, "std": 1, "bgr": True}
    int8 = mcu.quantize(path, [str(file) for file in files], **reads)
    mcu.compile(int8, "stm32h743", tmp_path / "fw")
    compare(tmp_path / "fw", files, tmp_path)


@needs_page
@pytest.mark.slow
def test_twenty_photographs_for_a_classifier(shared, tmp_path):
    """A centred part of each, as it is judged."""
    files = spread(shared / "data/imagenet_sample")
    net = mcu.load("mcunet_in3", weights=shared / "models/mcunet-in3/weights.pth", view="crop:0.875")
    mcu.compile(mcu.quantize(net, [str(file) for file in files], images=8), "stm32f746", tmp_path / "fw")
    compare(tmp_path / "fw", files, tmp_path)
