"""Train the super-network (appendix B), and use it: slice networks out, judge them, fine-tune them.

The largest network is trained first and its channels sorted by importance. Then a few random sub-networks are trained
an iteration, each on the step's pictures, with averaged gradients. The resolution is drawn for each step.
"""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ...core.errors import UserError
from ...core.ir.arch import ArchSpec, Schedule
from ...core.ir.build import build_graph, yolo_head
from ...core.ir.graph import Graph
from ...core.nn import zoo_weights
from ...core.nn.net import Net, Quantiser
from ...core.nn.qat import OBSERVE, fake_quantize, freeze, learnt_ranges
from ...core.outputs import marked
from ...core.types import PlainDict
from ...core.validate import check_is_file, reason_of_load
from ..data import Data, open_data
from ..data.classification import Classification
from ..data.split import difference
from ..space import Candidate, Space
from . import distributed as ranks
from .fit import fit, load_checkpoint
from .recipe import Recipe
from .supernet import Autocast, Criterion, begin_with, build_supernet, recalibrate, slice_net

__all__ = ["Recipe", "evaluate", "finetune", "load_supernet", "load_weights", "specialise", "train"]

Progress = Callable[[int, float], None]
Define = Callable[[ArchSpec], Graph]

FREEZE = 0.8  # from this share of a quantisation-aware training on, statistics and ranges stand still


def networks_of_step(space: Space, recipe: Recipe, step: int, define: Define = build_graph) -> list[Graph]:
    """Return the networks that are trained in a step, all at the step's resolution."""
    rng, resolutions = np.random.default_rng([recipe.seed, step]), space.genes["r"]
    r = resolutions[int(rng.integers(len(resolutions)))]
    if step < recipe.largest:
        candidates = [space.largest()]
    else:
        candidates = [space.largest(), space.smallest()] if recipe.sandwich else []
        candidates += [space.random(rng) for _ in range(recipe.subnets - len(candidates))]
    return [define(space.spec(candidate | {"r": r})) for candidate in candidates]


def train(
    space: Space,
    recipe: Recipe,
    path: str | Path,
    data: Data | None = None,
    save_every: int = 20,
    progress: Progress | None = None,
    device: str = "auto",
    start: tuple[ArchSpec, Net] | None = None,
) -> Net:
    """Train the super-network of `space` on `data` (default: the embedded digits), from the checkpoint at `path` if
    there is one; see fit.fit. Under torchrun all processes call this together.

    start  a network that the largest one contains, and its trained weights, which it begins with; its resolution,
           classes and schedule do not matter. Raises UserError for a network that is larger anywhere
    """
    data = data or open_data({})
    torch.manual_seed(recipe.seed)
    net = build_supernet(space, data.task.graph)
    data.task.prepare(net)
    identity: PlainDict = {"space": space.to_dict()} | data.task.identity
    if start is not None:
        spec, trained = start
        spec = replace(spec, classes=None, schedule=Schedule(), resolution=space.resolution(space.largest()))
        begin_with(net, data.task.graph(spec), trained.state_dict())
        identity["start"] = _digest(trained.state_dict())
    networks = partial(networks_of_step, space, recipe, define=data.task.graph)
    return fit(net, networks, recipe, data, path, identity, save_every, progress, device)


def load_supernet(path: str | Path, data: Data | None = None) -> tuple[Space, Net]:
    """Load a trained super-network, on the CPU, and its space as it was given for training. The network has the task's
    outputs, a classifier or a detection head, even if its space has not. Raises UserError for a missing, broken or
    unfinished checkpoint, and when `data`, to judge its networks on, has another task or is split otherwise than
    what it was trained on."""
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"no super-network at {path}: train it first with `mcunet train-supernet --space SPACE --data DATA "
            f"--out {quote(str(path))}`, the space and the data of the search"
        )
    state = load_checkpoint(path)
    identity, step = state["identity"], state["step"]
    if "space" not in identity:
        raise UserError(f"{path} is the checkpoint of a single network, no super-network's")
    if step < Recipe(**identity["recipe"]).steps:
        raise UserError(f"{path}: training stopped at step {step}; run mcunet train-supernet again to finish")
    if data is not None and (other := difference(identity["data"], data.identity)):
        raise UserError(
            f"{path} was trained on data with {other}: it would be judged on pictures that it was trained on; give the "
            "data as for its training"
        )
    for key, wanted in data.task.identity.items() if data is not None else ():
        if identity.get(key) != wanted:
            raise UserError(f"{path} was trained for {key} {identity.get(key)} and the data have {wanted}")
    space = Space.from_dict(identity["space"])
    net = build_supernet(space, _definition(identity))
    net.load_state_dict(state["net"] | state["average"])
    return space, net.eval()


def _definition(identity: PlainDict) -> Define:
    """Return how the task of a checkpoint builds its networks."""
    if "detector" not in identity:
        return Classification(identity["classes"]).graph
    head = yolo_head(identity["detector"])
    return lambda spec: build_graph(spec, head)


def specialise(
    space: Space,
    supernet: Net,
    candidate: Candidate,
    data: Data,
    calibration: tuple[int, int] | None = None,
    seed: int = 0,
) -> Net:
    """Return the candidate's own network, where the super-network is, its batch normalisation re-calibrated on
    `calibration` (batches, pictures a batch) training pictures; the default is the data's own."""
    spec = space.spec(candidate)
    graph = data.task.graph(spec)
    trained, wanted = ([g.tensors[name].c for name in g.outputs] for g in (supernet.graph, graph))
    if trained != wanted:
        raise UserError(f"the super-network was trained for outputs of {trained} channels and the data have {wanted}")
    net = slice_net(supernet, graph)
    batches, batch = calibration or data.calibration_size
    return recalibrate(net, data.calibration(spec.resolution, batches, batch, seed, _device(supernet)))


def evaluate(
    space: Space,
    supernet: Net,
    candidate: Candidate,
    data: Data,
    calibration: tuple[int, int] | None = None,
    seed: int = 0,
) -> float:
    """Score a candidate's slice on the held-out pictures at its resolution: accuracy, or what the task measures. seed:
    of the draw that re-calibrates it."""
    net = specialise(space, supernet, candidate, data, calibration, seed)
    return data.task.score(net, data.held_out(space.resolution(candidate), _device(supernet)))


def _device(net: Net) -> torch.device:
    return next(net.parameters()).device


def weights_file(state: dict[str, Tensor], data: Data) -> bytes:
    """Return the bytes of a .pth of one network: its state dict, an OrderedDict with the attribute `meta`, which
    torch.load gives back: {"data": Data.identity of what it was trained and judged on, "view": how it saw that,
    "classes": their names, where the data have some}."""
    file, found = io.BytesIO(), OrderedDict((key, tensor.cpu()) for key, tensor in state.items())
    vars(found)["meta"] = {"data": data.identity, "view": data.view and str(data.view)}
    if names := getattr(data.source, "names", ()):
        vars(found)["meta"]["classes"] = list(names)
    torch.save(found, file)
    return marked(file.getvalue())


def check_split(path: str | Path, data: Data) -> str | None:
    """Raise UserError where the weights at `path` were trained, and their network chosen, on another split than that of
    `data`. Returns a warning for a file that does not say: bare state dicts, and what searches once exported."""
    before = getattr(_load(path), "meta", {}).get("data")
    if not isinstance(before, dict):
        return (f"{path} does not say on which pictures it was trained: that these are split as for its search (kind, "
                "held_out, seed, the same files) is not checked")  # fmt: skip
    if other := difference(before, data.identity):
        raise UserError(
            f"{path} was trained and chosen on data with {other}: it would be trained on what judges it, or judged on "
            "what it was trained on; give --data as for the search; to begin anew on other pictures, save its tensors "
            "in a plain dict"
        )
    return None


def check_view(spec: ArchSpec, path: str | Path, data: Data) -> None:
    """Raise UserError where `data` would judge a network by another view than its file at `path` says: the network will
    be deployed with that one."""
    if spec.view and data.view and spec.view != data.view:
        raise UserError(
            f"{path} was judged with the view {spec.view}, these data have {data.view}: give --data the keep of that "
            "view, or change the view in the file to deploy it with the other"
        )


def _load(path: str | Path) -> PlainDict:
    """Return what torch.save wrote. Raises FileNotFoundError, or UserError for a file that holds something else."""
    check_is_file(path)
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a file that is no checkpoint can raise anything
        raise UserError(f"{path} does not hold weights: {reason_of_load(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} does not hold weights: expected a state dict, this is a {type(found).__name__}")
    return found


def load_weights(spec: ArchSpec, path: str | Path) -> Net:
    """Load the network of `spec` with the weights at `path` (export's best.pth, a bare state dict, or what MCUNet's
    authors published); it simulates int8 where they have the ranges. Raises UserError."""
    net, state = Net(build_graph(spec)), _load(path)
    state = state.get("state_dict", state)
    if zoo_weights.MARK in state:
        state = zoo_weights.rename(spec, state)
    try:
        if learnt_ranges(state):
            fake_quantize(net)
        net.load_state_dict(state)
    except Exception as error:  # whatever is wrong with it, it is not this network's weights
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not hold the weights of architecture {spec.name}: {reason}") from None
    return net


def finetune(
    spec: ArchSpec,
    net: Net,
    recipe: Recipe,
    data: Data,
    path: str | Path,
    save_every: int = 20,
    progress: Progress | None = None,
    device: str = "auto",
    qat: bool = False,
) -> Net:
    """Train one network, sliced from a super-network, further (appendix B: 10 epochs at a tenth of the learning rate).
    `path` is the checkpoint to go on from. As float, its batch normalisation is re-calibrated at the end. With `qat`
    it simulates int8 (core.nn.qat) and is as it will be deployed, its state dict with the ranges. Raises UserError."""
    if not isinstance(data.task, Classification):
        raise UserError("a detector is trained further by mcunet train: this is for classifiers")
    if spec.classes != data.task.classes:
        has = "no classifier" if spec.classes is None else f"{spec.classes} classes"
        raise UserError(f"architecture {spec.name} has {has} and the data {data.task.classes} classes")
    net.quant = None  # a network that has been quantised before begins anew
    identity = {"arch": spec.to_dict(), "weights": _digest(net.state_dict())}
    graph = build_graph(spec)
    how = (lambda step: [graph], recipe, data, path)
    if not qat:
        net = fit(net, *how, identity, save_every, progress, device)
        return recalibrate(net, data.calibration(spec.resolution, device=_device(net)))
    freeze_at = int(FREEZE * recipe.steps)
    if recipe.amp:
        raise UserError("amp and quantisation-aware training: half precision does not hold the 256 steps of a range")
    if freeze_at <= OBSERVE:
        raise UserError(
            f"{recipe.steps} steps are too few: ranges are observed in the first {OBSERVE}, and int8 is simulated from "
            f"there to {FREEZE:.0%} of them; give --steps {round(2 * OBSERVE / FREEZE)} or more"
        )
    fake_quantize(net)
    backward = partial(_simulated, freeze_at=freeze_at)
    return fit(net, *how, identity | {"qat": True}, save_every, progress, device, backward).eval()


def _simulated(
    net: Net, graph: Graph, images: Tensor, criterion: Criterion, autocast: Autocast | None = None, freeze_at: int = 0
) -> Tensor:
    """Run fit.Backward of one whole net with simulated int8, which is frozen after so many batches."""
    quant = cast(Quantiser, net.quant)  # finetune has made it so
    if not quant.frozen and int(quant.batches) >= freeze_at:
        ranks.average([buffer for buffer in net.buffers() if buffer.is_floating_point()])
        freeze(net)
    with autocast or nullcontext():
        value = criterion(net(images))
    torch.autograd.backward(value)
    return value.detach()


def _digest(state: dict[str, Tensor]) -> str:
    file = io.BytesIO()
    for tensor in state.values():
        file.write(tensor.cpu().numpy().tobytes())
    return hashlib.sha256(file.getvalue()).hexdigest()


def to_device(net: Net, name: str = "auto") -> Net:
    return net.to(ranks.pick_device(name))
