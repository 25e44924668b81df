"""Keep a user's files in a work dir, where mmengine writes the config and checkpoints over whatever has their names."""

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.runner import Runner

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.file_sets import named_folder
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.outputs import check_outputs

HEAD = "# The whole config of the last run in this folder, which the next one replaces.\n"
RUN = re.compile(r"\d{8}_\d{6}")  # a folder with the log of one run
CHECKPOINT = re.compile(r"(epoch|iter)_\d+\.pth|last_checkpoint")


class WorkDirRunner(Runner):
    """Run as mmengine does, but leave a file that has the config's name and is not an earlier run's."""

    @master_only
    def dump_config(self) -> None:
        """Write the whole config into the work dir, or into the run's own folder where a user's file has the name."""
        path = Path(self.work_dir) / Path(self.cfg.filename).name
        if path.exists() and (path.samefile(self.cfg.filename) or not _is_dump(path)):
            kept, path = path, Path(self.log_dir) / path.name
            print_log(f"{kept} stays as it is: the config of this run is {path}", "current")
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
