"""The functions that a network for the DSP extension calls: those of least code that have what its layers need."""

from dataclasses import replace

import numpy as np
import pytest
from nets import random_model

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower.program import laid_out, lower
from nni_mcunet.engine.ops import conv
from nni_mcunet.engine.ops.conv import ConvIntegers
from nni_mcunet.engine.run.elf import symbols
from nni_mcunet.engine.run.firmware import build_firmware


def integers(k=1, cin=1, left=0, right=9, weight=3, **fields):
    channels = dict(bias=np.zeros(8, np.int32), mult=np.full(8, 2**30), left=np.full(8, left), right=np.full(8, right))
    weights = np.full((8, cin, k, k), weight, np.int8)
    return ConvIntegers(weights, **channels, zp_in=0, zp_out=0, lo=-128, hi=127, **fields)


@pytest.mark.parametrize(
    "k, s, changed, form",
    [
        (3, 1, {}, "_fast"),
        (7, 2, {"left": 8}, "_fast"),
        (5, 1, {"left": 9}, ""),
        (9, 1, {}, ""),
        (1, 1, {}, ""),
        (3, 3, {}, ""),
        (3, 1, {"twice": True, "left": 1}, "_fast"),
        (3, 1, {"twice": True, "left": 8, "right": 21}, "_fast"),
        (3, 1, {"twice": True, "left": 0}, ""),
        (3, 1, {"twice": True, "left": 9}, ""),
        (3, 1, {"twice": True, "left": 1, "right": 0}, ""),
        (3, 1, {"twice": True, "left": 1, "right": 22}, ""),
    ],
)
def test_depthwise(k, s, changed, form):
    op = Op("y", "conv", ("x",), 8, (k, k), (s, s), groups=8)
    graph = Graph("g", (Tensor("x", 30, 30, 8),), (op,), ("y",))
    assert conv.form(graph, op, integers(k, **changed), "raw", (9, 9)) == form
    uneven = replace(op, k=(k, 5 if k != 5 else 3))
    assert conv.form(graph, uneven, integers(k, **changed), "raw", (9, 9)) == ""


def test_cores_of_another_order_have_none_of_these():
    op = Op("y", "conv", ("x",), 8, (3, 3), groups=8)
    graph = Graph("g", (Tensor("x", 9, 9, 8),), (op,), ("y",))
    assert conv.form(graph, op, integers(3), "rows", (9, 9)) == ""
    assert laid_out(lower(plan(graph), random_model(np.random.default_rng(0), graph)), "").forms == {}


def test_depthwise_with_a_residual():
    op = Op("y", "conv", ("x",), 8, (3, 3), pad=(1, 1, 1, 1), groups=8, residual="x")
    graph = Graph("g", (Tensor("x", 9, 9, 8),), (op,), ("y",))
    assert conv.form(graph, op, integers(3), "raw", (9, 9)) == ""


@pytest.mark.parametrize("most, form", [((1, 1), "_one"), ((1, 2), ""), ((2, 1), "")])
def test_pointwise(most, form):
    """Two channels by one multiplication come first; one position has no need of the code for four."""
    op = Op("y", "conv", ("x",), 8)
    graph = Graph("g", (Tensor("x", 1, 2, 600),), (op,), ("y",))
    p = integers(cin=600, weight=127)
    assert not conv.raw(graph, op, p).lie and conv.form(graph, op, p, "raw", most) == form
    assert conv.form(graph, op, conv.raw(graph, op, replace(p, weight=p.weight // 2)), "raw", most) == "_raw"
    assert conv.form(graph, op, replace(p, twice=True), "raw", most) == ""


def test_what_a_network_never_calls_is_not_linked(tmp_path):
    image = Tensor("image", 12, 12, 8)
    ops = Op("dw", "conv", ("image",), 8, (3, 3), groups=8), Op("pw", "conv", ("dw",), 8), Op("end", "gap", ("pw",), 8)
    graph = Graph("g", (image,), ops, ("end",)).verify()
    model = random_model(np.random.default_rng(0), graph)
    assert laid_out(lower(plan(graph), model), "raw").forms == {"dw": "_fast", "pw": "_raw"}
    write_library(tmp_path, plan(graph), model, get_board("f412"))
    found = symbols(build_firmware(tmp_path, get_board("f412"), np.zeros((12, 12, 8), np.uint8)))
    assert {"mcu_conv_dw_fast", "mcu_conv_pw_raw"} <= found.keys()
    assert not {"mcu_conv_dw", "mcu_dw_is_fast", "mcu_conv_pw", "mcu_conv_dense", "mcu_conv_group"} & found.keys()
