"""Random networks for the tests: graphs with every geometry the planner claims to handle, and integers for them."""

import numpy as np

from nni_mcunet.core.graph import Graph, Op, Tensor
from nni_mcunet.engine.quant import QuantModel, QuantWeights, Scale


def random_graph(rng: np.random.Generator, blocks: int = 5, size=None, channels=(2, 9)) -> Graph:
    """Convolutions (dense, 1x1, depth-wise, k 1..7, stride 1..2, any pads), residual adds, a pool, an upsampling."""
    h, w = size or rng.integers(9, 40, 2)
    graph = Graph("random", (Tensor("image", int(h), int(w), 3),), (), ())
    ops: list[Op] = []

    def add(op):
        ops.append(op)
        return Graph("random", graph.inputs, tuple(ops), ()).tensors[op.name]

    x = graph.inputs[0]
    for block in range(blocks):
        kind = "conv" if block == 0 else rng.choice(["conv", "mb", "mb", "mb", "maxpool", "upsample"])
        name = f"b{block}"
        if kind == "maxpool" and min(x.h, x.w) >= 4:
            x = add(Op(f"{name}_max", "maxpool", (x.name,), x.c, (2, 2), (2, 2), block=block))
        elif kind == "upsample" and max(x.h, x.w) < 24:
            x = add(Op(f"{name}_up", "upsample", (x.name,), x.c, s=(2, 2), block=block))
        elif kind == "mb":
            x = _mb(rng, add, name, x, block, int(rng.integers(*channels)))
        else:
            x = add(_conv(rng, f"{name}_conv", x, int(rng.integers(*channels)), block))
    return Graph("random", graph.inputs, tuple(ops), (x.name,)).verify()


def _geometry(rng, x, same=False):
    """(k, s, pad) that leaves at least one position; `same` keeps the size. Kernels and strides differ per axis."""
    k, s, pads = [], [], []
    for length in (x.h, x.w):
        kk = int(rng.choice([1, 3, 5, 7] if same else [1, 2, 3, 4, 5, 7]))
        kk = min(kk, length if length % 2 or not same else length - 1)
        ss = 1 if same else int(rng.choice([1, 1, 2, 3]))
        lo, hi = (kk // 2, kk // 2) if same else (int(rng.integers(0, kk)), int(rng.integers(-1, kk)))
        hi = max(hi, -1 if length + lo > kk else 0)
        k.append(kk), s.append(ss), pads.append((lo, hi))
    return tuple(k), tuple(s), (pads[0][0], pads[1][0], pads[0][1], pads[1][1])


def _conv(rng, name, x, cout, block, act="relu6"):
    k, s, pad = _geometry(rng, x)
    return Op(name, "conv", (x.name,), cout, k, s, pad, act=act, block=block)


def _mb(rng, add, name, x, block, cout):
    skip, mid = x, int(rng.integers(2, 12))
    x = add(Op(f"{name}_exp", "conv", (x.name,), mid, act="relu", block=block))
    residual = bool(rng.random() < 0.6)
    k, s, pad = _geometry(rng, x, same=residual)
    x = add(Op(f"{name}_dw", "conv", (x.name,), mid, k, s, pad, mid, "relu6", block=block))
    cout = skip.c if residual else cout
    return add(Op(f"{name}_proj", "conv", (x.name,), cout, residual=skip.name if residual else None, block=block))


def random_model(rng: np.random.Generator, graph: Graph) -> QuantModel:
    """Random weights, biases, scales and zero points that keep the values away from saturation."""
    scales, weights = {"image": Scale(1 / 255, int(rng.integers(-128, 128)))}, {}
    for op in graph.ops:
        x = graph.input_of(op)
        if op.kind != "conv":
            scales[op.name] = scales[op.inputs[0]]
            continue
        fan = op.k[0] * op.k[1] * x.c // op.groups
        weight = rng.integers(-127, 128, (op.cout, x.c // op.groups, *op.k)).astype(np.int8)
        channel = rng.uniform(0.5, 2, op.cout).astype(np.float32) / (73 * np.sqrt(fan))
        bias = rng.integers(-(1 << 13), 1 << 13, op.cout).astype(np.int32)
        scales[op.name] = Scale(scales[op.inputs[0]].scale * float(rng.uniform(0.7, 1.4)), int(rng.integers(-100, 100)))
        weights[op.name] = QuantWeights(weight, channel, bias)
    return QuantModel(graph, scales, weights)
