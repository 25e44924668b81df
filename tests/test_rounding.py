"""Weights rounded together: the sums come nearer to the float network's, and nothing but weights changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_ptq import mobile_net, pictures_of, run_all

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.model import Model, QuantModel, quantize
from nni_mcunet.engine.quant import rounding
from nni_mcunet.engine.quant.ort_session import ranges, session, to_input
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.rounding import compensated, covariances, rounded, windows


def correlated(rng, groups, size):
    """Inputs (groups, size, n) that are alike, as neighbouring pixels are."""
    return rng.normal(0, 1, (groups, 1, 999)) + 0.3 * rng.normal(0, 1, (groups, size, 999))


@pytest.mark.parametrize("groups, outputs, size", [(1, 8, 24), (6, 1, 9), (3, 4, 5)])
def test_the_sums_err_less(groups, outputs, size):
    rng = np.random.default_rng(0)
    inputs, exact = correlated(rng, groups, size), rng.normal(0, 1, (groups, outputs, size))
    steps = np.abs(exact).max(2) / 127
    covariance = inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2]
    found = rounded(exact, steps, covariance)
    nearest = np.round(exact / steps[:, :, None])

    def error(integers):
        return (((integers * steps[:, :, None] - exact) @ inputs) ** 2).mean()

    assert found.dtype == np.int8 and np.abs(found).max() <= 127
    assert error(found) < 0.6 * error(nearest)


def test_inputs_that_have_nothing_in_common_leave_each_weight_at_its_nearest():
    exact = np.random.default_rng(1).normal(0, 1, (2, 3, 7))
    steps = np.abs(exact).max(2) / 127
    diagonal = np.stack([np.diag([1.0, 2, 3, 4, 5, 6, 7]), np.zeros((7, 7))])  # nor does an input that is always zero
    assert np.array_equal(rounded(exact, steps, diagonal), np.round(exact / steps[:, :, None]))


def test_zeros_stay_zeros_and_their_errors_go_on():
    rng = np.random.default_rng(3)
    inputs, exact = correlated(rng, 1, 24), rng.normal(0, 1, (1, 8, 24)) * (rng.random((1, 8, 24)) < 0.5)
    steps, covariance = np.abs(exact).max(2) / 127, inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2]
    found, nearest = rounded(exact, steps, covariance), np.round(exact / steps[:, :, None])
    left, before = ((((q * steps[:, :, None] - exact) @ inputs) ** 2).mean() for q in (found, nearest))
    assert not found[exact == 0].any() and left < 0.8 * before


def test_the_best_of_all_roundings_of_two_weights():
    """Both inputs are the same: what counts is the sum of the weights, and the second makes up for the first."""
    found = rounded(np.array([[[10.4, 20.4]]]), np.ones((1, 1)), np.array([[[1.0, 0.999], [0.999, 1.0]]]))
    assert found.ravel().tolist() == [10, 21]


@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (0, 2, 1, 0), (-1, 1, 1, -2), (0, 0, 0, 0)])
@pytest.mark.parametrize("groups, k, s", [(1, (3, 3), (2, 2)), (4, (3, 2), (1, 2)), (2, (1, 1), (1, 1))])
def test_windows_are_what_torch_s_convolution_reads(pad, groups, k, s):
    rng = np.random.default_rng(2)
    x, weight = rng.normal(0, 1, (4, 11, 12)).astype(np.float32), rng.normal(0, 1, (8, 4 // groups, *k))
    padded = torch.nn.functional.pad(torch.from_numpy(x)[None].double(), (pad[1], pad[3], pad[0], pad[2]))
    theirs = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), stride=s, groups=groups)[0].numpy()
    op = Op("c", "conv", ("image",), 8, k, s, pad, groups=groups)
    at = rng.permutation(theirs[0].size)[:20]
    rows, columns = at // theirs.shape[2], at % theirs.shape[2]
    sums = weight.reshape(groups, 8 // groups, -1) @ windows(op, x, rows, columns)
    assert np.allclose(sums.reshape(8, -1), theirs[:, rows, columns], atol=1e-6)


def int8_and_float(act="relu6"):
    pictures, model = pictures_of(5, 12), mobile_net(act)
    return model, quantize(model, ranges(model, pictures)), pictures


def test_covariances_are_those_of_every_position(monkeypatch):
    monkeypatch.setattr(rounding, "POSITIONS", 10**6)
    model, _, pictures = int8_and_float()
    found = covariances(model, pictures)
    run, image = session(model, every_tensor=True), model.graph.inputs[0].name
    names = [v.name for v in run.get_outputs()]
    values = [run.run(["dw"], {image: to_input(p)})[0][0].reshape(16, -1) for p in pictures]
    assert "dw" in names and found["proj"].shape == (1, 16, 16) and found["dw"].shape == (16, 9, 9)
    assert np.allclose(found["proj"][0], np.cov(np.concatenate(values, 1), bias=True), rtol=1e-4, atol=1e-6)


def test_only_weights_change_and_the_same_each_time():
    model, plain, pictures = int8_and_float()
    once, again = compensated(plain, model, pictures), compensated(plain, model, pictures)
    same = {n: replace(w, weight=plain.weights[n].weight) for n, w in once.weights.items()}
    for name, own in plain.weights.items():
        assert np.array_equal(once.weights[name].weight, again.weights[name].weight)
        assert np.array_equal(same[name].bias, own.bias) and np.array_equal(same[name].scale, own.scale)
        assert np.abs(once.weights[name].weight.astype(int) - own.weight).max() <= 8
    assert (once.scales, once.graph, once.meta) == (plain.scales, plain.graph, plain.meta)
    assert any(not np.array_equal(once.weights[n].weight, w.weight) for n, w in plain.weights.items())


def of_weights(model: QuantModel) -> Model:
    """The float network that has an int8 one's weights."""
    weights = {}
    for op in model.graph.ops:
        own = model.weights[op.name]
        bias = own.bias * own.scale.astype(float) * model.scales[op.inputs[0]].scale
        weights[op.name] = (own.weight * own.scale[:, None, None, None]).astype(np.float32), bias.astype(np.float32)
    return Model(model.graph, weights)


def test_new_pictures_gain_as_well():
    """At most two thirds of the weights' error are left on pictures that nothing was calibrated on."""
    pictures, others = pictures_of(6, 32), pictures_of(60, 8)
    errors = {False: 0.0, True: 0.0}
    for seed in range(4):
        model = mobile_net("relu", seed)
        for on in errors:
            found = run_all(of_weights(calibrated(model, pictures, equalize=False, compensate=on)), others)
            errors[on] += ((found - run_all(model, others)) ** 2).mean()
    assert errors[True] < 0.67 * errors[False]


def test_a_sum_of_too_many_inputs_is_rounded_one_by_one(monkeypatch):
    model, plain, pictures = int8_and_float()
    monkeypatch.setattr(rounding, "MOST", 16)  # the stem has 27 inputs, "dw" 9
    found = compensated(plain, model, pictures)
    assert np.array_equal(found.weights["stem"].weight, plain.weights["stem"].weight)
    assert not np.array_equal(found.weights["dw"].weight, plain.weights["dw"].weight)


def test_one_picture_and_a_dense_layer():
    ops = (Op("c", "conv", ("image",), 5, (4, 4)),)
    graph = Graph("dense", (Tensor("image", 4, 4, 3),), ops, ("c",)).verify()
    rng = np.random.default_rng(7)
    weights = {"c": (rng.normal(0, 1, (5, 3, 4, 4)).astype(np.float32), np.zeros(5, np.float32))}
    model, pictures = Model(graph, weights), [rng.integers(0, 256, (4, 4, 3), np.uint8)]
    plain = quantize(model, ranges(model, pictures))
    found = compensated(plain, model, pictures)  # a single position has no covariance
    assert np.array_equal(found.weights["c"].weight, plain.weights["c"].weight)
