"""Settings of a search: the tuner's classArgs in an NNI experiment's YAML. Unknown keys are errors."""

import math
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

from ..core.boards import get_board
from ..core.build import YoloHead, build_graph
from ..core.errors import UserError
from .constraint import Limits
from .evolution import Evolution
from .space import load_space


class ConfigError(UserError):
    """A wrong key or value in a search's settings."""


@dataclass(frozen=True)
class SearchConfig:
    """classArgs of EvolutionTuner.

    space        preset (demo, mcunet384) or a file, see space.py
    board        name or .json file, see core/boards.py; max_sram_kb: what of its SRAM the network may take, when the
                 application wants the rest; max_mmacs: million multiply-accumulates an inference may take
    detector     classes, taps, width, anchors of the YOLOv3 head the network will carry, counted with it
    supernet     checkpoint of the trained super-network; relative to the experiment's trialCodeDirectory, as is
    out          the folder of history.jsonl, best.json and, in the end, done.json
    batch        candidates a trial evaluates: a trial costs seconds before its first
    the rest     of the evolution, as in the paper
    """

    space: str
    board: str
    supernet: str
    out: str
    max_sram_kb: float | None = None
    max_mmacs: float | None = None
    detector: dict | None = None
    seed: int = 0
    population: int = 100
    parents: int = 20
    iterations: int = 30
    mutation: float = 0.1
    batch: int = 50

    def __post_init__(self):
        wanted = {
            "a non-empty string": (("space", "board", "supernet", "out"), lambda v: isinstance(v, str) and v.strip()),
            "a positive integer": (("population", "parents", "batch"), lambda v: _is(v, int) and v > 0),
            "an integer from 0": (("iterations", "seed"), lambda v: _is(v, int) and v >= 0),
            "a number from 0 to 1": (("mutation",), lambda v: _is(v, int, float) and 0 <= v <= 1),
            "a positive number": (
                ("max_sram_kb", "max_mmacs"),
                lambda v: v is None or (_is(v, int, float) and math.isfinite(v) and v > 0),
            ),
        }
        for what, (names, right) in wanted.items():
            for name in names:
                if not right(getattr(self, name)):
                    raise ConfigError(f"{name} is {getattr(self, name)!r}: {what} is wanted")
        self._yolo()

    @classmethod
    def from_dict(cls, data: dict) -> "SearchConfig":
        _known(data, cls, "classArgs")
        return cls(**data)

    def at(self, folder: Path) -> "SearchConfig":
        """The same with its paths taken from `folder` where they are relative."""
        return replace(self, supernet=str(Path(folder) / self.supernet), out=str(Path(folder) / self.out))

    def limits(self) -> Limits:
        """Raises ConfigError or BoardError."""
        board = get_board(self.board)
        if self.max_sram_kb is not None:
            allowed = int(self.max_sram_kb * 1024)
            if allowed > board.arena_limit:
                raise ConfigError(
                    f"max_sram_kb is {self.max_sram_kb}: {board.name} has {board.arena_limit / 1024:g} kB for a network"
                )
            board = replace(board, reserved_sram=board.sram - allowed)
        macs = None if self.max_mmacs is None else int(self.max_mmacs * 1e6)
        return Limits(board, macs, self._yolo())

    def _yolo(self) -> YoloHead | None:
        if self.detector is None:
            return None
        _known(self.detector, YoloHead, "classArgs.detector")
        return YoloHead(**self.detector)

    def evolution(self, search_space: dict | None = None) -> Evolution:
        """The search these settings describe, in the part of the space that an NNI search space leaves."""
        space, limits = load_space(self.space), self.limits()
        space = space.narrowed(search_space) if search_space is not None else space
        build_graph(space.spec(space.largest()), limits.yolo)  # taps that are no stages: an ArchError now
        return Evolution(space, limits.check, self.seed, self.population, self.parents, self.iterations, self.mutation)

    @property
    def trials(self) -> int:
        """Trials of a whole search: what NNI's maxTrialNumber must be for the experiment to end as DONE."""
        return -(-self.population // self.batch) * (1 + self.iterations)


def _is(value, *kinds: type) -> bool:
    """Of one of these kinds; true and false, integers to Python, are not."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _known(data, cls, where: str) -> None:
    names = [f.name for f in fields(cls)]
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is {data!r}: a mapping with the keys {', '.join(names)} is wanted")
    for key in data:
        if key not in names:
            raise ConfigError(f"{where} has the unknown key '{key}': known are {', '.join(names)}")
    for field in fields(cls):
        if field.default is MISSING and field.name not in data:
            raise ConfigError(f"{where} lacks the key '{field.name}'")
