"""Time of a training step on one core, as torch computes it by itself and as a Net does: wide depth-wise gradients in
blocks, channels last, freed memory kept.

    python benchmarks/training_step.py [--batch 16] [--steps 20]

Each is timed in a process of its own, and the two in turns.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

from nni_mcunet.core.freed_memory import keep_freed_memory
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn import net

ARCH = Path(__file__).parents[1] / "configs/arch"
NETWORKS = ("mcu_w50_r128", "bccd_f412", "mcunet_in1", "mcunet_in3")
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("torch", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        torch.set_num_threads(1)
        prepare(args.only)
        print(*(step_ms(name, args.batch, args.steps) for name in NETWORKS))
        return
    command = [sys.executable, __file__, "--batch", str(args.batch), "--steps", str(args.steps), "--only"]
    times: dict[str, list[list[float]]] = {"torch": [], "ours": []}
    for _ in range(TURNS):
        for way, found in times.items():
            done = subprocess.run([*command, way], capture_output=True, text=True, check=True)
            found.append([float(word) for word in done.stdout.split()])
    print(f"{'network':14} {'torch, ms':>10} {'ours, ms':>10} {'faster':>7}")
    for at, name in enumerate(NETWORKS):
        plain, ours = (median(row[at] for row in found) for found in times.values())
        print(f"{name:14} {plain:10.0f} {ours:10.0f} {plain / ours:7.2f}")


def prepare(way: str) -> None:
    """Have a Net computed by torch's own convolutions in the caller's layout, or as it is."""
    if way == "ours":
        keep_freed_memory()
    else:
        net.Conv2d = nn.Conv2d
        net.laid_out = lambda x: x


def step_ms(name: str, batch: int, steps: int) -> float:
    """Return the median of forward and backward of a batch of random pictures at the network's resolution, ms."""
    spec = ArchSpec.load(ARCH / f"{name}.json")
    torch.manual_seed(0)
    model, images = net.Net(build_graph(spec)), torch.rand(batch, 3, *spec.resolution)
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        model.zero_grad()
        sum(y.square().mean() for y in model(images)).backward()
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


if __name__ == "__main__":
    main()
