"""Evaluate a detector: mmdet's own tool behind the plug-in, with the same flags.

python tools/test.py configs/det/yolov3_digits.py out/demo/det/last.pth     the float network
python tools/test.py configs/det/yolov3_digits.py out/demo/model.int8.onnx  its compiled C, boxes included
"""

import argparse
import tempfile

import numpy as np
from mmengine.config import DictAction
from mmengine.runner import Runner

from detection import DeployedDetector, prepare
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan import plan
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.firmware import build_host
from nni_mcunet.engine.onnx_io import load_onnx
from nni_mcunet.engine.quant import QuantModel


def compiled(path: str) -> DeployedDetector:
    """The int8 model's C, built for this machine, as a detector. The boxes are the boards' boxes bit for bit."""
    model = load_onnx(path)
    if not isinstance(model, QuantModel) or "detector" not in model.meta:
        raise UserError(f"{path} is no int8 detector; make one with tools/export.py and tools/quantize.py")
    with tempfile.TemporaryDirectory() as folder:  # a loaded library does not need its file
        host = build_host(write_sources(plan(model.graph), model, folder))

    def detect(rgb: np.ndarray):
        host.run(rgb)
        boxes = host.detect()
        corners = np.stack([boxes[k] for k in ("x1", "y1", "x2", "y2")], axis=1) / 16
        return corners, boxes["score"] / 2**15, boxes["label"]

    return DeployedDetector(detect)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", help="of tools/train.py (.pth), or int8 of tools/quantize.py (.onnx)")
    parser.add_argument("--work-dir", help="logs and metrics; default work_dirs/CONFIG")
    parser.add_argument("--out-json", help="also write the metrics to this file")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value pairs merged into the config")
    args = parser.parse_args()

    cfg = prepare(args.config, args.cfg_options, args.work_dir)
    int8 = args.checkpoint.endswith(".onnx")
    model = compiled(args.checkpoint) if int8 else None
    cfg.load_from = None if int8 else args.checkpoint
    runner = Runner.from_cfg(cfg)
    if int8:
        runner.model = model
    metrics = runner.test()
    print(f"mAP50 {metrics['pascal_voc/mAP']:.4f}")
    if args.out_json:
        write_json(args.out_json, {"map50": float(metrics["pascal_voc/mAP"]), **metrics})


if __name__ == "__main__":
    with exit_on_user_error():
        main()
