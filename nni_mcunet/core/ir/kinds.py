"""The kinds of op, and what every room asks of one: a line of the table for each.

How a kind computes stands elsewhere: in nn/net.py for torch, in engine/ops for int8. Size rules are graph.out_tensor's.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """The facts of a kind. The defaults are those of a window over one map, a channel of which gives one of the output.

    inputs       how many maps it reads by its window; None: two or more
    own_cout     its output has channels of its own number, not those of its first input
    takes_act    it may have a clamp as activation ("act" ops: any function)
    whole_map    it reads its whole input, or places of it by no window: no patched segment holds it
    elementwise  its kernel reads of each map the position that it writes, and may write onto an input of that size
    adds_second  its kernel reads a second input besides, most at the position that is written, as a residual is
    mixes        each channel of the output depends on all of the inputs
    enlarges     `s` positions of its output come from one of its input
    scale        its int8 output has a scale of its own ("own"), its input's as it only moves values ("input"), or that
                 of probabilities ("probability")
    table        bytes of its table of constants, for each input
    baseline     the profiler and torch know it, for published baselines; ONNX and the C engine do not
    """

    inputs: int | None = 1
    own_cout: bool = False
    takes_act: bool = False
    whole_map: bool = False
    elementwise: bool = False
    adds_second: bool = False
    mixes: bool = False
    enlarges: bool = False
    scale: str = "own"
    table: int = 0
    baseline: bool = False


FACTS = {
    # Dense, 1x1, depth-wise or grouped by `groups`. A fully connected layer is a 1x1 conv on a 1x1 map.
    "conv": Kind(own_cout=True, takes_act=True),
    # Padding never wins.
    "maxpool": Kind(scale="input"),
    # Padding is not counted.
    "avgpool": Kind(),
    # The average of the whole map.
    "gap": Kind(whole_map=True),
    # Nearest, by the integer factor `s`.
    "upsample": Kind(scale="input", enlarges=True),
    # With zeros.
    "pad": Kind(scale="input"),
    # The channels `channels` of every `s`th position; a negative pad leaves positions out.
    "take": Kind(own_cout=True, scale="input"),
    # Blocks of `s` positions become channels, ordered by row and column in the block, then by channel.
    "space_to_depth": Kind(own_cout=True, scale="input"),
    # The inverse; a negative pad leaves the last positions out.
    "depth_to_space": Kind(own_cout=True, scale="input", enlarges=True),
    # Both maps have one shape.
    "add": Kind(inputs=2, takes_act=True, elementwise=True, adds_second=True),
    # The second map is of the first's shape, or 1x1: one factor a channel (squeeze-excite).
    "mul": Kind(inputs=2, elementwise=True, adds_second=True),
    # Attention by `groups` heads: the products of each position (a row) with each of the second map, a column a head.
    "attention_scores": Kind(inputs=2, own_cout=True, whole_map=True, adds_second=True, mixes=True),
    # The second map's positions, each times what the first has for it: its rows are positions, its columns heads.
    "attention_sum": Kind(inputs=2, own_cout=True, whole_map=True, adds_second=True, mixes=True),
    # Along the channels.
    "concat": Kind(inputs=None, own_cout=True, table=256),
    # An activation as an op of its own.
    "act": Kind(takes_act=True, elementwise=True, table=256),
    # Over the channels of each position.
    "softmax": Kind(elementwise=True, mixes=True, scale="probability", table=4 * 256),
    # Bilinear, to the size of the second input.
    "resize": Kind(inputs=2, whole_map=True, baseline=True),
    # Each position scaled to length 1, times a learned factor a channel.
    "l2norm": Kind(baseline=True),
    # Recurrent pooling of k windows (Saha et al. 2020), see nn/rnnpool.py.
    "rnnpool": Kind(own_cout=True, baseline=True),
}
KINDS = tuple(kind for kind, facts in FACTS.items() if not facts.baseline)
BASELINE_KINDS = tuple(kind for kind, facts in FACTS.items() if facts.baseline)
SAME_SCALE = tuple(kind for kind, facts in FACTS.items() if facts.scale == "input")
OWN_SCALE = tuple(kind for kind, facts in FACTS.items() if facts.scale == "own")
