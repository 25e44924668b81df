"""Keep a user's files in a work dir, where mmengine writes the config and checkpoints over whatever has their names."""

import os
import re
from contextlib import suppress
from itertools import count
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
from nni_mcunet.core.outputs import check_outputs, marked
from nni_mcunet.core.types import FilePath, Plain

from ..models.checkpoint import latest_checkpoint, read_checkpoint
from ..said import only_ours, tell, without_prints
from .progress_hook import ProgressHook

HEAD = "# The whole config of the last run in this folder, which the next one replaces.\n"
RUN = re.compile(r"\d{8}_\d{6}")  # a folder with the log of one run
LAST = "last.pth"  # of a finished training
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
        """Train, without what others print. The bar ends with Ctrl-C, too."""
        try:
            with without_prints():
                return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, ProgressHook):
                    hook.after_train(self)

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
    if begins and "://" not in begins and not Path(begins).exists():
        raise UserError(
            f"{config.filename}: load_from names {begins}, and no such file is there: train that network first, or "
            "name another by --cfg-options load_from=LAST.pth"
        )
    check_outputs({"the work dir's": (folder / LAST, ".pth")}, begins)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    taken = [path.name for path in found if CHECKPOINT.fullmatch(path.name)]
    if taken and not config.get("resume") and not any(RUN.fullmatch(path.name) for path in found):
        raise UserError(
            f"{folder} holds {taken[0]} and no log of a run, so a training would write over another's: give another "
            "--work-dir, or --resume"
        )


def unfinished(folder: FilePath) -> Path | None:
    """Find the checkpoint from which an unfinished training in a work dir can go on: the one that was written last,
    unless last.pth, which a finished one leaves, is its copy."""
    found, whole = latest_checkpoint(folder), Path(folder, LAST)
    if found is not None and whole.is_file():
        with suppress(UserError):
            if _moment(whole) == _moment(found):
                return None
    return found


def _moment(path: Path) -> tuple[Plain, ...]:
    meta = read_checkpoint(path).get("meta") or {}
    return tuple(meta.get(key) for key in ("time", "epoch", "iter"))


def write_last(folder: FilePath, checkpoint: FilePath) -> Path | None:
    """Write the checkpoint of a finished training as last.pth. One of another training that is there is not lost:
    returns the path that it gets, last.previous.pth or the first free last.previousN.pth."""
    last, data, kept = Path(folder, LAST), marked(Path(checkpoint).read_bytes()), None
    if last.is_file() and last.read_bytes() != data:
        paths = (last.with_name(f"last.previous{number if number > 1 else ''}.pth") for number in count(1))
        kept = next(path for path in paths if not os.path.lexists(path))
        last.rename(kept)
    write_atomic(last, data)
    return kept
