"""Post-training quantisation: equalisation exact in float, biases and SQNR against numpy, the commands, and the
published classifier's score in int8. The calibrators' tests are test_calibrators.py."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import ROOT

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.model import Model, Scale, quantize
from nni_mcunet.engine.quant.bias_correction import bias_corrected
from nni_mcunet.engine.quant.equalize import equalization, equalized, equalized_like, pairs
from nni_mcunet.engine.quant.ort_session import ranges, session, statistics, to_input
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.range_methods import entropy, mse, percentile
from nni_mcunet.engine.quant.sqnr import db, report, worst
from nni_mcunet.engine.quant.summary import entries
from nni_mcunet.engine.run.pictures import list_pictures, load_picture


def pictures_of(seed, count, size=24):
    """Smooth pictures, uint8 (size, size, 3), so that channels have means."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.05, 0.4, (count, 3, 2))
    grid = np.arange(size)
    return [np.stack([127 + 120 * np.sin(wy * grid[:, None] + wx * grid) for wy, wx in w], -1).astype(np.uint8)
            for w in waves]  # fmt: skip


def mobile_net(act, seed=0, spread=0.0, mid=16):
    """stem, expansion, depth-wise, projection with a residual, and a last convolution; `spread` unbalances the
    expansion's channels by exp(normal(0, spread)) without a change of the function it would be with a ReLU."""
    rng = np.random.default_rng(seed)
    same = dict(k=(3, 3), pad=(1, 1, 1, 1))
    ops = (
        Op("stem", "conv", ("image",), 8, (3, 3), (2, 2), (1, 1, 1, 1), act=act),
        Op("exp", "conv", ("stem",), mid, act=act, block=1),
        Op("dw", "conv", ("exp",), mid, groups=mid, act=act, block=1, **same),
        Op("proj", "conv", ("dw",), 8, residual="stem", block=1),
        Op("grouped", "conv", ("proj",), 8, groups=2, act=act, block=2, **same),
        Op("last", "conv", ("grouped",), 4, groups=2, block=3),
    )
    graph = Graph("mobile", (Tensor("image", 24, 24, 3),), ops, ("last",)).verify()
    weights = {}
    for op in ops:
        fan = op.k[0] * op.k[1] * graph.input_of(op).c // op.groups
        weight = rng.normal(0.05, 1.5 / np.sqrt(fan), (op.cout, graph.input_of(op).c // op.groups, *op.k))
        weights[op.name] = [weight, rng.normal(0, 0.2, op.cout)]
    factor = np.exp(rng.normal(0, spread, mid))
    weights["exp"] = [weights["exp"][0] * factor[:, None, None, None], weights["exp"][1] * factor]
    weights["dw"][0] /= factor[:, None, None, None]
    return Model(graph, {n: tuple(v.astype(np.float32) for v in pair) for n, pair in weights.items()})


def run_all(model, pictures):
    run, name = session(model), model.graph.inputs[0].name
    return np.stack([run.run(None, {name: to_input(p)})[0] for p in pictures])


@pytest.mark.parametrize("act", [None, "relu", "relu6"])
def test_equalisation_keeps_the_function(act):
    """Everywhere for a ReLU or none; with ReLU6 on the calibrated pictures."""
    pictures = pictures_of(0, 6)
    model = mobile_net(act, spread=1.0)
    chosen = equalization(model, statistics(model, pictures))
    assert {"exp", "dw"} <= set(chosen) and "stem" not in chosen and "proj" not in chosen and "last" not in chosen
    for at in (pictures, pictures_of(9, 4) if act != "relu6" else pictures[:1]):
        floats = run_all(model, at)
        assert np.abs(run_all(equalized(model, chosen), at) - floats).max() <= 1e-5 * np.abs(floats).max()


def test_equalisation_leaves_what_others_read():
    model = mobile_net("relu")
    assert [(a.name, b.name) for a, b in pairs(model.graph)] == [("exp", "dw"), ("dw", "proj"), ("grouped", "last")]
    shown = replace(model.graph, outputs=("last", "dw"))
    assert ("dw", "proj") not in [(a.name, b.name) for a, b in pairs(shown)]


def test_a_channel_at_the_clamp_is_not_scaled_and_none_beyond_it():
    pictures, model = pictures_of(1, 6), mobile_net("relu6", spread=1.0)
    weight, bias = model.weights["exp"]
    bias = bias + np.where(np.arange(len(bias)) == 3, 8, 0).astype(np.float32)
    model = replace(model, weights={**model.weights, "exp": (weight, bias)})
    found = statistics(model, pictures)
    chosen = equalization(model, found)
    assert found["exp"].highest[3] == 6 and chosen["exp"][3] == 1
    assert (np.array(chosen["exp"]) * found["exp"].highest <= 6 * (1 + 1e-6)).all() and max(chosen["exp"]) > 1


@pytest.mark.parametrize("act", ["relu", "relu6"])
def test_equalisation_raises_the_sqnr_of_an_unbalanced_net(act):
    pictures, model = pictures_of(2, 8), mobile_net(act, spread=1.5)
    last = [report(model, calibrated(model, pictures, equalize=on), pictures)[-1].total for on in (False, True)]
    assert last[1] > last[0] + 2


def test_bias_correction_takes_the_mean_error_back():
    """Of 1x1 convolutions, without padding, nearly all of it: a weight of one bit is rounded coarsely enough to see."""
    rng, pictures = np.random.default_rng(3), pictures_of(3, 8)
    graph = Graph("one", (Tensor("image", 24, 24, 3),), (Op("c", "conv", ("image",), 16),), ("c",)).verify()
    weight = rng.normal(0, 0.01, (16, 3, 1, 1))
    weight[:, 0] = 1.0
    model = Model(graph, {"c": (weight.astype(np.float32), np.zeros(16, np.float32))})
    found = statistics(model, pictures)
    plain = quantize(model, ranges(model, pictures))
    floats = run_all(model, pictures)
    before, after = (
        np.abs((run_all(q, pictures) - floats).mean((0, 1, 3, 4))) for q in (plain, bias_corrected(plain, model, found))
    )
    assert after.mean() < 0.35 * before.mean()
    assert np.array_equal(plain.weights["c"].weight, bias_corrected(plain, model, found).weights["c"].weight)


def test_report_is_numpy_s():
    pictures, model = pictures_of(4, 3), mobile_net("relu6")
    int8 = calibrated(model, pictures)
    rows = report(model, int8, pictures)
    assert [r.name for r in rows] == [op.name for op in model.graph.ops]
    f, q = run_all(model, pictures).astype(np.float64), run_all(int8, pictures)
    assert np.isclose(rows[-1].total, 10 * np.log10((f**2).sum() / ((f - q) ** 2).sum()))
    assert rows[0].own == pytest.approx(rows[0].total) and rows[-1].own > rows[-1].total + 1
    assert worst(rows, 2)[0].own == min(r.own for r in rows) and db(1, 0) == np.inf
    # By itself: only the last layer, on the float network's tensor, rounded to int8 as it comes in.
    source = equalized_like(int8, model)
    run = session(source, every_tensor=True)
    op, signal, noise = model.graph.op("last"), 0, 0
    w = int8.weights["last"]
    for picture in pictures:
        x, y = run.run(["grouped", "last"], {"image": to_input(picture)})
        x = int8.scales["grouped"].dequantize(int8.scales["grouped"].quantize(x)).reshape(2, 4, 12, 12)
        real = (w.weight * w.scale[:, None, None, None]).reshape(2, 2, 4)
        sums = np.einsum("goc,gchw->gohw", real, x).reshape(1, 4, 12, 12)
        sums += (w.bias * w.scale * int8.scales["grouped"].scale)[:, None, None]
        z = int8.scales["last"].dequantize(int8.scales["last"].quantize(sums))
        signal, noise = signal + (y.astype(np.float64) ** 2).sum(), noise + ((y - z).astype(np.float64) ** 2).sum()
    assert op.groups == 2 and rows[-1].own == pytest.approx(db(signal, noise), abs=0.05)
    with pytest.raises(UserError, match="made from"):
        report(mobile_net("relu6", mid=8), int8, pictures)
    with pytest.raises(UserError, match="no picture"):
        report(model, int8, [])


def test_report_on_any_names():
    """A layer may be called as another's reading might be."""
    model, pictures = mobile_net("relu"), pictures_of(4, 2)
    named = rename(model, {"exp": "stem_read", "dw": "stem_dq"})
    rows = [[(r.total, r.own) for r in report(m, calibrated(m, pictures), pictures)] for m in (model, named)]
    assert rows[0] == rows[1]


def rename(model, names):
    """The model with other names of some ops."""

    def new(name):
        return names.get(name, name)

    ops = tuple(
        replace(op, name=new(op.name), inputs=tuple(map(new, op.inputs)), residual=new(op.residual))
        for op in model.graph.ops
    )
    return replace(
        model, graph=replace(model.graph, ops=ops), weights={new(name): w for name, w in model.weights.items()}
    )


def test_the_same_pictures_give_the_same_integers():
    pictures, model = pictures_of(5, 40), mobile_net("relu6", spread=0.5)  # more than weights are rounded on
    for method in (mse, entropy, partial(percentile, percent=99.9)):
        one, two = (calibrated(model, order, method) for order in (pictures, pictures[::-1]))
        assert one.scales == two.scales
        assert all(np.array_equal(one.weights[n].weight, two.weights[n].weight) for n in one.weights)
    with pytest.raises(UserError, match="no picture"):
        calibrated(model, [])


def test_answers_are_not_clipped():
    """All that was seen of an output and of what its sigmoid reads, as far as that one is not sure; only a map's
    outputs, or a quarter more of a classifier's."""
    pictures, model = pictures_of(6, 6), mobile_net("relu")
    rare = partial(percentile, percent=80)

    def seen(model):
        return ranges(equalized(model, equalization(model, statistics(model, pictures))), pictures)

    int8, ends = calibrated(model, pictures, rare), seen(model)
    assert int8.scales["last"] == Scale.of_range(*ends["last"])
    assert int8.scales["grouped"].scale < Scale.of_range(*ends["grouped"]).scale

    def ending(*ops):
        graph = replace(model.graph, ops=model.graph.ops + ops, outputs=(ops[-1].name,)).verify()
        return replace(model, graph=graph)

    channels = model.graph.tensors["last"].c
    sure = ending(Op("sure", "act", ("last",), channels, act="sigmoid"))
    ends = seen(sure)
    low, high = ends["last"]
    assert calibrated(sure, pictures, rare).scales["last"] == Scale.of_range(max(low, -8), min(high, 8))
    classes = ending(Op("mean", "gap", ("last",), channels))
    ends = seen(classes)
    assert calibrated(classes, pictures, rare).scales["mean"] == Scale.of_range(*(1.25 * end for end in ends["mean"]))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A float model and eight pictures on disk, and what quantize.py makes of them with its report."""
    import cv2

    folder = tmp_path_factory.mktemp("ptq")
    save_onnx(mobile_net("relu6", spread=1.0), folder / "m.onnx")
    (folder / "pictures").mkdir()
    for i, picture in enumerate(pictures_of(7, 8)):
        cv2.imwrite(str(folder / f"pictures/{i}.png"), picture)
    done = tool("quantize", folder / "m.onnx", "--calib", folder / "pictures", "--method", "mse", "--worst", 3,
                "--report", folder / "sqnr.json", "-o", folder / "m.int8.onnx")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def tool(name, *arguments):
    command = [sys.executable, f"tools/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_quantize_names_the_worst_layers(files):
    folder, text = files
    rows = json.loads((folder / "sqnr.json").read_text())
    assert [r["name"] for r in rows] == ["stem", "exp", "dw", "proj", "grouped", "last"]
    least = min(rows, key=lambda r: r["own"])
    assert text.splitlines()[1].startswith("a byte of a picture is byte / 255 to the network")
    assert len(text.splitlines()) == 7 and text.splitlines()[4].split()[0] == least["name"]


def test_channels_that_training_has_left_behind_are_no_spread_of_scales():
    model, pictures = mobile_net("relu"), pictures_of(1, 4)
    weights = model.weights | {"exp": tuple(np.concatenate([v[:1] * 1e-9, v[1:]]) for v in model.weights["exp"])}
    before, after = (
        {e.name: e.weights for e in entries(quantize(m, ranges(m, pictures)))}
        for m in (model, replace(model, weights=weights))
    )
    low, high = after["exp"]
    assert high / low < 10 and before["stem"] == after["stem"] and before["exp"][1] / high < 10


def test_inspect_shows_ranges_and_draws_a_layer(files, tmp_path):
    folder, _ = files
    pair = ["--float", folder / "m.onnx", "--calib", folder / "pictures"]
    done = tool("inspect", folder / "m.int8.onnx", *pair, "--layer", "dw", "--png", tmp_path / "dw.png")
    assert done.returncode == 0, done.stderr
    int8, rows = load_onnx(folder / "m.int8.onnx"), json.loads((folder / "sqnr.json").read_text())
    line = next(line for line in done.stdout.splitlines() if line.startswith("dw "))
    assert f" {int8.scales['dw'].zero_point} " in line and line.split()[-1] == f"{rows[2]['own']:.1f}"
    assert (tmp_path / "dw.png").read_bytes().startswith(b"\x89PNG")
    assert tool("inspect", folder / "m.int8.onnx").stdout.count("\n") == 8


@pytest.mark.parametrize("name, flags, words", [
    ("quantize", ["{f}/m.onnx", "--calib", ".ci", "-o", "x.onnx"], "no picture"),
    ("quantize", ["{f}/m.int8.onnx", "--calib", "{f}/pictures", "-o", "x.onnx"], "int8 already"),
    ("quantize", ["{f}/m.onnx", "--calib", "{f}/pictures", "--percent", "7", "-o", "x.onnx"], "50 to 100"),
    ("inspect", ["{f}/m.onnx"], "is float"),
    ("inspect", ["{f}/m.int8.onnx", "--float", "{f}/m.onnx"], "--calib"),
    ("inspect", ["{f}/m.int8.onnx", "--layer", "dwx", "--png", "x.png"], "no layer 'dwx'"),
])  # fmt: skip
def test_bad_input_is_one_line(files, name, flags, words):
    done = tool(name, *(flag.format(f=files[0]) for flag in flags))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return runpy.run_path(str(ROOT / "benchmarks/int8.py"))


def test_published_classifier_keeps_its_classes(shared, benchmark):
    """mcunet-in3 on every fourth photograph of ImageNet, calibrated on a few of another set."""
    model = benchmark["published_in3"](shared)
    others = list_pictures(shared / "data/voc2012_mini/VOCdevkit/VOC2012/JPEGImages", most=24)
    files = list_pictures(shared / "data/imagenet_sample")[::4]
    pictures, labels = [load_picture(f, (176, 176)) for f in files], np.array([int(f.name[:4]) for f in files])
    int8 = calibrated(model, [load_picture(f, (176, 176)) for f in others])
    floats, found = (benchmark["scores"](m, pictures) for m in (model, int8))
    right = [int((scores.argmax(1) == labels).sum()) for scores in (floats, found)]
    assert right[0] == 47 and right[1] >= 43  # of 63; the slow test holds the 2 points, on 250
    assert db((floats**2).sum(), ((floats - found) ** 2).sum()) > 18  # 15 without equalisation and bias correction


@pytest.mark.slow
def test_published_classifier_on_all_photographs(shared, benchmark):
    """The record of docs/results/int8.json again: int8, of onnxruntime and of the C, within 2 points of float."""
    record = benchmark["mcunet_in3"](shared)
    known = next(r for r in json.loads((ROOT / "docs/results/int8.json").read_text()) if r["model"] == "mcunet-in3")
    for name in ("float", "ptq", "c_engine"):
        assert record[name]["top1"] >= record["float"]["top1"] - 0.02
        assert abs(record[name]["right"] - known[name]["right"]) <= 1


def test_results_say_what_int8_costs(benchmark):
    """Every record has its figures and a command that makes them again; the C loses at most 2 points of top-1."""
    records = json.loads((ROOT / "docs/results/int8.json").read_text())
    assert {r["model"] for r in records} <= set(benchmark["RECORDS"])
    for record in records:
        assert {"model", "data", "float", "ptq", "qat", "c_engine", "command"} <= set(record)
        assert record["command"] == f"python benchmarks/int8.py --only {record['model']}"
    in3 = next(r for r in records if r["model"] == "mcunet-in3")
    assert all(in3[name]["top1"] >= in3["float"]["top1"] - 0.02 for name in ("ptq", "c_engine"))
