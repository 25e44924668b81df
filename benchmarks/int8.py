"""What int8 costs each model: docs/results/int8.json, a record a model with its figures in float, after post-training
quantisation (PTQ), after quantisation-aware training (QAT) and of the generated C.

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
import torch
from tqdm import tqdm

from nni_mcunet.core.arch import ArchSpec
from nni_mcunet.core.build import build_graph
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.net import Net
from nni_mcunet.core.plan import plan
from nni_mcunet.core.published import rename
from nni_mcunet.engine import reference
from nni_mcunet.engine.calibrate import session, to_input
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.firmware import build_host
from nni_mcunet.engine.images import list_pictures, load_picture
from nni_mcunet.engine.ptq import calibrated
from nni_mcunet.engine.quant import Model, QuantModel
from nni_mcunet.engine.sqnr import db

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
    run, name = session(model), model.graph.inputs[0].name
    return np.stack([run.run(None, {name: to_input(p)})[0].ravel() for p in tqdm(pictures, unit="image", leave=False)])


def c_scores(model: QuantModel, pictures) -> np.ndarray:
    """(pictures, classes) int8 of the compiled C. Raises AssertionError where it differs from the numpy reference."""
    whole = plan(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        host = build_host(write_sources(whole, model, folder))
    found = np.stack([host.run(p)[0] for p in tqdm(pictures, unit="image", leave=False)])
    for picture, ours in zip(pictures[:COMPARED], found, strict=False):
        maps = reference.run(whole, model, (picture.astype(np.int16) - 128).astype(np.int8))
        assert np.array_equal(maps[model.graph.outputs[0]].ravel(), ours), "the C differs from the reference"
    return found


def mcunet_in3(shared: Path) -> dict:
    """Top-1 on 250 photographs of ImageNet; calibrated on photographs of another set, none of ImageNet."""
    model = published_in3(shared)
    size = model.graph.inputs[0].h, model.graph.inputs[0].w
    files = list_pictures(shared / "data/imagenet_sample")
    pictures, labels = [load_picture(f, size) for f in files], np.array([int(f.name[:4]) for f in files])
    others = list_pictures(shared / "data/voc2012_mini/VOCdevkit/VOC2012/JPEGImages", most=CALIBRATION)
    int8 = calibrated(model, [load_picture(f, size) for f in others])
    floats, quantized, compiled = scores(model, pictures), scores(int8, pictures), c_scores(int8, pictures)

    def top1(found: np.ndarray) -> dict:
        right = int((found.argmax(1) == labels).sum())
        return {"top1": round(right / len(labels), 4), "right": right}

    published = json.loads((shared / "data/imagenet_sample/expected.json").read_text())["litert_int8_top1"]
    return {
        "data": f"{len(files)} photographs of ImageNet; calibrated on {len(others)} of VOC 2012",
        "float": top1(floats),
        "ptq": top1(quantized) | {"output_sqnr_db": round(db((floats**2).sum(), ((floats - quantized) ** 2).sum()), 2)},
        "qat": None,
        "c_engine": top1(compiled),
        "published_int8": {"top1": published / len(files), "right": published},
    }


RECORDS = {"mcunet-in3": mcunet_in3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RECORDS, help="this record alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shared = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
    known = {r["model"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    for name in [args.only] if args.only else RECORDS:
        record = {"model": name, **RECORDS[name](shared), "command": f"python benchmarks/int8.py --only {name}"}
        print(json.dumps(record, indent=1))
        known[name] = record
        write_json(RESULTS, [known[n] for n in RECORDS if n in known])


if __name__ == "__main__":
    with exit_on_user_error():
        main()
