"""Time of a super-network's training step against the same networks trained by themselves:
python benchmarks/supernet_step.py [--space demo] [--resolution 96] [--batch 16]

Both sides train the same random networks on the same batch: forward, backward, clipped gradients, SGD step. The
super-network's side builds the four graphs, adds their gradients up and makes one optimiser step over all its weights;
the other side's nets exist already and each makes a step of its own. The two are timed in turns, so that whatever else
the machine does hits both; printed are the medians of the two and of the ratios of the pairs.
"""

import argparse
import time
from functools import partial
from statistics import median

import numpy as np
import torch

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.search.data.classification import Classification
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.supernet import accumulate, build_supernet, slice_net


def seconds(work, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def sgd(net: torch.nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=4e-5, nesterov=True)


def step(net: torch.nn.Module, optimizer: torch.optim.SGD) -> None:
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="demo")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--subnets", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    space = load_space(args.space)
    supernet, rng = build_supernet(space).to(device).train(), np.random.default_rng(args.seed)
    images = torch.rand(args.batch, 3, args.resolution, args.resolution, device=device)
    labels = torch.randint(space.classes, (args.batch,), device=device)
    criterion = partial(Classification(space.classes).loss, labels=labels, smoothing=0)
    whole = sgd(supernet)

    def shared(candidates) -> None:
        whole.zero_grad()
        for candidate in candidates:
            accumulate(supernet, build_graph(space.spec(candidate)), images, criterion)
        step(supernet, whole)

    def alone(nets) -> None:
        for net, optimizer in nets:
            optimizer.zero_grad()
            criterion(net(images)).backward()
            step(net, optimizer)

    times = []
    for repetition in range(args.repetitions + 2):
        candidates = [space.random(rng) | {"r": args.resolution} for _ in range(args.subnets)]
        nets = [slice_net(supernet, build_graph(space.spec(candidate))).train() for candidate in candidates]
        nets = [(net, sgd(net)) for net in nets]
        alone(nets)  # makes their momentum
        works = [partial(shared, candidates), partial(alone, nets)]
        order = (0, 1) if repetition % 2 else (1, 0)
        took = {at: seconds(works[at], device) for at in order}
        times.append((took[0], took[1]))
    times = times[2:]  # the first two warm up
    print(
        f"{args.space}, r {args.resolution}, batch {args.batch}, {args.subnets} sub-networks, {device}: "
        f"super-network {1e3 * median(a for a, _ in times):.1f} ms, "
        f"by themselves {1e3 * median(b for _, b in times):.1f} ms, ratio {median(a / b for a, b in times):.3f}"
    )


if __name__ == "__main__":
    with exit_on_user_error():
        main()
