"""Training the super-network (appendix B): the largest network first, its channels sorted by importance, then a few
random sub-networks an iteration with averaged gradients. Seeded, checkpointed, exactly resumable: the randomness of a
step depends on the seed and the step alone.
"""

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.build import build_graph
from ..core.errors import UserError
from ..core.files import write_atomic
from ..core.net import Net
from .data import digit_batch
from .space import Space
from .supernet import accuracy, build_supernet, recalibrate, run_subnet, slice_net, sort_channels


@dataclass(frozen=True)
class Recipe:
    """largest, shared: steps of the two phases; subnets: random sub-networks a shared step; lr falls as a cosine in
    each phase."""

    largest: int = 160
    shared: int = 160
    subnets: int = 4
    batch: int = 16
    lr: float = 0.2
    weight_decay: float = 4e-5
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.largest + self.shared

    def rate(self, step: int) -> float:
        """Learning rate of a step, with five steps of warm-up in each phase."""
        second = step >= self.largest
        at, of = (step - self.largest, self.shared) if second else (step, self.largest)
        return self.lr * min(1, (at + 1) / 5) * (1 + cos(pi * at / of)) / 2


def train(
    space: Space,
    recipe: Recipe,
    path: str | Path,
    save_every: int = 20,
    progress: Callable[[int, float], None] | None = None,
) -> Net:
    """Train the super-network of `space`, from the checkpoint at `path` if there is one; progress(steps
    done, loss) follows each step. Raises UserError when the checkpoint is of another space or recipe."""
    torch.manual_seed(recipe.seed)
    net, path = build_supernet(space), Path(path)
    optimizer = torch.optim.SGD(net.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay, nesterov=True)
    begin = _resume(space, recipe, path, net, optimizer) if path.exists() else 0
    net.train()
    for step in range(begin, recipe.steps):
        if step == recipe.largest:
            sort_channels(net)
            optimizer.state.clear()  # the momentum is of channels that have moved
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        optimizer.zero_grad()
        loss = _backward(space, recipe, net, step)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        if progress:
            progress(step + 1, loss)
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            _save(space, recipe, path, step + 1, net, optimizer)
    return net


def _backward(space: Space, recipe: Recipe, net: Net, step: int) -> float:
    """Gradients of one step, averaged over its networks, each with its own pictures. Returns the mean loss."""
    rng = np.random.default_rng([recipe.seed, step])
    if step < recipe.largest:
        r = space.r[int(rng.integers(len(space.r)))]
        candidates = [space.largest() | {"r": r}]
    else:
        candidates = [space.random(rng) for _ in range(recipe.subnets)]
    total = 0.0
    for at, candidate in enumerate(candidates):
        images, labels = digit_batch([recipe.seed, step, at], "train", recipe.batch, candidate["r"])
        logits = run_subnet(net, build_graph(space.spec(candidate)), images).flatten(1)
        loss = F.cross_entropy(logits, labels) / len(candidates)
        loss.backward()
        total += loss.item()
    return total


def _save(space: Space, recipe: Recipe, path: Path, step: int, net: Net, optimizer) -> None:
    file = io.BytesIO()
    state = {"space": space.to_dict(), "recipe": asdict(recipe), "step": step, "net": net.state_dict()}
    torch.save(state | {"optimizer": optimizer.state_dict()}, file)
    write_atomic(path, file.getvalue())


def _load(path: Path) -> dict:
    try:
        state = torch.load(path, weights_only=True)
        return state | {"space": Space.from_dict(state["space"])}
    except (RuntimeError, KeyError, TypeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"{path} is no super-network's checkpoint: delete it and run tools/train_supernet.py") from None


def _resume(space: Space, recipe: Recipe, path: Path, net: Net, optimizer) -> int:
    state = _load(path)
    if state["space"] != space or state["recipe"] != asdict(recipe):
        raise UserError(f"{path} was trained with another space or other settings: delete it, or give another --out")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def load_supernet(path: str | Path) -> tuple[Space, Net]:
    """A trained super-network and its space. Raises UserError for a missing, broken or unfinished checkpoint."""
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"no super-network at {path}: train it first with `python tools/train_supernet.py --out {path}`"
        )
    state = _load(path)
    if state["step"] < Recipe(**state["recipe"]).steps:
        raise UserError(
            f"{path}: training stopped at step {state['step']}; run tools/train_supernet.py again to finish"
        )
    net = build_supernet(state["space"])
    net.load_state_dict(state["net"])
    return state["space"], net.eval()


def specialise(space: Space, supernet: Net, candidate: dict, batches: int = 4, batch: int = 64, seed: int = 0) -> Net:
    """The candidate's stand-alone network, its batch normalisation re-calibrated on training pictures."""
    net, r = slice_net(supernet, build_graph(space.spec(candidate))), candidate["r"]
    return recalibrate(net, (digit_batch([seed, at], "train", batch, r)[0] for at in range(batches)))


def evaluate(space: Space, supernet: Net, candidate: dict, held_out: tuple[Tensor, Tensor]) -> float:
    """Accuracy on `held_out` pictures of the candidate's resolution: its score in the search."""
    return accuracy(specialise(space, supernet, candidate), *held_out)
