"""Write a trained network as float ONNX, one node per layer under the layer's name.

mcunet export configs/det/yolov3_digits.py CHECKPOINT.pth -o model.onnx     a detector
mcunet export CONFIG.py CHECKPOINT.pth -o model.onnx --with-boxes             its boxes, for onnxruntime
mcunet export ARCH.json WEIGHTS.pth -o model.onnx                           a classifier or backbone
"""

import argparse

import torch

from detection import (
    detector_graph,
    detector_meta,
    detector_ranges,
    detector_weights,
    input_pictures,
    load_config,
    load_detector,
    read_checkpoint,
)

from ..core.errors import UserError
from ..core.ir.arch import ArchSpec
from ..core.ir.build import build_graph
from ..core.nn.net import Net
from ..core.nn.qat import fake_quantize, learnt_ranges
from ..core.outputs import check_outputs
from ..engine.frontend.onnx import save_onnx
from ..engine.model import Model, QuantModel, view_of
from ..engine.quant.post_training import calibrated, learnt
from ..engine.run.pictures import with_view
from .cfg_options import Options


def detector(config: str, checkpoint: str, options) -> Model:
    return as_model(load_detector(config, checkpoint, options))


def as_model(detector) -> Model:
    _, _, graph = detector_graph(detector)
    return Model(graph.folded(), detector_weights(detector), {"detector": detector_meta(detector)})


def int8(config: str, checkpoint: str, options, images: int) -> QuantModel:
    """As quantisation-aware training has left it, any other detector calibrated on so many training pictures."""
    found = load_detector(config, checkpoint, options)
    model, ranges = as_model(found), detector_ranges(found)
    if ranges:
        return learnt(model, model.weights, ranges)
    return calibrated(model, input_pictures(load_config(config, options), images))


def classifier(arch: str, checkpoint: str, view: str | None = None) -> Model:
    """view: of its pictures, for an architecture and weights that do not say how they were judged."""
    spec = ArchSpec.load(arch)
    graph = build_graph(spec)
    net, state = Net(graph).eval(), read_checkpoint(checkpoint)
    trained = getattr(state, "meta", {}).get("view")
    judged = str(spec.view) if spec.view else trained
    if trained not in (None, judged):
        raise UserError(f"{arch} says the view {judged}, {checkpoint} {trained}: give two files of one training")
    state = state.get("state_dict", state)
    if learnt_ranges(state):
        fake_quantize(net)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not hold the weights of {arch}: {str(error).splitlines()[1]}") from None
    return with_view(Model(graph.folded(), net.folded_weights(), {"view": judged} if judged else {}), view)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="mmdet config of a detector (.py) or architecture (.json)")
    parser.add_argument("checkpoint", help="its weights (.pth)")
    parser.add_argument("-o", "--out", required=True, help="ONNX file to write")
    parser.add_argument("--with-boxes", action="store_true", help="decoding and NMS too: boxes, scores, labels")
    parser.add_argument("--view", help="how a classifier sees pictures, if its files do not say: stretch (default) or "
                        "crop:SHARE, the centre; crop:0.875 is ImageNet's")  # fmt: skip
    parser.add_argument("--cfg-options", nargs="+", action=Options, help="key=value pairs merged into the config")
    args = parser.parse_args()
    check_outputs({"-o": (args.out, ".onnx")}, args.config, args.checkpoint)
    torch.set_num_threads(1)
    if args.config.endswith(".json"):
        model = classifier(args.config, args.checkpoint, args.view)
    else:
        model = detector(args.config, args.checkpoint, args.cfg_options)
    save_onnx(model, args.out, boxes=args.with_boxes)
    image = model.graph.inputs[0]
    view = f"pictures {view_of(model)}" + ("" if "view" in model.meta else " (default)")
    print(f"{args.out}: {image.h}x{image.w}, {view}, {model.graph.macs:,} MACs, {model.graph.params:,} parameters")
