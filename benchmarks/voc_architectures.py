"""Architectures for Pascal VOC without its pictures: configs/arch/mcunetv2_voc_h743.json and mcunetv2_voc_f412.json.

    python benchmarks/voc_architectures.py [--seed 0]     (two minutes on one core)

The searches of configs/nni/voc_*.yml as they are, space, limits, 20-class head and evolution, but for the score. Where
the pictures are it is the mAP of a slice (mcunet search run). Here it is a stand-in that needs none: the entropy of
the maps that the neck reads, as a formula of the architecture. For a map of h x w x c behind convolutions that read c_i
channels a group with kernel k_i it is log(h w c) times the sum of log(c_i k_i^2) (DeepMAD, Shen et al., CVPR 2023),
over the maps of strides 8, 16 and 32 in the ratio 1 : 1 : 6 (MAE-DET, Sun et al., ICML 2022). It rewards depth,
kernels, width and resolution and knows nothing of data; limited only by MACs it buys parameters, not resolution. So
flash is limited to where the parameters are those that Table 3 prints, 0.67M and 0.47M. Only training says what the
networks are worth.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.search.config import search_config
from nni_mcunet.search.nni.experiment_file import load_config

ROOT = Path(__file__).parents[1]
FLASH_KB = {"voc_h743": 730, "voc_f412": 520}
WEIGHTS = (1, 1, 6)  # of the maps, fine to coarse


def entropy(graph: Graph) -> float:
    """Sum the entropy over the graph's outputs, see above. A shortcut adds no path: the sum is over the longest one."""
    gathered = {tensor.name: 0.0 for tensor in graph.inputs}
    for op in graph.ops:
        c = graph.input_of(op).c // op.groups
        gathered[op.name] = gathered[op.inputs[0]] + (math.log(c * op.k[0] * op.k[1]) if op.kind == "conv" else 0)
    maps = [graph.tensors[name] for name in graph.outputs]
    return sum(weight * math.log(t.h * t.w * t.c) * gathered[t.name] for weight, t in zip(WEIGHTS, maps, strict=True))


def search(name: str, seed: int, folder: Path) -> str:
    """Write the best architecture of one experiment to `folder`; returns a line about it."""
    config = search_config(load_config(ROOT / "configs" / "nni" / f"{name}.yml"))
    config = replace(config, seed=seed, max_flash_kb=FLASH_KB[name])
    evolution, head = config.evolution(), config.limits().yolo
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            backbone = build_graph(evolution.space.spec(proposal.candidate), taps=head.taps)
            evolution.tell(proposal.index, entropy(backbone))
    best = evolution.ranked()[0]
    spec = evolution.space.spec(best.candidate, Schedule(best.p, best.n))
    path = replace(spec, name=f"mcunetv2_{name}").save(folder / f"mcunetv2_{name}.json")
    parameters, grid = build_graph(spec, head).params, "x".join(map(str, best.p))
    return (
        f"{path.name}: r {best.candidate['r']}, {best.macs / 1e6:.1f}M MACs, {parameters / 1e6:.2f}M parameters, "
        f"{best.sram / 1024:.1f} kB SRAM, {best.flash / 1024:.0f} kB flash, {grid} patches over {best.n} blocks"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the evolution")
    parser.add_argument("--out", type=Path, default=ROOT / "configs" / "arch", help="folder of the architectures")
    args = parser.parse_args()
    for name in FLASH_KB:
        print(search(name, args.seed, args.out), flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
