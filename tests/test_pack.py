"""Constants as the kernels read them, against plain loops; their bytes against the planner's."""

import numpy as np
import pytest

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.kernel_facts import constant_bytes
from nni_mcunet.engine.ops.requantise import MAX_RIGHT, multiplier, requant
from nni_mcunet.engine.ops.weight_packing import pack_channels, pack_weights


@pytest.mark.parametrize("groups, cout, cin, k", [(1, 6, 8, 1), (1, 5, 3, 3), (3, 3, 2, 3), (2, 8, 5, 1), (1, 1, 1, 1)])
def test_each_weight_lies_where_the_kernels_look(groups, cout, cin, k):
    """Tap t of channel c: pair c // 2 of its group, quad t // 4, in which even taps come first, then odd ones."""
    weight = np.random.default_rng(k).integers(-128, 128, (cout, cin, k, k)).astype(np.int8)
    packed = pack_weights(weight, groups).tolist()
    taps, of_group = weight.transpose(0, 2, 3, 1).reshape(cout, -1), cout // groups
    quads, pairs, found = -(-taps.shape[1] // 4), -(-of_group // 2), {}
    for c, t in np.ndindex(taps.shape):
        group, place = divmod(c, of_group)
        quad = (group * pairs + place // 2) * quads + t // 4
        found[quad * 8 + t % 2 * 4 + t % 4 // 2 * 2 + place % 2] = taps[c, t]
    assert packed == [found.get(i, 0) for i in range(groups * pairs * quads * 8)]


@pytest.mark.parametrize("groups, cout, cin, k", [(1, 6, 8, 1), (1, 5, 3, 3), (3, 9, 6, 3), (7, 7, 7, 5), (2, 6, 8, 1)])
def test_bytes_are_the_planner_s(groups, cout, cin, k):
    op = Op("conv", "conv", ("x",), cout, (k, k), pad=(k // 2,) * 4, groups=groups)
    graph = Graph("g", (Tensor("x", 9, 9, cin),), (op,), ("conv",))
    weight, apart = np.zeros((cout, cin // groups, k, k), np.int8), op.is_depthwise(cin)
    pairs = pack_channels(*np.ones((4, cout), int), 1 if apart else groups)
    weights = -(-weight.size // 4) * 4 if apart else pack_weights(weight, groups).nbytes
    assert constant_bytes(graph, op) == weights + pairs.nbytes


@pytest.mark.parametrize("real", [2.0**-23, 1.7e-8, 3e-12, 1e-17, 1e-40])
def test_tiny_multipliers_keep_the_shift_that_kernels_bear(real):
    """Fewer bits there cost nothing: the result is right for every accumulator of 31 bits, or near a tie."""
    factor = multiplier(real)
    assert factor.right <= MAX_RIGHT
    for acc in (2**31 - 1, -(2**31) + 1, 12345678, -1):
        assert abs(int(requant(acc, *factor)) - acc * real) < 0.5 + 2**-9
