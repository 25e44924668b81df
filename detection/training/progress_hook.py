"""Show how far a training or a test is, in place of mmengine's line every few steps."""

import math
from collections.abc import Mapping, Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from nni_mcunet.core.progress import Progress
from nni_mcunet.core.types import Plain

from ..said import tell

METRICS = 2  # of a validation that its line names


class ProgressHook(Hook):
    """Count the steps on stderr, with the loss; say each validation's metric."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.from_step = 0

    def before_train(self, runner: Runner) -> None:
        """Begin to count, from where a resumed training goes on."""
        self.from_step = runner.iter
        if runner.iter:
            tell(f"goes on behind epoch {runner.epoch} of {runner.max_epochs}")
        self.bar = Progress(runner.max_iters - runner.iter, "step", "training", runner.rank == 0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Plain = None, outputs: Mapping[str, Plain] | None = None
    ) -> None:
        """Count a step."""
        loss = (outputs or {}).get("loss")
        if self.bar is not None:
            figures = f"epoch {runner.epoch + 1} of {runner.max_epochs}" if runner.max_epochs else ""
            loss = "" if loss is None else f"loss {loss.item():.4g}"
            self.bar.to(runner.iter + 1 - self.from_step, ", ".join(filter(None, (figures, loss))))

    def after_train(self, runner: Runner) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Say the metric."""
        found = {k: v for k, v in (metrics or {}).items() if isinstance(v, (int, float)) and not math.isnan(v)}
        figures = ", ".join(f"{name} {value:.3f}" for name, value in list(found.items())[:METRICS])
        tell(f"epoch {runner.epoch} of {runner.max_epochs}: {figures or 'no box is found yet'}")

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin to count the batches of a test."""
        self.bar = Progress(len(runner.test_dataloader), "batch", "testing", runner.rank == 0)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Plain = None,
        outputs: Sequence[Plain] | None = None,
    ) -> None:
        """Count a batch."""
        if self.bar is not None:
            self.bar.to(batch_idx + 1)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
