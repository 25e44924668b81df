"""The networks that the engine is measured on, by name.

mcunet-vww1 is the trained one of $MCUNET_SHARED (default ../shared) with all its channels, mcunet-vww1-live what
mcunet generate makes of it, without the dead ones; the others of NAMES are the zoo's and a ResNet8 with random
integers. MLPERF holds MLPerf Tiny's four: two published .tflite files, without their dead channels, and two with random
integers.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate_cycles import random_integers

from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.model import QuantModel

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
ZOO = {
    "mcunet-in0": "mcunet_in0",
    "mcunet-in1": "mcunet_in1",
    "mcunet-in2": "mcunet_in2",
    "mcunet-in3": "mcunet_in3",
    "mcunet-in4": "mcunet_in4",
    "mbv2-w0.35-r144": "mobilenet_v2_w35_r144",
    "proxyless-w0.3-r176": "proxyless_w03",
    "MobileNetV2-224": "mobilenet_v2",
    "MbV2-RD-224": "mobilenet_v2_rd",
    "MobileNetV1-0.25-96": "mobilenet_v1_w25_r96",
}
TEN = ("MobileNetV2-224", "MbV2-RD-224")  # classes: with a thousand their weights are 3.5 MB, more than a board has
NAMES = ("mcunet-vww1", "mcunet-vww1-live", *ZOO, "ResNet8")
FILES = {"MobileNetV1-0.25 VWW": "vww_96_int8", "DS-CNN KWS": "kws_ref_model"}  # of MLCommons, trained
MLPERF = ("ResNet8", *FILES, "FC auto-encoder")
# SRAM on an STM32H743, of the README of mit-han-lab/tinyengine (2022).
TINYENGINE_KB = {"mcunet-vww1": 92, "mcunet-vww1-live": 92, "mcunet-in0": 49, "mcunet-in1": 96, "mcunet-in2": 215,
                 "mcunet-in3": 260, "mcunet-in4": 416, "proxyless-w0.3-r176": 259}  # fmt: skip


def network(name: str) -> QuantModel:
    if name.startswith("mcunet-vww1"):
        model = load_model(SHARED / "models/vww1/vww1_int8_qlinear.onnx")
        return without_dead_channels(model) if name.endswith("live") else model
    if name in FILES:
        return without_dead_channels(load_model(SHARED / f"models/tflite/{FILES[name]}.tflite"))
    rng = np.random.default_rng(0)
    if name in (made := {"ResNet8": resnet8, "FC auto-encoder": auto_encoder}):
        return random_integers(made[name](), rng)
    spec = ArchSpec.load(ROOT / f"configs/arch/{ZOO[name]}.json")
    return random_integers(build_graph(replace(spec, classes=10) if name in TEN else spec).folded(), rng)


def resnet8() -> Graph:
    """MLPerf Tiny's image classification (Banbury et al. 2021): 32x32x3, three residual stacks, 12.5M MACs."""
    ops, image = [Op("stem", "conv", ("image",), 16, (3, 3), pad=(1, 1, 1, 1), act="relu")], Tensor("image", 32, 32, 3)
    x = "stem"
    for block, cout in enumerate((16, 32, 64), 1):
        s, pad = ((1, 1), (1, 1, 1, 1)) if block == 1 else ((2, 2), (0, 0, 1, 1))
        a, b, skip = (f"b{block}_{part}" for part in ("a", "b", "skip"))
        ops.append(Op(a, "conv", (x,), cout, (3, 3), s, pad, act="relu", block=block))
        if block > 1:
            ops.append(Op(skip, "conv", (x,), cout, s=s, pad=(0, 0, -1, -1), block=block))
        residual = skip if block > 1 else x
        ops.append(Op(b, "conv", (a,), cout, (3, 3), pad=(1, 1, 1, 1), act="relu", residual=residual, block=block))
        x = b
    ops.append(Op("pool", "gap", (x,), 64, block=4))
    ops.append(Op("fc", "conv", ("pool",), 10, block=4))
    ops.append(Op("softmax", "softmax", ("fc",), 10, block=4))
    return Graph("resnet8", (image,), tuple(ops), ("softmax",)).verify()


def auto_encoder() -> Graph:
    """MLPerf Tiny's anomaly detection (Banbury et al. 2021): 640 values, ten fully connected layers, 0.26M MACs."""
    widths, image = (128, 128, 128, 128, 8, 128, 128, 128, 128), Tensor("image", 1, 1, 640)
    names = ("image", *(f"fc{i}" for i in range(len(widths))))
    hidden = [Op(names[i + 1], "conv", (names[i],), cout, act="relu", block=i) for i, cout in enumerate(widths)]
    last = Op("out", "conv", (names[-1],), 640, block=len(widths))
    return Graph("auto_encoder", (image,), (*hidden, last), ("out",)).verify()
