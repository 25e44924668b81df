"""Say of operators that the engine has not what to do instead."""

from typing import NoReturn

from .file import Node

GELU = "a part of GELU, whose error function no kernel has: use Relu, HardSwish or Sigmoid and train again"
STATISTICS = "normalises by the statistics of each picture: use BatchNormalization, which is constant, and train again"
ORDER = "chooses by values: end the network before it with --outputs, and leave it to your program"
DYNAMIC = "computes its scales at run time: quantise with calibration data (onnxruntime: quantize_static)"
STATE = (
    "keeps a state from step to step, which the C does not: use convolutions along the positions and train again, or "
    "end the network before it (--outputs, outputs=) and compute it in your program"
)
NODES = "runs other nodes: export what is computed for one picture, without it, or end the network before (--outputs)"
ATTENTION = "attention as one node: export it as MatMul and Softmax, or use a network of convolutions"
TABLE = "an activation without a table: use Relu, Elu, HardSwish, Sigmoid or Tanh and train again"
POWER = "a power, as in GELU and LayerNormalization written out: use HardSwish or BatchNormalization and train again"
ROOT = "part of a normalisation by each picture's own statistics: export in eval mode, with BatchNormalization"

INSTEAD = {
    **dict.fromkeys(("Erf", "Gelu", "FastGelu", "BiasGelu", "QuickGelu"), GELU),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "GroupNorm", "SkipLayerNormalization",
         "SimplifiedLayerNormalization", "RMSNormalization", "MeanVarianceNormalization", "LpNormalization", "LRN"),
        STATISTICS,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "NonZero", "Unique", "Hardmax"), ORDER),
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat"),
        DYNAMIC,
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), STATE),
    **dict.fromkeys(("If", "Loop", "Scan"), NODES),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention", "Einsum"), ATTENTION),
    **dict.fromkeys(("Celu", "Mish", "Softsign", "ThresholdedRelu"), TABLE),
    "Pow": POWER,
    **dict.fromkeys(("Sqrt", "Reciprocal"), ROOT),
}  # fmt: skip


def unknown(node: Node) -> NoReturn:
    """Raise UnsupportedOp for a node whose operator is not known, with the way out."""
    node.refuse(
        INSTEAD.get(node.kind, "not known: rewrite the model without it, or end it before with --outputs (docs/onnx.md "
                    "lists the known)")
    )  # fmt: skip
