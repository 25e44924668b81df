"""Keep a user's files in a work dir, where mmengine writes the config and checkpoints over whatever has their names."""

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from nni_mcunet.core.errors import UserError, verbose
from nni_mcunet.core.file_sets import named_folder
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.outputs import check_outputs
from nni_mcunet.core.types import Plain

from ..said import only_ours, tell, without_prints
from .progress_hook import ProgressHook

HEAD = "# The whole config of the last run in this folder, which the next one replaces.\n"
RUN = re.compile(r"\d{8}_\d{6}")  # a folder with the log of one run
CHECKPOINT = re.compile(r"(epoch|iter)_\d+\.pth|last_checkpoint")


class WorkDirRunner(Runner):
    """Run as mmengine does, but leave a file that has the config's name and is not an earlier run's, and say little:
    how far it is and each metric, unless --verbose was given."""

    def build_logger(self, *args: Plain, **options: Plain) -> MMLogger:
        """Return mmengine's logger, of which a terminal sees our lines."""
        logger = super().build_logger(*args, **options)
        only_ours(logger)
        return logger

    def build_evaluator(self, *args: Plain, **options: Plain) -> Evaluator:
        """Return the config's metrics, without what others print."""
        with without_prints():
            return super().build_evaluator(*args, **options)

    def register_hooks(self, *args: Plain, **options: Plain) -> None:
        """Register the config's hooks, and the one that says how far it is."""
        super().register_hooks(*args, **options)
        if not verbose():
            self.register_hook(ProgressHook())

    def train(self) -> nn.Module:
        """Train, without what others print."""
        with without_prints():
            return super().train()

    def test(self) -> dict[str, float]:
        """Return the metrics, without what others print."""
        with without_prints():
            return super().test()

    @master_only
    def dump_config(self) -> None:
        """Write the whole config into the work dir, or into the run's own folder where a user's file has the name."""
        path = Path(self.work_dir) / Path(self.cfg.filename).name
        if path.exists() and (path.samefile(self.cfg.filename) or not _is_dump(path)):
            kept, path = path, Path(self.log_dir) / path.name
            tell(f"{kept} stays as it is: the config of this run is {path}")
        write_atomic(path, HEAD + self.cfg.pretty_text)


def _is_dump(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HEAD)) == HEAD.encode()


def check_work_dir(config: Config) -> None:
    """Look whether a training can write its checkpoints into the work dir. Raises UserError where it would write over
    those of others, or over the one that it begins with."""
    folder = named_folder(config.work_dir)
    begins = None if config.get("resume") else config.get("load_from")
    check_outputs({"the work dir's": (folder / "last.pth", ".pth")}, begins)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    taken = [path.name for path in found if CHECKPOINT.fullmatch(path.name)]
    if taken and not config.get("resume") and not any(RUN.fullmatch(path.name) for path in found):
        raise UserError(
            f"{folder} holds {taken[0]} and no log of a run, so a training would write over another's: give another "
            "--work-dir, or --resume"
        )
