"""Train a detector quantisation-aware: one hook in the config, mmdet's training around it.

custom_hooks = [dict(type="QATHook", freeze_epoch=8)]
"""

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import OBSERVE, fake_quantize, freeze

from ..data.datasets import config_classes
from ..handover.export import check_deployable
from ..models.checkpoint import channel_groups, load_strictly, parts


@HOOKS.register_module()
class QATHook(Hook):
    """Let the detector of the config's `load_from`, a float one, simulate int8 (nni_mcunet.core.nn.qat): it is trained
    on, and evaluated as it will be deployed. Its checkpoints have the ranges of the activations.

    freeze_epoch   so many epochs are trained before ranges and batch normalisation's statistics stand still; 0 < it <
                   the number of epochs
    outputs        (low, high) that the ranges of the predictions are cut to. YOLOv3 has logits and logarithms of sizes
                   in one map: beyond -6 and 6 a sigmoid is as good as sure, but one step of a range as wide as the
                   surest logits is more than a tenth of a box's side
    """

    priority = "VERY_HIGH"  # EMAHook copies the model in before_run

    def __init__(self, freeze_epoch: int, outputs: tuple[float, float] | None = None):
        self.freeze_epoch, self.outputs = freeze_epoch, outputs

    def before_run(self, runner: Runner) -> None:
        """Turn the model into one that simulates int8, after its float weights are loaded. Raises UserError."""
        nets = parts(runner.model)
        if any(net.quant is not None for net in nets):
            return  # mcunet test has loaded a checkpoint of such a training
        check_deployable(runner.cfg)
        if isinstance(runner._train_loop, BaseLoop):  # built: it is a training
            self._check(runner)
            if not runner._resume:  # mmengine, which loads it next, would take what fits
                load_strictly(runner.model, runner._load_from, config_classes(runner.cfg))
        fake_quantize(*nets, outputs=self.outputs, groups=channel_groups(runner.model))

    def _check(self, runner: Runner) -> None:
        epochs, batches = runner.max_epochs, len(runner.train_dataloader)
        if not runner._resume and runner._load_from is None:
            raise UserError("QATHook goes on from a trained float detector: --cfg-options load_from=LAST.pth")
        if not 0 < self.freeze_epoch < epochs:
            raise UserError(f"QATHook.freeze_epoch is {self.freeze_epoch}: expected 1 to {epochs - 1}")
        if self.freeze_epoch * batches <= OBSERVE:
            raise UserError(
                f"QATHook.freeze_epoch is {self.freeze_epoch}, {batches} batches each: ranges are observed in the "
                f"first {OBSERVE}, so freeze later or make smaller batches"
            )
        if isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise UserError("--amp and QATHook: half precision does not hold the 256 steps of a range; leave it away")

    def before_train_epoch(self, runner: Runner) -> None:
        """Freeze ranges and statistics when their epochs are over."""
        nets = parts(runner.model)
        first = nets[0].quant
        if runner.epoch >= self.freeze_epoch and first is not None and not first.frozen:
            _average(nets)
            freeze(*nets)


def _average(nets: list[Net]) -> None:
    """Give all processes the mean of what each has seen of its pictures."""
    all_reduce_params([b for net in nets for b in net.buffers() if b.is_floating_point()], op="mean")
