"""Show what an int8 model is made of: each tensor's range, scale and zero point and the spread of its weights' scales;
with the float model and pictures its SQNR, too; and one layer drawn.

mcunet inspect model.int8.onnx
mcunet inspect model.int8.onnx --float model.onnx --calib PICTURES --layer s2_b1_dw --png s2_b1_dw.png
"""

import argparse

from ..core.errors import UserError
from ..core.outputs import check_outputs
from ..engine.frontend import load_model
from ..engine.model import Model, QuantModel
from .calibration_pictures import add_pictures, pictures
from .outputs_argument import add_outputs


def read_pair(args: argparse.Namespace) -> tuple[QuantModel, Model | None]:
    """Return the int8 model, and the float one where it is given. Raises UserError for what does not go together."""
    if bool(args.float) != bool(args.calib) or bool(args.layer) != bool(args.png):
        raise UserError("--float goes with --calib, and --layer with --png: give both or neither")
    int8 = load_model(args.model, outputs=args.outputs)
    source = load_model(args.float, outputs=args.outputs) if args.float else None
    if not isinstance(int8, QuantModel):
        raise UserError(f"{args.model} is float; give an int8 file, such as mcunet quantize writes")
    if source is not None and not isinstance(source, Model):
        raise UserError(f"{args.float} is int8; give the float file that {args.model} was made from")
    if args.layer and args.layer not in int8.graph.tensors:
        raise UserError(f"{args.model} has no layer '{args.layer}'; it has {', '.join(int8.graph.tensors)}")
    if args.layer and source is None and args.layer not in int8.weights:
        raise UserError(f"'{args.layer}' has no weights to draw; give --float and --calib for its values")
    return int8, source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="int8 ONNX, such as mcunet quantize's, or .tflite")
    parser.add_argument("--float", metavar="MODEL.onnx", help="the float file it was made from; with --calib")
    add_outputs(parser)
    add_pictures(parser)
    parser.add_argument("--layer", help="the layer to draw; with --png")
    parser.add_argument("--png", metavar="FILE", help="its weights and, with --float and --calib, its values")


def main(args: argparse.Namespace) -> None:
    check_outputs({"--png": (args.png, ".png")}, args.model, args.float, args.calib, args.list)
    from ..engine.quant.equalize import equalized_like
    from ..engine.quant.ort_session import statistics
    from ..engine.quant.sqnr import report
    from ..engine.quant.summary import entries, table

    int8, source = read_pair(args)
    images = list(pictures(args, source)) if source else []
    print(table(entries(int8), report(source, int8, images) if source else None))
    if args.png:
        from ..profiling.pictures import layer_figure

        found = statistics(equalized_like(int8, source), images)[args.layer] if source else None
        layer_figure(int8, args.layer, args.png, None if found is None else found.histogram)
