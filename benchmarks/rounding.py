"""Is it worth rounding the weights of a sum together? Each model is quantised with and without it, on the same
pictures: docs/results/rounding.json and the second table of docs/int8.md.

    python benchmarks/detectors.py --only yolov3_bccd_f412 yolox_bccd_f412 yolov3_animals_f412   (trains them)
    python benchmarks/rounding.py [--only yunet]                            (a quarter of an hour of one core)

The data and models are in $MCUNET_SHARED (default ../shared).
"""

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import int8
import numpy as np
import torch
from readme import into_page, python

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.engine.quant.post_training import calibrated

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results/rounding.json"
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
DETECTORS = ("yolov3_bccd_f412", "yolox_bccd_f412", "yolov3_animals_f412")
PAGE, BEGIN, END = "int8.md", "<!-- rounding, by benchmarks/rounding.py -->\n", "<!-- end of rounding -->\n"


def detector(name: str, together: bool) -> dict:
    """mAP of the test set, and the shares of the float network's boxes of score 0.3 that int8 finds."""
    out, config = ROOT / "out/detection" / name, f"configs/det/{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        file, metrics, boxes = (Path(folder) / part for part in ("model.int8.onnx", "metrics.json", "boxes.json"))
        how = [] if together else ["--no-compensation"]
        python(
            "tools/quantize.py", out / "model.onnx", "--calib", config, "--images", int8.CALIBRATION, *how, "-o", file
        )
        python("tools/test.py", config, file, "--work-dir", Path(folder) / "test", "--out-json", metrics)
        python("tools/compare_boxes.py", config, out / "det/last.pth", "--int8", file, "--json", boxes)
        found, shares = json.loads(metrics.read_text()), json.loads(boxes.read_text())["score"]["0.3"]
    return {key: round(found[key], 4) for key in ("map50", "map50_95")} | {
        key: {pixels: round(share, 4) for pixels, share in shares[key].items()} for key in ("within", "before_nms")
    }


def in3(together: bool) -> dict:
    """How many of 250 photographs of ImageNet are classified right."""
    model, pictures, labels, calibration = int8.in3_pictures(SHARED)
    return int8.top1(int8.scores(calibrated(model, calibration, compensate=together), pictures), labels)


def yunet(together: bool) -> dict:
    """The SQNR of its twelve maps, and their mean."""
    path, model, train, val, names = int8.yunet_pictures(SHARED)
    quantized = calibrated(model, train, compensate=together)
    found = int8.maps_apart(path, quantized, int8.session_outputs(quantized), val, names)["sqnr_db"]
    return {"mean_db": round(float(np.mean(list(found.values()))), 2), "sqnr_db": found}


RECORDS = {**{name: partial(detector, name) for name in DETECTORS}, "mcunet-in3": in3, "yunet": yunet}


def shown(found: dict) -> str:
    if "within" in found:
        near = [f"{found[of][pixels]:.1%}" for of in ("within", "before_nms") for pixels in ("0.5", "2")]
        return (f"mAP50 {found['map50']:.3f}, mAP50:95 {found['map50_95']:.3f}; {near[0]} within half a pixel, "
                f"{near[1]} within two; before NMS {near[2]}, {near[3]}")  # fmt: skip
    return f"{found['right']} of 250 right" if "right" in found else f"{found['mean_db']:.1f} dB"


def table(records: list[dict]) -> str:
    lines = ["| model | each weight by itself | the weights of a sum together |", "|---|---|---|"]
    lines += [f"| {r['model']} | {shown(r['each'])} | {shown(r['together'])} |" for r in records]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RECORDS, default=list(RECORDS), help="only these records")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = {r["model"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    for name in args.only:
        known[name] = {"model": name, "each": RECORDS[name](False), "together": RECORDS[name](True)}
        rows = [known[n] for n in RECORDS if n in known]
        write_json(RESULTS, rows)
        into_page(PAGE, BEGIN, table(rows), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
