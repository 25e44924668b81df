"""Ops that copy values to other places: what their graphs refuse, and the range of what is moved."""

import numpy as np
import pytest

from nni_mcunet.core.errors import GraphError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.kernel_facts import is_run
from nni_mcunet.engine.model import Model
from nni_mcunet.engine.ops import OPERATORS
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.range_methods import percentile

IMAGE = Tensor("image", 8, 6, 4)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"kind": "take", "cout": 2, "channels": (0, 4)}, "take: expected 2 channels of -1..3"),
        ({"kind": "take", "cout": 2, "channels": (0,)}, "take: expected 2 channels of -1..3"),
        ({"kind": "take", "cout": 1, "channels": (0,), "pad": (0, 1, 0, 0)}, "take with the pads"),
        ({"kind": "depth_to_space", "cout": 4, "s": (2, 2)}, "expected 16 channels, not 4"),
        ({"kind": "depth_to_space", "cout": 1, "s": (2, 2), "pad": (-1, 0, 0, 0)}, "depth_to_space with the pads"),
        ({"kind": "space_to_depth", "cout": 48, "k": (3, 4), "s": (3, 4)}, "8x6x4 is not 12 parts"),
        ({"kind": "space_to_depth", "cout": 16, "s": (2, 2)}, "8x6x4 is not 4 parts"),
        ({"kind": "maxpool", "cout": 4, "channels": (0, 1, 2, 3)}, "maxpool takes no channels by number"),
        ({"kind": "upsample", "cout": 4, "s": (2, 2), "pad": (0, 0, -1, 0)}, "upsample with the pads"),
    ],
)
def test_what_no_move_is(fields, words):
    with pytest.raises(GraphError, match=words):
        Graph("g", (IMAGE,), (Op("y", inputs=("image",), **fields),), ("y",)).verify()


def test_runs_of_channels():
    """These need no table."""
    assert [is_run(c) for c in ((2, 3, 4), (0,), (-1, 0, 1), (1, 0), (0, 2), (-1,))] == [True, True] + 4 * [False]


def test_bounds_of_what_is_spread():
    """A channel of a depth_to_space is one of several parts."""
    op = Op("y", "depth_to_space", ("image",), 2, s=(1, 2))
    low, high = np.array([-5, 3, 2, -7]), np.array([1, 4, 9, 5])
    graph = Graph("g", (IMAGE,), (op,), ("y",)).verify()
    found = OPERATORS["depth_to_space"].interval(graph, op, None, [(low, high)])
    assert [ends.tolist() for ends in found] == [[-5, -7], [9, 5]]


def test_the_range_of_an_answer_behind_a_move():
    """An answer keeps all of its range, also where the last op only moves it."""
    rng = np.random.default_rng(0)
    conv = Op("c", "conv", ("image",), 16)
    weights = {"c": (rng.normal(size=(16, 4, 1, 1)).astype(np.float32), np.zeros(16, np.float32))}
    turned = Op("y", "depth_to_space", ("c",), 4, s=(2, 2))
    pictures = rng.integers(0, 256, (3, 8, 6, 4)).astype(np.uint8)
    graphs = [Graph("g", (IMAGE,), ops, (ops[-1].name,)).verify() for ops in ((conv,), (conv, turned))]
    found = [calibrated(Model(graph, weights), pictures, lambda s: percentile(s, 90)) for graph in graphs]
    assert found[0].scales["c"] == found[1].scales["c"] == found[1].scales["y"]
