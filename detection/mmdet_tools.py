"""Run mmdet's own tools on this project's configs: python -m detection.mmdet_tools train configs/det/yolov3_bccd.py ...

Two things stand between them. mmdet imports operators of mmcv that only `import detection` provides, before it reads a
config's custom_imports. And our configs leave the image's size to the architecture. So the plug-in comes first here,
and the tool is given the config as `load_config` makes it, written out whole. All further arguments are the tool's.
"""

import argparse
import runpy
import sys
import tempfile
from pathlib import Path

import mmdet
from mmengine.config import DictAction
from mmengine.runner import Runner

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.types import PlainDict
from nni_mcunet.core.validate import short

from .config.config import load_config
from .training.work_dir import WorkDirRunner

TOOLS = Path(mmdet.__file__).parent / ".mim/tools"


def find_tool(name: str) -> Path:
    """Find a tool by name, 'train' or 'browse_dataset'. Raises UserError with the names there are."""
    deepest_first = sorted(TOOLS.rglob("*.py"), key=lambda path: (-len(path.parts), path))
    tools = {path.stem: path for path in deepest_first}  # browse_dataset is the one of detection, not of tracking
    if name not in tools:
        raise UserError(f"mmdet has no tool {short(name)}; it has {', '.join(tools)}")
    return tools[name]


def with_config(arguments: list[str], folder: Path) -> list[str]:
    """Replace the first argument that is a config file of ours by that config written out into `folder`, with what
    --cfg-options says (which stay there: tools merge them again). Other arguments are as they were."""
    configs = [i for i, word in enumerate(arguments) if word.endswith(".py") and Path(word).is_file()]
    if not configs:
        return arguments
    config = load_config(arguments[configs[0]], _options(arguments))
    whole = folder / Path(arguments[configs[0]]).name  # the name decides on mmdet's default work_dir
    config.dump(whole)
    return arguments[: configs[0]] + [str(whole)] + arguments[configs[0] + 1 :]


def _options(arguments: list[str]) -> PlainDict:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    return parser.parse_known_args(arguments)[0].cfg_options


def main() -> None:
    """Run the tool that the command line names."""
    if len(sys.argv) < 2:
        raise UserError("usage: python -m detection.mmdet_tools TOOL ...")
    tool = find_tool(sys.argv[1])
    Runner.dump_config = WorkDirRunner.dump_config  # the tools make their runners
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [str(tool), *with_config(sys.argv[2:], Path(folder))]
        runpy.run_path(str(tool), run_name="__main__")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
