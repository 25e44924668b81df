"""Gains of a box's numbers (core/ir/box_channels.py): found, kept by files and headers, trained with, and worth it."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from faces import face_model
from theirs import run

from nni_mcunet.core.errors import GraphError, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.box_channels import HEADROOM, MOST, gain, of_channels, yolo
from nni_mcunet.core.ir.build import YoloHead, YoloxHead, build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import OBSERVE, fake_quantize, freeze, learnt_ranges, learnt_spans, learnt_weights
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.detect import detector_params
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx, to_onnx
from nni_mcunet.engine.int8_detector import compiled
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model, Scale
from nni_mcunet.engine.quant import box_gains, post_training
from nni_mcunet.engine.quant.ort_session import session, to_input
from nni_mcunet.engine.quant.post_training import calibrated, learnt
from nni_mcunet.engine.quant.sqnr import report
from nni_mcunet.engine.run.generated import output_maps

BLOCKS = ((Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),))
ANCHORS = [[[8.0, 10.0], [20.0, 16.0]], [[24.0, 30.0], [40.0, 44.0]]]


def float_yolo():
    """(float model, pictures): a YOLOv3 whose logits go to 6 and whose logarithms of sizes go to about 0.5."""
    spec, rng = ArchSpec("small", 64, 8, BLOCKS), np.random.default_rng(0)
    torch.manual_seed(0)
    net = Net(build_graph(spec, YoloHead(2, (0, 1), 16, 2))).eval()
    pictures = [rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(6)]
    x = torch.from_numpy(np.concatenate([to_input(p) for p in pictures]))
    with torch.no_grad():
        for name, y in zip(net.graph.outputs, net(x), strict=True):
            conv, size = net.layers[name].conv, torch.ones(14)
            size[list(yolo(2, 14)[0])] = 0.1
            factor = size * 2 / y.std(dim=(0, 2, 3))
            conv.weight.mul_(factor[:, None, None, None])
            conv.bias.copy_((conv.bias - y.mean((0, 2, 3))) * factor)
            conv.bias[[4, 11]] -= 4
    meta = {"type": "yolov3", "classes": ["a", "b"], "strides": [4, 8], "anchors": ANCHORS, "score_thr": 0.05,
            "conf_thr": 0.005, "nms_iou": 0.45, "max_per_img": 100}  # fmt: skip
    return Model(net.graph.folded(), net.folded_weights(), {"detector": meta}), pictures


@pytest.fixture(scope="module")
def models():
    """(float model, int8 model with gains, the same without, pictures)"""
    model, pictures = float_yolo()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(post_training, "spans", lambda *given: {})
    monkey.setattr(post_training, "centred", lambda quantized, *given: quantized)
    plain = calibrated(model, pictures)
    monkey.setattr(post_training, "spans", box_gains.spans)
    gained = calibrated(model, pictures)
    monkey.undo()
    return model, gained, plain, pictures


def integers(model, picture):
    return reference.run(plan(model.graph), model, (picture.astype(np.int16) - 128).astype(np.int8))


def nearest(boxes, corners):
    """Return how far each box is from the nearest of the others, pixels. Equal scores may let another box win."""
    return np.abs(boxes[:, None] - corners).max(2).min(1)


def test_a_gain_fills_the_range_and_no_more():
    assert gain((-8, 8), (-1, 0.5)) == np.floor(8 / HEADROOM * 256) / 256
    assert gain((-8, 2), (-1, 0.5)) == np.floor(2 / (0.5 * HEADROOM) * 256) / 256
    assert gain((-8, 8), (0.1, 0.5)) == np.floor(8 / (0.5 * HEADROOM) * 256) / 256  # zero is in every range
    assert gain((-8, 8), (0.0, 0.0)) == gain((-8, 8), (-8, 8)) == gain((-2, 2), (-9, 1)) == 1
    assert gain((-8, 8), (-1e-9, 1e-9)) == MOST
    assert of_channels(7, ((1, 2), (4,)), [3.0, 2.0]) == [1, 3, 3, 1, 2, 1, 1]
    assert yolo(2, 14) == ((2, 3, 9, 10),)


def test_only_sizes_get_finer_steps(models):
    """The other channels' integers are the same; sizes are so many times as large, within a step of rounding."""
    model, gained, plain, pictures = models
    for name in model.graph.outputs:
        g, sizes = np.array(gained.gains[name]), list(yolo(2, 14)[0])
        assert set(g[sizes]) == {g.max()} and 4 < g.max() < 40 and (np.delete(g, sizes) == 1).all()
        assert gained.scales[name] == plain.scales[name]
        for of in ("weight", "bias"):
            assert np.array_equal(getattr(gained.weights[name], of), getattr(plain.weights[name], of))
        ours, theirs = (integers(m, pictures[0])[name].astype(int) for m in (gained, plain))
        assert np.array_equal(np.delete(ours, sizes, 2), np.delete(theirs, sizes, 2))
        zero = gained.scales[name].zero_point
        error = (ours - zero)[..., sizes] / g.max() - (theirs - zero)[..., sizes]
        assert np.abs(error).max() <= 0.5 * (1 + 1 / g.max()) + 1e-6 and np.abs(ours[..., sizes] - zero).max() > 60


def test_sizes_are_nearer_to_the_float_ones(models):
    """By as much as the step is finer, up to what int8 loses before the last layer."""
    model, gained, plain, pictures = models
    own = {name: [row.own for row in report(model, m, pictures) if row.name in model.graph.outputs]
           for name, m in (("gained", gained), ("plain", plain))}  # fmt: skip
    run, errors = session(model), {}
    for kind, m in (("gained", gained), ("plain", plain)):
        gaps = []
        for picture in pictures:
            floats, found = run.run(None, {"image": to_input(picture)}), integers(m, picture)
            for name, f in zip(model.graph.outputs, floats, strict=True):
                real = m.scales[name].dequantize(found[name]) / m.gains.get(name, 1.0)
                gaps.append(np.abs(real.transpose(2, 0, 1) - f[0])[list(yolo(2, 14)[0])].mean())
        errors[kind] = np.mean(gaps)
    assert errors["gained"] < 0.6 * errors["plain"]
    assert all(g >= p for g, p in zip(own["gained"], own["plain"], strict=True))  # in real values, not in gained ones


@pytest.mark.parametrize("boxes", [False, True])
def test_a_file_keeps_them_and_gives_real_values(models, boxes, tmp_path):
    """onnxruntime's maps are the float network's, its boxes the compiled C's; the file is read back as it was."""
    model, gained, _, pictures = models
    path = save_onnx(gained, tmp_path / "m.onnx", boxes=boxes)
    again = load_onnx(path)
    assert again.gains == gained.gains and again.graph == gained.graph and again.meta == gained.meta
    assert save_onnx(again, tmp_path / "again.onnx", boxes=boxes).read_bytes() == path.read_bytes()
    found = run(path, to_input(pictures[0]))
    if not boxes:
        for name, y in zip(model.graph.outputs, found, strict=True):
            real = gained.scales[name].dequantize(integers(again, pictures[0])[name]) / gained.gains[name]
            step = gained.scales[name].scale / np.array(gained.gains[name])
            assert (np.abs(y[0].transpose(1, 2, 0) - real) < 2.1 * step).all()  # a sum on a tie, and what follows it
    else:
        corners, scores, labels = compiled(again)(pictures[0])
        assert len(scores) > 3 and sorted(found[2]) == sorted(labels)
        assert (nearest(found[0], corners) < 0.1).mean() > 0.9


def test_a_file_that_ends_earlier_keeps_what_is_left(models, tmp_path):
    model, gained, _, _ = models
    second = model.graph.outputs[1]
    path = save_onnx(gained, tmp_path / "m.onnx")
    assert load_onnx(path, outputs=[second]).gains == {second: gained.gains[second]}
    inner = load_onnx(path, outputs=["yolo0_pw"])
    assert inner.gains == {} and inner.graph.outputs == ("yolo0_pw",)


@pytest.mark.parametrize("values, message", [
    ([0.0] * 14, "no positive numbers"), ([float("nan")] * 14, "no positive numbers"), ([2.0], "another number"),
])  # fmt: skip
def test_a_damaged_file_is_refused(models, values, message, tmp_path):
    proto = to_onnx(models[1])
    at = next(c for c in proto.graph.initializer if c.name.endswith(".gain_values"))
    at.CopyFrom(onnx.numpy_helper.from_array(np.array(values, np.float32).reshape(1, -1, 1, 1), at.name))
    onnx.save(proto, tmp_path / "bad.onnx")
    with pytest.raises(GraphError, match=message):
        load_onnx(tmp_path / "bad.onnx")


def test_the_header_says_real_values(models, tmp_path):
    _, gained, plain, pictures = models
    for model in (gained, plain):
        folder = write_sources(plan(model.graph), model, tmp_path / str(id(model)))
        q = integers(model, pictures[0])
        for said, name in zip(output_maps(folder), model.graph.outputs, strict=True):
            real = model.scales[name].dequantize(q[name]) / model.gains.get(name, 1.0)
            assert said.name == name and np.allclose(said.real(q[name].ravel()), real, rtol=1e-5)
    header = folder.parent / str(id(gained)) / "mcu_model.h"
    text = header.read_text()
    for damaged in (text.replace(" in channels 2 3", " in channels 2 99"), text.replace(", / ", ", / -")):
        assert damaged != text
        header.write_text(damaged)
        with pytest.raises(UserError, match="does not say the outputs' scales"):
            output_maps(header.parent)


def test_faces_have_them(tmp_path):
    int8, picture = face_model(64, 96, 2, 0.02, bias=-2.0)
    weights = {
        op.name: ((w := int8.weights[op.name]).weight * w.scale[:, None, None, None],
                  w.bias * (int8.scales[op.inputs[0]].scale * w.scale))
        for op in int8.graph.ops
    }  # fmt: skip
    for name in int8.graph.outputs[1::2]:
        weights[name][0][2:] *= 0.1
        weights[name][1][2:] *= 0.1
    pairs = {name: tuple(v.astype(np.float32) for v in pair) for name, pair in weights.items()}
    model = Model(int8.graph, pairs, int8.meta)
    gained = calibrated(model, [picture])
    assert set(gained.gains) == set(model.graph.outputs[1::2])
    assert all(g[0] == g[1] < 2 and 3 < g[2] == g[3] for g in gained.gains.values())
    maps = [integers(gained, picture)[name] for name in model.graph.outputs]
    corners, scores, _ = compiled(gained)(picture)
    assert len(scores) > 3 and len(detector_params(gained).decode(maps)) == len(scores)
    path = save_onnx(gained, tmp_path / "m.onnx", boxes=True)
    boxes, *_ = run(path, to_input(picture))
    assert (nearest(corners, boxes) < 0.1).mean() > 0.9


def test_only_boxes_that_count_set_the_gains(models):
    """Cells with an object of 5 % or more; the largest number of all cells is another."""
    model, gained, _, pictures = models
    run = session(model)
    for i, name in enumerate(model.graph.outputs):
        cells = np.concatenate([run.run(None, {"image": to_input(p)})[i][0].reshape(2, 7, -1) for p in pictures], 2)
        sizes, sure = cells[:, 2:4], 1 / (1 + np.exp(-cells[:, 4])) >= 0.05
        values = sizes.transpose(0, 2, 1)[sure]
        assert np.abs(sizes).max() > 1.05 * np.abs(values).max() and 20 < sure.sum() < sure.size / 2
        whole = gained.scales[name].span
        assert max(gained.gains[name]) == pytest.approx(gain(whole, (values.min(), values.max())), rel=0.02)
        assert post_training.spans(gained, model, pictures)[name][0] == pytest.approx(
            (min(0, values.min()), max(0, values.max()))
        )


def test_boxes_that_count_keep_their_means(models, monkeypatch):
    """int8 shifts the numbers of boxes; the biases take that back, the weights and the logits' biases stay. Weights
    that are rounded one by one leave a shift that is large enough to measure."""
    model, _, _, pictures = models
    fair, run = calibrated(model, pictures, compensate=False), session(model)
    monkeypatch.setattr(post_training, "centred", lambda quantized, *given: quantized)
    gained = calibrated(model, pictures, compensate=False)
    for i, name in enumerate(model.graph.outputs):
        shifts = []
        for int8 in (gained, fair):
            errors, other = [], session(int8)
            for picture in pictures:
                f, q = (r.run(None, {"image": to_input(picture)})[i][0].reshape(2, 7, -1) for r in (run, other))
                errors.append(np.where((f[:, 4] >= np.log(0.05 / 0.95))[:, None], q - f, np.nan))
            shifts.append(np.abs(np.nanmean(np.concatenate(errors, 2), 2)))
        for numbers in (slice(0, 2), slice(2, 4)):  # offsets; sizes, which are stored larger
            before, after = (shift[:, numbers] for shift in shifts)
            assert after.max() < 0.4 * before.max() and after.mean() < 0.3 * before.mean()
        ours, theirs = fair.weights[name], gained.weights[name]
        assert np.array_equal(ours.weight, theirs.weight) and np.array_equal(ours.scale, theirs.scale)
        changed = (ours.bias != theirs.bias).reshape(2, 7)
        assert changed[:, :4].sum() >= 6 and not changed[:, 4:].any()


def test_yolox_has_them():
    spec, rng = ArchSpec("small", 64, 8, BLOCKS), np.random.default_rng(0)
    torch.manual_seed(1)
    net = Net(build_graph(spec, YoloxHead(2, (0, 1), 16, 8, 1))).eval()
    pictures = [rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(3)]
    meta = {"type": "yolox", "classes": ["a", "b"], "strides": [4, 8], "score_thr": 0.05, "nms_iou": 0.45,
            "max_per_img": 100}  # fmt: skip
    x = torch.from_numpy(np.concatenate([to_input(p) for p in pictures]))
    with torch.no_grad():
        for name, y in zip(net.graph.outputs, net(x), strict=True):
            conv, spread = net.layers[name].conv, 3.0 if name.endswith("obj") else 1.0
            factor = spread / y.std(dim=(0, 2, 3))
            conv.weight.mul_(factor[:, None, None, None])
            conv.bias.copy_((conv.bias - y.mean((0, 2, 3))) * factor - (4.0 if name.endswith("obj") else 0.0))
    model = Model(net.graph.folded(), net.folded_weights(), {"detector": meta})
    gained = calibrated(model, pictures)
    run, seen = session(model), post_training.spans(gained, model, pictures)
    assert set(seen) == {"yolox0_box", "yolox1_box"}
    for i, name in enumerate(("yolox0_box", "yolox1_box")):
        values = []
        for picture in pictures:
            maps = run.run(None, {"image": to_input(picture)})
            values.append(maps[3 * i + 1][0][:, maps[3 * i + 2][0, 0] >= np.log(0.05 / 0.95)])
        values = np.concatenate(values, 1)
        for (low, high), own in zip(seen[name], np.split(values, 2), strict=True):
            assert (low, high) == pytest.approx((min(own.min(), 0), max(own.max(), 0)))


def trained(groups):
    """(net, graph, meta) after a few steps of quantisation-aware training on the pictures."""
    model, pictures = float_yolo()
    torch.manual_seed(0)
    net = Net(build_graph(ArchSpec("small", 64, 8, BLOCKS), YoloHead(2, (0, 1), 16, 2))).train()
    fake_quantize(net, outputs=(-6, 6), groups=groups)
    x = torch.from_numpy(np.concatenate([to_input(p) for p in pictures]))
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    sizes = list(yolo(2, 14)[0])
    for step in range(OBSERVE + 5):
        if step == OBSERVE + 3:
            freeze(net)
        loss = sum(((y - 1).square().mean() + 20 * y[:, sizes].square().mean()) for y in net(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval(), model, x, pictures


def test_training_simulates_what_is_deployed():
    """Weights' integers, scales and gains are those of the training; its maps lie on the grid of the gained ones."""
    outputs = ("yolo0_pred", "yolo1_pred")
    net, model, x, pictures = trained(dict.fromkeys(outputs, yolo(2, 14)))
    state = net.state_dict()
    int8 = learnt(model, learnt_weights(state), learnt_ranges(state), learnt_spans(state))
    with torch.no_grad():
        maps = net(x)
    for name, y in zip(outputs, maps, strict=True):
        gains, scale = net.quant.gains(name).tolist(), Scale.of_range(*learnt_ranges(state)[name])
        assert gains == int8.gains[name] and max(gains) > 1.5 and int8.scales[name] == scale
        steps = y.numpy() * np.array(gains)[:, None, None] / scale.scale
        assert np.abs(steps - steps.round()).max() < 1e-3 and len(np.unique(steps[:, 2].round())) > 20
    q = integers(int8, pictures[0])
    for name, y in zip(outputs, maps, strict=True):
        real = int8.scales[name].dequantize(q[name]) / int8.gains[name]
        step = int8.scales[name].scale / np.array(int8.gains[name])
        apart = np.abs(y[0].permute(1, 2, 0).numpy() - real) / step
        assert (apart < 0.5).mean() > 0.95
    with pytest.raises(UserError, match="0 groups of channels of 'yolo0_pred': it is of another network"):
        learnt(model, learnt_weights(state), learnt_ranges(state), {"yolo0_pred": []})


def test_checkpoints_without_groups_are_deployed_as_before():
    """They have no gains. A training that goes on from one of them with groups learns their spans at once."""
    net, model, x, _ = trained(None)
    state = net.state_dict()
    assert learnt_spans(state) == {}
    int8 = learnt(model, learnt_weights(state), learnt_ranges(state), learnt_spans(state))
    assert int8.gains == {} and detector_params(int8)
    later = Net(net.graph).train()
    fake_quantize(later, outputs=(-6, 6), groups=dict.fromkeys(net.graph.outputs, yolo(2, 14)))
    later.load_state_dict(state, strict=False)
    assert later.quant.gains("yolo0_pred").tolist() == [1.0] * 14
    later.quant.frozen.fill_(False)
    later(x)
    ((low, high),) = learnt_spans(later.state_dict())["yolo0_pred"]
    assert low < 0 < high


def test_a_description_that_does_not_fit_is_said_before_anything_is_made(models):
    model, _, _, pictures = models
    wrong = replace(model, meta={"detector": {**model.meta["detector"], "classes": ["a"]}})
    with pytest.raises(UserError, match=r"has 14 channels, anchors \* \(5 \+ classes\) are 12"):
        calibrated(wrong, pictures[:1])
    assert json.dumps(model.meta)
