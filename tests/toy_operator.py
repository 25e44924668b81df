"""Hold the operator of docs/extending.md against patches, torch, onnxruntime and the C.

python toy_operator.py TREE: run by test_extending.py in a copy of the tree that has the operator.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from nets import random_model
from programs import run_board, run_host

import nni_mcunet
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.latency import instructions
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.lower.intervals import intervals
from nni_mcunet.engine.model import Model, QuantModel, Scale
from nni_mcunet.engine.quant.ort_session import session

KIND, H, W, C = "l1pool", 17, 14, 3


def network(rng: np.random.Generator, alone: bool = False) -> QuantModel:
    """The operator by windows of any size between convolutions, or as the only layer on the image."""
    ops, name, channels = [], "image", C

    def add(kind, cout, k, s, pad, **fields):
        nonlocal name
        ops.append(Op(f"l{len(ops)}", kind, (name,), cout, k, s, pad, block=len(ops), **fields))
        name = ops[-1].name

    def pool(channels):
        k = tuple(rng.integers(1, 5, 2).tolist())
        add(KIND, channels, k, tuple(rng.integers(1, 3, 2).tolist()), (k[0] - 1, 0, 1, k[1] - 1))

    if not alone:
        channels = 8
        add("conv", channels, (3, 3), (1, 1), (1, 1, 1, 1), act="relu6")
        pool(channels)
        add("conv", channels, (3, 3), (1, 1), (1, 1, 1, 1), groups=channels)
    pool(channels)
    graph = Graph("toy", (Tensor("image", H, W, C),), tuple(ops), (name,)).verify()
    model = random_model(rng, graph, 1 / 60)
    for op in graph.ops:
        if op.kind == KIND:
            step = model.scales[op.inputs[0]].scale * op.k[0] * op.k[1] * 0.25
            model.scales[op.name] = Scale(step, int(rng.integers(-128, 0)))
    for name, scale in model.scales.items():  # as a file holds them
        model.scales[name] = Scale(float(np.float32(scale.scale)), scale.zero_point)
    return model


def check_integers(model: QuantModel, image: np.ndarray) -> None:
    """Patches equal the whole map, every value lies in its interval, and each sum is torch's, rounded."""
    graph, net = model.graph, Net(model.graph)
    tensors, bounds = reference.run(plan(graph), model, image, keep=True), intervals(model)
    for halo in ("clip", "cache"):
        found = plan(graph, Schedule((3, 2), len(graph.ops)), halo=halo)
        patched = reference.run(found, model, image)[graph.outputs[0]]
        assert np.array_equal(patched, tensors[graph.outputs[0]]), f"patches with halo {halo} are not the whole map"
        assert instructions(found) > instructions(plan(graph)) > 0
    for op in graph.ops:
        low, high = bounds[op.name]
        values = tensors[op.name].astype(int)
        assert ((low <= values) & (values <= high)).all(), f"{op.name} leaves its interval"
        if op.kind == KIND:
            x, y = model.scales[op.inputs[0]], model.scales[op.name]
            real = torch.from_numpy(x.dequantize(tensors[op.inputs[0]]).transpose(2, 0, 1))[None]
            steps = net.run(op, {op.inputs[0]: real})[0].numpy().transpose(1, 2, 0) / y.scale + y.zero_point
            assert len(np.unique(values)) > 10, f"{op.name} is nearly constant"
            assert np.abs(np.clip(steps, -128, 127) - values).max() < 0.51, f"{op.name} is not torch's"
    smaller = without_dead_channels(model)
    again = reference.run(plan(smaller.graph), smaller, image)[graph.outputs[0]]
    assert np.array_equal(again, tensors[graph.outputs[0]]), "dead channels changed the output"


def check_c(model: QuantModel, picture: np.ndarray, image: np.ndarray, folder: Path, run, halo: str) -> None:
    """The C under the sanitizers or on an emulated board gives the reference's bytes."""
    found = plan(model.graph, Schedule((3, 2), 3), halo=halo)
    (said,) = run(write_sources(found, model, folder), picture)["outputs"]
    expected = reference.run(found, model, image)[model.graph.outputs[0]]
    assert np.array_equal(said, expected.ravel()), "the C is not the reference"


def check_onnx(model: QuantModel, image: np.ndarray, folder: Path) -> None:
    """An int8 file holds the network, onnxruntime computes it to a step; a float file holds it, too."""
    again = load_onnx(save_onnx(model, folder / "int8.onnx"))
    assert again.graph.ops == model.graph.ops and again.scales == model.scales
    x, y = (model.scales[name] for name in ("image", model.graph.outputs[0]))
    values = session(model).run(None, {"image": x.dequantize(image).transpose(2, 0, 1)[None]})[0]
    ours = reference.run(plan(model.graph), model, image)[model.graph.outputs[0]].astype(int)
    assert np.abs(y.quantize(values[0].transpose(1, 2, 0)) - ours).max() <= 1, "the reference is not onnxruntime's"
    plain = load_onnx(save_onnx(Model(model.graph, {}), folder / "float.onnx"))
    assert plain.graph.ops == model.graph.ops


def main(tree: Path) -> None:
    assert Path(nni_mcunet.__file__).is_relative_to(tree)
    pictures = np.random.default_rng(0).integers(0, 256, (4, H, W, C)).astype(np.uint8)
    images = (pictures.astype(np.int16) - 128).astype(np.int8)
    models = [network(np.random.default_rng(seed)) for seed in range(4)]
    for model, image in zip(models, images, strict=True):
        check_integers(model, image)
    check_onnx(network(np.random.default_rng(9), alone=True), images[0], tree)
    check_c(models[0], pictures[0], images[0], tree / "clip", run_host, "clip")
    check_c(models[1], pictures[1], images[1], tree / "cache", run_host, "cache")
    check_c(models[1], pictures[1], images[1], tree / "board", lambda *args: run_board("cortex-m4", *args), "cache")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
