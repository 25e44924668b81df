"""Measure what int8 costs each model: docs/results/int8.json and the table of docs/int8.md. A record a model has its
figures in float, after post-training quantisation (PTQ), after quantisation-aware training (QAT) and of the
generated C.

    python benchmarks/int8.py [--only mcunet-in3]

The data and models are in $MCUNET_SHARED (default ../shared). A record is a function of that folder; `--only` leaves
the others of the file as they are.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from readme import into_page, python
from tqdm import tqdm

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.zoo_weights import rename
from nni_mcunet.core.plan.plan import best_schedule, plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.fuse import of_pixels
from nni_mcunet.engine.int8_classifier import by_c, by_onnxruntime
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model, QuantModel
from nni_mcunet.engine.quant.ort_session import session, to_input
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.sqnr import db
from nni_mcunet.engine.run.host import build_host
from nni_mcunet.engine.run.pictures import list_pictures, load_picture

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results/int8.json"
CALIBRATION = 128  # pictures
COMPARED = 5  # pictures on which the C's every byte is held against the numpy reference


def published_in3(shared: Path) -> Model:
    """mcunet-in3 as its authors trained it on ImageNet, float."""
    spec = ArchSpec.load(ROOT / "configs/arch/mcunet_in3.json")
    net = Net(build_graph(spec)).eval()
    state = torch.load(shared / "models/mcunet-in3/weights.pth", weights_only=True, map_location="cpu")
    net.load_state_dict(rename(spec, state["state_dict"]))
    return Model(net.graph.folded(), net.folded_weights())


def scores(model: Model | QuantModel, pictures) -> np.ndarray:
    """(pictures, classes) of a classifier, by onnxruntime."""
    classify = by_onnxruntime(model)
    return np.stack([classify(p) for p in tqdm(pictures, unit="image", leave=False, disable=None)])


def c_scores(model: QuantModel, pictures) -> np.ndarray:
    """(pictures, classes) int8 of the compiled C. Raises AssertionError where it differs from the numpy reference."""
    whole, classify = plan(model.graph), by_c(model)
    found = np.stack([classify(p) for p in tqdm(pictures, unit="image", leave=False, disable=None)])
    for picture, ours in zip(pictures[:COMPARED], found, strict=False):
        maps = reference.run(whole, model, (picture.astype(np.int16) - 128).astype(np.int8))
        assert np.array_equal(maps[model.graph.outputs[0]].ravel(), ours), "the C differs from the reference"
    return found


def in3_pictures(shared: Path) -> tuple[Model, list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """mcunet-in3, 250 photographs of ImageNet, which are there cut to the network's size and so are seen whole, their
    classes, and photographs of another set to calibrate on."""
    model = published_in3(shared)
    size = model.graph.inputs[0].h, model.graph.inputs[0].w
    files = list_pictures(shared / "data/imagenet_sample")
    others = list_pictures(shared / "data/voc2012_mini/VOCdevkit/VOC2012/JPEGImages", most=CALIBRATION)
    pictures, calibration = ([load_picture(f, size) for f in some] for some in (files, others))
    return model, pictures, np.array([int(f.name[:4]) for f in files]), calibration


def top1(found: np.ndarray, labels: np.ndarray) -> dict:
    right = int((found.argmax(1) == labels).sum())
    return {"top1": round(right / len(labels), 4), "right": right}


def mcunet_in3(shared: Path) -> dict:
    """Top-1, and dB of the scores."""
    model, pictures, labels, calibration = in3_pictures(shared)
    int8 = calibrated(model, calibration)
    floats, quantized, compiled = scores(model, pictures), scores(int8, pictures), c_scores(int8, pictures)
    decibels = db((floats**2).sum(), ((floats - quantized) ** 2).sum())
    published = json.loads((shared / "data/imagenet_sample/expected.json").read_text())["litert_int8_top1"]
    return {
        "data": f"{len(pictures)} photographs of ImageNet; calibrated on {len(calibration)} of VOC 2012",
        "float": top1(floats, labels),
        "ptq": top1(quantized, labels) | {"output_sqnr_db": round(decibels, 2)},
        "qat": None,
        "c_engine": top1(compiled, labels),
        "published_int8": {"top1": published / len(labels), "right": published},
    }


def mcunet_vww1(shared: Path) -> dict:
    """A classifier that comes as integers: there is no float, and all that may differ is the rounding."""
    path, data = shared / "models/vww1/vww1_int8_qlinear.onnx", np.load(shared / "models/vww1/io.npz")
    model, images = load_model(path), data["input_nhwc_int8"]
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = np.stack([run.run(None, {run.get_inputs()[0].name: x.transpose(2, 0, 1)[None]})[0][0] for x in images])
    found = c_scores(model, [(x.astype(np.int16) + 128).astype(np.uint8) for x in images]).astype(int)
    litert = data["litert_output_int8"].astype(int)
    return {
        "data": f"{len(images)} pictures of Visual Wake Words; arrives as LiteRT's integers in QLinear operators",
        "float": None,
        "ptq": None,
        "qat": None,
        "c_engine": {
            "decisions_as_litert": int((found.argmax(1) == litert.argmax(1)).sum()),
            "most_steps_from_litert": int(np.abs(found - litert).max()),
            "most_steps_from_onnxruntime": int(np.abs(found - theirs).max()),
        },
    }


def yunet_pictures(shared: Path) -> tuple[Path, Model, list[np.ndarray], list[np.ndarray], list[str]]:
    """Somebody else's face detector: its float ONNX file, the model of it, photographs to calibrate on and others to
    judge by, and the names of its maps."""
    path = shared / "models/yunet/yunet_n_320_320.onnx"
    model = of_pixels(load_model(path), mean=(0, 0, 0), std=(1, 1, 1), bgr=True)
    size = model.graph.inputs[0].h, model.graph.inputs[0].w
    train, val = (
        [load_picture(p, size) for p in sorted((shared / f"data/widerface_mini/WIDER_{part}").rglob("*.jpg"))]
        for part in ("train", "val")
    )
    return path, model, train, val, [o.name for o in onnxruntime.InferenceSession(str(path)).get_outputs()]


def yunet(shared: Path) -> dict:
    """dB and root mean square error of each map."""
    path, model, train, val, names = yunet_pictures(shared)
    int8 = calibrated(model, train)
    whole, patched = plan(int8.graph), best_schedule(int8.graph, get_board("f412"))
    return {
        "data": f"WIDER FACE: {len(val)} photographs of its validation set, calibrated on {len(train)} for training",
        "float": "the reference of the figures below, by onnxruntime on the file itself",
        "ptq": maps_apart(path, int8, session_outputs(int8), val, names),
        "qat": None,
        "c_engine": maps_apart(path, int8, c_outputs(whole, int8), val, names)
        | {
            "arena_bytes_layer_by_layer": whole.arena,
            "arena_bytes_on_the_f412": patched.arena,
            "patches": f"{patched.schedule.p[0]}x{patched.schedule.p[1]} over {patched.schedule.n} layers",
            "patch_overhead": round(patched.overhead, 3),
            "patched_is_the_same": same_bytes(whole, patched, int8, val[:COMPARED]),
        },
    }


def session_outputs(model: QuantModel):
    run, name = session(model), model.graph.inputs[0].name
    return lambda picture: [v[0].transpose(1, 2, 0).ravel() for v in run.run(None, {name: to_input(picture)})]


def c_outputs(whole, model: QuantModel):
    with tempfile.TemporaryDirectory() as folder:
        host = build_host(write_sources(whole, model, folder))
    scales = [model.scales[name] for name in model.graph.outputs]
    return lambda picture: [s.dequantize(v) for s, v in zip(scales, host.run(picture), strict=True)]


def same_bytes(whole, patched, model: QuantModel, pictures) -> bool:
    runs = [c_outputs(p, model) for p in (whole, patched)]
    return all(np.array_equal(a, b) for p in pictures for a, b in zip(*(run(p) for run in runs), strict=True))


def maps_apart(path: Path, model: QuantModel, outputs, pictures, names: list[str]) -> dict:
    """Compare each output of the float file at `path`, which reads BGR pixels, with `outputs` of a picture."""
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    signal, noise, count = (np.zeros(len(names)) for _ in range(3))
    for picture in tqdm(pictures, unit="image", leave=False, disable=None):
        image = np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)[None], np.float32)
        theirs = run.run(None, {run.get_inputs()[0].name: image})
        for i, (real, ours) in enumerate(zip(theirs, outputs(picture), strict=True)):
            signal[i] += (real.ravel() ** 2).sum()
            noise[i] += ((real.ravel() - ours) ** 2).sum()
            count[i] += real.size
    return {
        "sqnr_db": {n: round(db(s, e), 1) for n, s, e in zip(names, signal, noise, strict=True)},
        "rms_error": {n: round(float(np.sqrt(e / c)), 4) for n, e, c in zip(names, noise, count, strict=True)},
    }


def bccd(shared: Path) -> dict:
    """A detector trained here (eleven minutes), quantised after training, and trained on for int8 (three minutes)."""
    config, out = "configs/det/yolov3_bccd_f412", ROOT / "out/int8"
    trained, learnt = out / "bccd/last.pth", out / "bccd_qat/last.pth"
    if not trained.exists():
        python("tools/train.py", f"{config}.py", "--work-dir", trained.parent, "--resume")
    if not learnt.exists():
        options = "--cfg-options", f"load_from={trained}"
        python("tools/train.py", f"{config}_qat.py", "--work-dir", learnt.parent, *options)

    def measured(checkpoint: Path, backend: str) -> dict:
        found, folder = out / "metrics.json", out / "test"  # the same config for all: it says how many boxes are kept
        words = (f"{config}_qat.py", checkpoint, "--backend", backend, "--work-dir", folder, "--out-json", found)
        python("tools/test.py", *words)
        row = {"map50": round(json.loads(found.read_text())["map50"], 4)}
        if backend == "int8":
            boxes = out / "boxes.json"
            python("tools/compare_boxes.py", f"{config}_qat.py", checkpoint, "--json", boxes)
            shares = json.loads(boxes.read_text())["score"]["0.3"]
            for name, of in {"boxes_within": "within", "boxes_before_nms": "before_nms"}.items():
                row[name] = {pixels: round(shares[of][pixels], 4) for pixels in ("0.5", "2")}
        return row

    return {
        "data": "BCCD, 292 / 72 photographs: mAP50 on the test split; PTQ and QAT as compiled C",
        "float": measured(trained, "float"),
        "ptq": measured(trained, "int8"),
        "qat": measured(learnt, "int8"),
        "c_engine": "as above",
    }


PAGE, BEGIN, END = "int8.md", "<!-- int8, by benchmarks/int8.py -->\n", "<!-- end of int8 -->\n"


def table(records: list[dict]) -> str:
    """Return the table of docs/int8.md from the records of docs/results/int8.json."""
    found = {r["model"]: r for r in records}
    in3, vww, faces, cells = (found[name] for name in RECORDS)

    def right(kind: str) -> str:
        return f"{in3[kind]['right']} ({in3[kind]['top1']:.1%})"

    compared = vww["c_engine"]
    decibels = " to ".join(f"{f(faces['c_engine']['sqnr_db'].values()):.0f}" for f in (min, max))
    rows = [
        ("mcunet-in3, published weights", in3["data"] + ": top-1", right("float"), right("ptq"), "", right("c_engine")),
        ("mcunet-vww1", vww["data"], "", "", "", f"all {compared['decisions_as_litert']} decisions LiteRT's, outputs "
         f"within {compared['most_steps_from_onnxruntime']} steps of onnxruntime's"),
        ("YuNet", faces["data"] + ": SQNR of its twelve maps", "", "", "", f"{decibels} dB"),
        ("yolov3_bccd_f412", "BCCD, 292 / 72 photographs: mAP50; boxes within half a pixel of the float network's, "
         "before NMS", f"{cells['float']['map50']:.3f}", *(f"{cells[k]['map50']:.3f}; "
         f"{cells[k]['boxes_within']['0.5']:.1%}, {cells[k]['boxes_before_nms']['0.5']:.1%}" for k in ("ptq", "qat")),
         "both are"),
    ]  # fmt: skip
    head = ["| model | data | float | PTQ | QAT | compiled C |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


RECORDS = {"mcunet-in3": mcunet_in3, "mcunet-vww1": mcunet_vww1, "yunet": yunet, "bccd": bccd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RECORDS, help="only this record")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shared = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
    known = {r["model"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    for name in [args.only] if args.only else RECORDS:
        record = {"model": name, **RECORDS[name](shared), "command": f"python benchmarks/int8.py --only {name}"}
        print(json.dumps(record, indent=1))
        known[name] = record
        write_json(RESULTS, [known[n] for n in RECORDS if n in known])
    if len(known) == len(RECORDS):
        into_page(PAGE, BEGIN, table([known[n] for n in RECORDS]), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
