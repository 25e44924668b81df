"""Write the commands that a search's settings lead to, ready to be typed: the training of its super-network, and the
way of its winner to the board. They hold the data, the limits and the source that the search was given."""

import os
from pathlib import Path
from shlex import quote

import yaml

from ..core.errors import UserError
from ..core.types import PlainDict
from .config import SearchConfig

CONFIG = "CONFIG.py"  # where the settings name no detector's config
ADAM = " --adam --lr 0.003"  # configs/det/supernet_bccd.yml: a detector's loss does not bear the classifiers' rate


def check_trained(config: SearchConfig) -> None:
    """Raise UserError with the whole command of its training where the super-network is not there."""
    if not Path(config.supernet).exists():
        raise UserError(f"no super-network at {config.supernet}: train it first with `{train_supernet(config)}`")


def train_supernet(config: SearchConfig) -> str:
    """Return the command that trains the search's super-network on its data."""
    more = ADAM if _detectors(config) else ""
    return (
        f"mcunet train-supernet --space {_path(config.space)} --data {data_word(config.data)}{more} "
        f"--out {_path(config.supernet)}"
    )


def to_board(config: SearchConfig, out: Path) -> list[str]:
    """Return the commands that bring the winner in the folder `out` to its board, within the search's limits."""
    if config.boards:
        return [f"mcunet search export --out {_path(out)} --pareto"]
    limits = f" --arena-kb {int(config.max_sram_kb)}" if config.max_sram_kb is not None else ""
    limits += f" --source {config.source}" if config.source is not None else ""
    board, arch, data = _path(config.board), _path(Path(out) / "best.json"), data_word(config.data)
    if config.detector is not None:
        detector, weights = _path(config.data.get("config", CONFIG)), _path(Path(out) / "best.pth")
        return [
            f"mcunet train {detector} --work-dir {_path(Path(out) / 'detector')} "
            f"--cfg-options model.backbone.arch={arch} model.backbone.init_cfg.checkpoint={weights}",
            f"mcunet deploy {detector} {_path(Path(out) / 'detector/last.pth')} --boards {board}{limits} "
            f"-o {_path(Path(out) / 'board')} --cfg-options model.backbone.arch={arch}",
        ]
    files = ("best.pth", "best_tuned.pth", "best.onnx", "best.int8.onnx", "fw")
    weights, tuned, floats, int8, fw = (_path(Path(out) / name) for name in files)
    return [
        f"mcunet finetune {arch} {weights} --data {data}",
        f"mcunet export {arch} {tuned} -o {floats}",
        f"mcunet quantize {floats} --calib {data} -o {int8}",
        f"mcunet generate {int8} --board {board}{limits} -o {fw}",
    ]


def data_word(data: PlainDict) -> str:
    """Return data as --data takes them, quoted for a shell: KIND, KIND:ROOT or a YAML mapping."""
    data = {key: _relative(value) if key in ("root", "config") else value for key, value in data.items()}
    kind, root = data.get("kind", "digits"), data.get("root")
    if not data.keys() - {"kind", "root"}:
        return quote(kind if root is None else f"{kind}:{root}")
    return quote(yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=1 << 20).strip())


def _detectors(config: SearchConfig) -> bool:
    return "." in config.data.get("kind", "digits")


def _path(path: str | Path) -> str:
    return quote(_relative(path))


def _relative(path: str | Path) -> str:
    """Return a path below the current folder as one from there, as a user would type it."""
    inside = Path(path).is_absolute() and Path(path).is_relative_to(Path.cwd())
    return os.path.relpath(path) if inside else str(path)
