"""Rename the weights that MCUNet's authors published.

Theirs count the blocks through (`blocks.7.mobile_inverted_conv.depth_conv.*`) and read pixels as (p / 255 - 0.5) / 0.5;
ours count by stage and block (`layers.s2_b1_dw.*`) and read p / 255. The change of scale is folded into the first
convolution: exact but at the picture's border, which they pad with grey and we with black.
"""

from typing import Any

from ..errors import UserError
from ..ir.arch import ArchSpec

PARTS = {"inverted_bottleneck": "exp", "depth_conv": "dw", "point_linear": "proj"}
MARK = "first_conv.conv.weight"  # a key that only such a state dict has


def rename(spec: ArchSpec, state: dict[str, Any]) -> dict[str, Any]:
    """Make the state dict of Net(build_graph(spec)) from a published one (tensors or arrays by key), its classifier
    included.
    Raises UserError for a key that stands for no layer of `spec`."""
    blocks = [f"s{i}_b{j}" for i, stage in enumerate(spec.stages) for j in range(len(stage))]
    ours = {}
    for key, value in state.items():
        layer, _, rest = key.partition(".")
        if layer == "blocks":
            number, _, part, rest = rest.split(".", 3)
            if int(number) >= len(blocks) or part not in PARTS:
                raise UserError(f"'{key}' stands for no layer of {spec.name}, which has {len(blocks)} blocks")
            ours[f"layers.{blocks[int(number)]}_{PARTS[part]}.{rest}"] = value
        elif layer == "classifier":
            kind = rest.rsplit(".", 1)[-1]
            ours[f"layers.fc.conv.{kind}"] = value[:, :, None, None] if kind == "weight" else value
        elif layer in ("first_conv", "feature_mix_layer"):
            ours[f"layers.{'stem' if layer == 'first_conv' else 'head'}.{rest}"] = value
        else:
            raise UserError(f"'{key}' stands for no layer of {spec.name}: are these weights of MCUNet's zoo?")
    if "layers.stem.bn.running_mean" not in ours:
        raise UserError("'first_conv.bn.running_mean' is missing: are these weights of MCUNet's zoo?")
    stem = ours["layers.stem.conv.weight"]
    ours["layers.stem.conv.weight"] = 2 * stem
    ours["layers.stem.bn.running_mean"] = ours["layers.stem.bn.running_mean"] + stem.sum((1, 2, 3))
    return ours
