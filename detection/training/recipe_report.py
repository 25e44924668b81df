"""Say in the log where a recipe cannot mean what it does: a warm-up or a schedule that the training is too short for,
and gradients that are clipped in every step."""

import logging
from itertools import chain
from statistics import median

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import (
    ConstantParamScheduler,
    CosineAnnealingParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    PolyParamScheduler,
)
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.optim import SGD

from nni_mcunet.core.types import Plain

from ..said import tell

ALWAYS = 0.95  # from this share of an epoch's steps on, a gradient is always clipped


def too_long(scheduler: _ParamScheduler, limit: int) -> str | None:
    """Name what a scheduler does not reach in a training of `limit` of its steps; None where it reaches all."""
    name, unit = type(scheduler).__name__, "epoch" if scheduler.by_epoch else "iteration"
    if isinstance(scheduler, MultiStepParamScheduler):
        late = [step for step in scheduler.milestones if step >= limit]
        return f"{name} has milestones at {unit} {late}, and the training ends at {limit}" if late else None
    if isinstance(scheduler, CosineAnnealingParamScheduler):
        end = scheduler.begin + scheduler.T_max
    elif isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler, PolyParamScheduler)):
        end = scheduler.end
    else:
        return None
    if end <= limit:
        return None
    warm = isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler))
    return f"{name} goes on to {unit} {end:,}, and the training ends at {limit:,}: " + (
        "the warm-up outlasts it and the learning rate is never reached" if warm else "it never comes to its end"
    )


@HOOKS.register_module()
class RecipeReportHook(Hook):
    """Write warnings into the log: before training each scheduler that the training is too short for; behind the first
    of epochs in which (almost) every step's gradient of SGD was clipped, how large the gradients were."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.said = False

    def before_train(self, runner: Runner) -> None:
        """Warn of schedulers that the training is too short for."""
        found = runner.param_schedulers or ()
        for scheduler in chain(*found.values()) if isinstance(found, dict) else found:
            said = too_long(scheduler, runner.max_epochs if scheduler.by_epoch else runner.max_iters)
            if said:
                tell(f"param_scheduler: {said}", logging.WARNING)

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin a new list of norms."""
        self.norms = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Plain = None, outputs: Plain = None) -> None:
        """Note the gradient's norm, where it is clipped by that."""
        if _max_norm(runner) is not None:
            self.norms.append(runner.message_hub.get_scalar(f"train/{runner.optim_wrapper.grad_name}").current())

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn when the gradient was clipped in (almost) every step, once for epochs in a row."""
        most = _max_norm(runner)
        clipped = sum(norm > most for norm in self.norms) if most is not None else 0
        always = bool(self.norms) and clipped >= ALWAYS * len(self.norms)
        if always and not self.said:
            tell(
                f"optim_wrapper.clip_grad: the gradient was clipped in {clipped} of {len(self.norms)} steps of epoch "
                f"{runner.epoch + 1}: max_norm is {most:g} and its norm {median(self.norms):.4g} (median). Only its "
                "direction counts then: where that is not meant, raise max_norm and lower SGD's learning rate as much",
                logging.WARNING,
            )
        self.said = always


def _max_norm(runner: Runner) -> float | None:
    """Return the norm to which SGD's gradients are clipped; None where they are not, and for other optimizers: Adam
    divides by the gradients' size, so what is left of it does not matter."""
    wrapper = runner.optim_wrapper
    clips = isinstance(wrapper, OptimWrapper) and isinstance(wrapper.optimizer, SGD)
    return (wrapper.clip_grad_kwargs or {}).get("max_norm") if clips else None
