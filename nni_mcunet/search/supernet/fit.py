"""Train by the one loop, for a super-network and for a single network that is fine-tuned. It is seeded, checkpointed
and exactly resumable: a step depends only on the recipe, the data and the number of the step."""

import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from ...core.files import write_atomic
from ...core.freed_memory import keep_freed_memory
from ...core.ir.graph import Graph
from ...core.nn.net import Net
from ...core.types import PlainDict
from ...core.validate import check_is_file, reason_of_load, short
from ..data import Data, Targets, as_float
from ..data.classification import Task
from . import distributed as ranks
from .recipe import CLIP, Recipe
from .supernet import accumulate, sort_channels

Backward = Callable[..., Tensor]


def fit(
    net: Net,
    networks: Callable[[int], list[Graph]],
    recipe: Recipe,
    data: Data,
    path: str | Path,
    identity: PlainDict,
    save_every: int = 20,
    progress: Callable[[int, float], None] | None = None,
    device: str = "auto",
    backward: Backward = accumulate,
) -> Net:
    """Train `net` in place for data.task, from the checkpoint at `path` if there is one.

    networks  step -> the graphs that take part in it, slices of net, all of one resolution
    identity  says what is trained: a checkpoint of another one, of another recipe or of other data is a UserError
    progress  called after each step: (steps done, loss)
    backward  (net, graph, images, criterion, autocast) -> value; adds the gradients of one network of a step

    TensorBoard's scalars lie in a folder beside the checkpoint. Returns net with the weights that are to be used
    (averaged ones with ema). Raises UserError where they are no finite numbers any more; the checkpoint before stays.
    """
    path, place = Path(path), ranks.pick_device(device)
    ranks.join(place)
    keep_freed_memory()
    networks = lru_cache(maxsize=64)(networks)  # asked for twice: by who loads the pictures, ahead, and by the step
    identity = identity | {"recipe": asdict(recipe), "data": data.identity}
    run = _Run(net.to(place).train(), recipe, data.task, identity, backward)
    run.resume(path)
    ranks.wait()

    def resolution(step: int) -> tuple[int, int]:
        tensor = networks(step)[0].inputs[0]
        return tensor.h, tensor.w

    rank, _ = ranks.place()
    with closing(_Log(path, run.step, rank)) as log:
        steps = range(run.step, recipe.steps)
        for images, targets in data.training(steps, recipe.batch, resolution, recipe.seed, ranks.place()):
            loss = run.advance(networks(run.step), as_float(images, place), targets)
            log.add(run.step, loss, recipe.rate(run.step - 1), images.shape[2:])
            if progress and rank == 0:
                progress(run.step, loss)
            if run.step % save_every == 0 or run.step == recipe.steps:
                run.check(path)  # by every process, so that none waits for another
                if rank == 0:
                    run.save(path)
    ranks.wait()
    run.use_average()
    return net


def _optimizer(net: Net, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.adam:
        return torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=0.9, nesterov=True
    )


class _Run:
    """Hold the state of a training: what a checkpoint holds."""

    def __init__(self, net: Net, recipe: Recipe, task: Task, identity: PlainDict, backward: Backward = accumulate):
        self.net, self.recipe, self.task, self.identity, self.step = net, recipe, task, identity, 0
        self.backward = backward
        self.parameters = dict(net.named_parameters())
        self.optimizer = _optimizer(net, recipe)
        self.device = next(net.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=recipe.amp and self.device == "cuda")
        self.average = self._copy() if recipe.ema else {}

    def advance(self, graphs: list[Graph], images: Tensor, targets: Targets) -> float:
        """Train one step. Returns the mean loss of its networks."""
        recipe = self.recipe
        if self.step == recipe.largest:
            sort_channels(self.net)
            self.optimizer.state.clear()  # the momentum is of channels that have moved, and so is the average
            self.average = self._copy() if recipe.ema else {}
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        self.optimizer.zero_grad()
        loss = self._backward(graphs, images, targets)
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if recipe.ema:
            decay = min(recipe.ema, self.step / (self.step + 10))  # the first weights are soon forgotten
            torch._foreach_lerp_(list(self.average.values()), list(self._detached().values()), 1 - decay)
        return loss

    def _backward(self, graphs: list[Graph], images: Tensor, targets: Targets) -> float:
        """Average gradients over the networks and over the processes. Returns the mean loss."""
        total = torch.zeros((), device=images.device)

        def criterion(outputs: tuple[Tensor, ...]) -> Tensor:
            loss = self.task.loss(outputs, targets, self.recipe.label_smoothing)
            return self.scaler.scale(loss / len(graphs))

        half = torch.float16 if self.device == "cuda" else torch.bfloat16
        for graph in graphs:
            autocast = torch.autocast(self.device, half, enabled=self.recipe.amp)
            total += self.backward(self.net, graph, images, criterion, autocast)
        total /= self.scaler.get_scale()
        ranks.average([p.grad for p in self.parameters.values() if p.grad is not None] + [total])
        return total.item()

    def _detached(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._detached().items()}

    @torch.no_grad()
    def use_average(self) -> None:
        for name, tensor in self.average.items():
            self.parameters[name].copy_(tensor)

    def check(self, path: Path) -> None:
        """Raise UserError where a weight is no finite number. Statistics of half precision may be infinite once, and a
        slice's are taken anew."""
        if all(bool(tensor.isfinite().all()) for tensor in self.parameters.values()):
            return
        kept = f"; {path} has an earlier step" if path.exists() else ""
        raise UserError(f"the training has diverged by step {self.step}: give a smaller --lr and another --out{kept}")

    def save(self, path: Path) -> None:
        parts: dict[str, nn.Module | torch.optim.Optimizer | torch.amp.GradScaler]
        parts = {"net": self.net, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()}
        file = io.BytesIO()
        torch.save(state | {"identity": self.identity, "step": self.step, "average": self.average}, file)
        write_atomic(path, file.getvalue())

    def resume(self, path: Path) -> None:
        """Go on from the checkpoint, if there is one. Raises UserError when it is of something else."""
        if not path.exists():
            return
        state = load_checkpoint(path)
        now = self._as_then(state["identity"])
        if state["identity"] != now:
            different = [k for k in state["identity"] | now if state["identity"].get(k) != now.get(k)]
            raise UserError(
                f"{path} was trained with another {' and '.join(different) or 'kind of network'} "
                "(other settings): delete it, or give another --out"
            )
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        self.step = state["step"]

    def _as_then(self, before: PlainDict) -> PlainDict:
        """Return this identity without the data's list of files, where the checkpoint is of a time without."""
        then = before.get("data")
        if not isinstance(then, dict) or "files" in then:
            return self.identity
        return self.identity | {"data": {k: v for k, v in self.identity["data"].items() if k != "files"}}


def load_checkpoint(path: Path) -> PlainDict:
    """Load what _Run.save wrote, tensors on the CPU. Raises UserError for a file that is something else."""
    check_is_file(path)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        kinds = {"identity": dict, "step": int, "net": dict, "optimizer": dict, "scaler": object, "average": dict}
        if not isinstance(state, dict) or not kinds.keys() <= state.keys():
            raise TypeError(f"it holds a {type(state).__name__} without identity, step, net")
        odd = [key for key, kind in kinds.items() if not isinstance(state[key], kind)]
        if odd:
            raise TypeError(f"{odd[0]} is {short(state[odd[0]])}")
        return {key: state[key] for key in kinds}
    except FileNotFoundError:
        raise
    except Exception as error:  # a file that is no checkpoint can raise anything
        raise UserError(
            f"{path} is no checkpoint of a training: delete it and train again ({reason_of_load(error)})"
        ) from None


class _Log:
    """Write scalars for TensorBoard, in the first process only."""

    def __init__(self, path: Path, step: int, rank: int):
        self.writer = None
        if rank == 0:
            from torch.utils.tensorboard import SummaryWriter  # imported here: it is slow, and only training needs it

            self.writer = SummaryWriter(str(path.parent / f"{path.stem}_log"), purge_step=step + 1, flush_secs=20)

    def add(self, step: int, loss: float, lr: float, resolution: Sequence[int]) -> None:
        if self.writer:
            for name, value in (("loss", loss), ("lr", lr), ("height", resolution[0]), ("width", resolution[1])):
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
