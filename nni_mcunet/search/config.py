"""Read a search's settings: the tuner's classArgs, and what surrounds them in an NNI experiment's YAML.

An unknown key is an error. Nothing is started here, and NNI is not imported: experiment_file.py checks NNI's own keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ..core.boards import get_board
from ..core.errors import UserError, reason_of
from ..core.ir.build import YOLOS, Yolo, build_graph
from ..core.plan.latency import cycle_table
from ..core.plan.picture_source import SOURCES
from ..core.plan.plan import ENDS
from ..core.types import Plain, PlainDict
from ..core.validate import check_fields, check_keys, read_json, read_yaml, short
from .constraint import Limits
from .evolution import Evolution
from .objectives import COSTS, Boards, Objectives
from .space import load_space

LARGEST = 100_000  # networks of a generation, a thousand times the paper's: beyond it the number is a slip
MOST = 1e12  # kB, million MACs or milliseconds: beyond it a limit is a slip of the keyboard
HALOS = {"clip": ("clip",), "cache": ("cache",), "best": ENDS}


class ConfigError(UserError):
    """Report a wrong key or value in a search's settings."""


class ExperimentError(UserError):
    """Report a wrong key in an experiment's YAML."""


@dataclass(frozen=True)
class SearchConfig:
    """Hold the classArgs of EvolutionTuner.

    base         a YAML file with these keys: what this mapping does not say. It may have a base itself
    space        preset (demo, mcunet384, ...) or a file, see space.py
    board        name or a .yml or .json file, see core/boards; max_sram_kb, max_flash_kb: what of its memory the
                 network may take (flash: its constants), when the application wants the rest
    max_mmacs    million multiply-accumulates an inference may take; max_latency_ms: milliseconds on the board, an
                 estimate, see core/plan/latency.py
    patches      the p of the grids p x p that may be tried; [1]: per layer only
    halo         what patches share is computed again (clip) or kept (cache); best: what costs less and fits
    source       of the board's picture, whose callback takes SRAM besides the network: frame, rgb565, lines, jpeg_420,
                 ..., see core/plan/picture_source.py; left out, the network may have all
    detector     the head that the network will carry, counted with it: type (yolov3 unless it is yolox), classes, taps
                 (stages it reads, fine to coarse), width (of its neck); of a yolov3 anchors (a cell, 3), of a yolox
                 feat_channels and stacked_convs
    objectives   what counts besides the score, in a search for a front by NSGA-II: some of sram, flash, macs, ms and
                 board, see objectives.py; none: one best network by the paper's evolution
    boards       further boards of one front: a candidate is judged once, by the plan for the smallest that it fits
    data         kind, root and options of the pictures to judge on, see data/__init__.py; for detectors kind
                 detection.DetectorData and the config of one, whose head must be the `detector`
    supernet     checkpoint of the trained super-network
    out          the folder of history.jsonl, best.json and, in the end, done.json
    batch        candidates a trial evaluates at most: a generation is spread over all slots, see nni/tuner.py
    sieve        a generation is bred in so many rounds by scores that a predictor learns from those so far, and keeps
                 the best, see predictor.py; its population may be a few dozen. 1: all are judged, as in the paper
    retries      how often a failed trial's candidates are evaluated again before they are given up
    the rest     of the evolution, as in the paper; parents: 0 is random search

    Relative paths begin at the experiment's trialCodeDirectory, those in a base file too.
    """

    space: str
    board: str
    supernet: str
    out: str
    max_sram_kb: float | None = None
    max_flash_kb: float | None = None
    max_mmacs: float | None = None
    max_latency_ms: float | None = None
    patches: tuple[int, ...] = (1, 2, 3, 4)
    halo: str = "clip"
    source: str | None = None
    detector: PlainDict | None = None
    objectives: tuple[str, ...] = ()
    boards: tuple[str, ...] = ()
    data: PlainDict = field(default_factory=lambda: {"kind": "digits"})
    seed: int = 0
    population: int = 100
    parents: int = 20
    iterations: int = 30
    mutation: float = 0.1
    batch: int = 50
    sieve: int = 1
    retries: int = 2

    def __post_init__(self) -> None:
        limits = ("max_sram_kb", "max_flash_kb", "max_mmacs", "max_latency_ms")
        expected: dict[str, tuple[tuple[str, ...], Callable[[Plain], object]]] = {
            "a non-empty string": (("space", "board", "supernet", "out"), lambda v: isinstance(v, str) and v.strip()),
            f"a positive integer up to {LARGEST:,}": (
                ("population", "batch"),
                lambda v: _is(v, int) and 0 < v <= LARGEST,
            ),
            "an integer from 1 to 1,000": (("sieve",), lambda v: _is(v, int) and 1 <= v <= 1000),
            "an integer from 0": (
                ("iterations", "seed", "parents", "retries"),
                lambda v: _is(v, int) and v >= 0,
            ),
            "a number from 0 to 1": (("mutation",), lambda v: _is(v, int, float) and 0 <= v <= 1),
            "a positive number": (
                limits,
                lambda v: v is None or (_is(v, int, float) and 0 < v <= MOST),
            ),
            "a list of integers from 1 to 64": (
                ("patches",),
                lambda v: isinstance(v, (list, tuple)) and v and all(_is(p, int) and 1 <= p <= 64 for p in v),
            ),
            f"one of {', '.join(HALOS)}": (("halo",), lambda v: isinstance(v, str) and v in HALOS),
            f"one of {', '.join(SOURCES)}": (("source",), lambda v: v is None or (isinstance(v, str) and v in SOURCES)),
            f"a list of different words of {', '.join(COSTS)}": (
                ("objectives",),
                lambda v: isinstance(v, (list, tuple)) and all(v.count(w) == 1 and w in COSTS for w in v),
            ),
            "a list of boards": (
                ("boards",),
                lambda v: isinstance(v, (list, tuple)) and all(isinstance(name, str) and name for name in v),
            ),
            "a mapping with a kind": (("data",), lambda v: isinstance(v, dict) and isinstance(v.get("kind"), str)),
        }
        for what, (names, right) in expected.items():
            for name in names:
                if not right(getattr(self, name)):
                    raise ConfigError(f"{name} is {short(getattr(self, name))}: expected {what}")
        for name in ("patches", "objectives", "boards"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_front()
        self._yolo()

    @classmethod
    def from_dict(cls, data: PlainDict, folder: Path = Path()) -> "SearchConfig":
        """Read classArgs. Relative paths, that of `base` included, begin at `folder`. Raises ConfigError."""
        data = _with_base(data, Path(folder), [])
        check_fields(data, cls, "classArgs", ConfigError)
        return cls(**data).at(folder)

    def at(self, folder: Path) -> "SearchConfig":
        """Return the same settings with relative paths taken from `folder`."""

        def there(path: str, always: bool = True) -> str:
            return str(Path(folder) / path) if always or Path(path).suffix in (".yml", ".yaml", ".json") else path

        data = {k: there(v) if k in ("root", "config") and isinstance(v, str) else v for k, v in self.data.items()}
        return replace(
            self,
            data=data,
            supernet=there(self.supernet),
            out=there(self.out),
            space=there(self.space, False),
            board=there(self.board, False),
            boards=tuple(there(name, False) for name in self.boards),
        )

    def limits(self) -> Limits:
        """Return what a candidate must satisfy. Raises ConfigError or BoardError."""
        board = get_board(self.board)
        sram = _allowed("max_sram_kb", self.max_sram_kb, board.usable, board.name)
        flash = _allowed("max_flash_kb", self.max_flash_kb, board.model_limit, board.name)
        board = replace(board.with_arena(sram), reserved_flash=board.flash - flash)
        if self.max_latency_ms is not None:
            cycle_table(board)  # so that an unknown core is an error now, not at the first candidate
        macs = None if self.max_mmacs is None else int(self.max_mmacs * 1e6)
        return Limits(board, macs, self._yolo(), self.max_latency_ms, self.patches, HALOS[self.halo], self.source)

    def _check_front(self) -> None:
        """Raise ConfigError for boards and objectives that say nothing together."""
        if bool(self.boards) > bool(self.objectives) or ("board" in self.objectives) > bool(self.boards):
            raise ConfigError(
                "objectives and boards: the objective board counts the boards of boards, and these need an objective, "
                "such as [board]"
            )
        if self.objectives and self.sieve > 1:
            raise ConfigError("sieve keeps what has the highest score only: leave it or objectives out")
        if self.boards and "ms" in self.objectives:
            raise ConfigError("objectives: ms is of one board: leave boards out, or ms")
        if self.boards and (self.max_sram_kb, self.max_flash_kb) != (None, None):
            raise ConfigError("max_sram_kb and max_flash_kb are of one board: give boards whose files say less")

    def every_limit(self) -> Boards:
        """Return the limits of all boards, the smallest first. Raises ConfigError or BoardError."""
        named = dict.fromkeys((self.board, *self.boards))
        each = [replace(self, board=name, boards=(), objectives=()).limits() for name in named]
        return Boards(tuple(sorted(each, key=lambda limits: (limits.board.usable, limits.board.model_limit))))

    def _yolo(self) -> Yolo | None:
        if self.detector is None:
            return None
        kind, fields = "yolov3", self.detector
        if isinstance(fields, dict):  # else check_fields says what it is
            kind = fields.get("type", kind)
            fields = {key: value for key, value in fields.items() if key != "type"}
        if kind not in tuple(YOLOS):
            raise ConfigError(f"classArgs.detector: type is {short(kind)}: expected one of {', '.join(YOLOS)}")
        check_fields(fields, YOLOS[kind], "classArgs.detector", ConfigError)
        return YOLOS[kind](**fields)

    def evolution(self, search_space: PlainDict | None = None) -> Evolution:
        """Build the search that these settings describe, in the part of the space that an NNI search space leaves."""
        space, limits = load_space(self.space), self.limits()
        space = space.narrowed(search_space) if search_space is not None else space
        build_graph(space.spec(space.largest()), limits.yolo)  # so that taps that are no stages are an ArchError now
        boards = self.every_limit()
        order = Objectives(self.objectives, space, boards).order if self.objectives else None
        shares = [limits.check for limits in boards.each] if self.boards else ()
        return Evolution(
            space, boards.check, self.seed, self.population, self.parents, self.iterations, self.mutation,
            order, shares, self.sieve,
        )  # fmt: skip

    @property
    def trials(self) -> int:
        """Count the trials that a whole search needs at least. NNI's maxTrialNumber must be as many."""
        return -(-self.population // self.batch) * (1 + self.iterations)


def search_config(config: PlainDict) -> SearchConfig:
    """Read the tuner's settings as the tuner does, with paths from trialCodeDirectory. Raises UserError."""
    args = config["tuner"].get("classArgs") or {}
    return SearchConfig.from_dict(args, Path(config.get("trialCodeDirectory", ".")))


def check_trials(config: PlainDict, search: SearchConfig) -> None:
    """Check that a new experiment may have all its trials. The tuner sets the number in the end, to less when a space
    is exhausted. Raises ExperimentError."""
    most = config.get("maxTrialNumber")
    if most is not None and most < search.trials:
        raise ExperimentError(
            f"maxTrialNumber is {most}: this search needs {search.trials} trials or more, ceil(population / batch) "
            "* (1 + iterations); leave the key out, the tuner ends the experiment"
        )


def search_space(config: PlainDict) -> PlainDict:
    """Return an experiment's search space as Space.narrowed reads it. Raises ExperimentError."""
    if ("searchSpace" in config) == ("searchSpaceFile" in config):
        raise ExperimentError(
            "expected one of searchSpaceFile and searchSpace: name the file that Space.to_nni() writes"
        )
    space, where = config.get("searchSpace"), "searchSpace"
    if "searchSpaceFile" in config:
        where = config["searchSpaceFile"]
        space = read_json(where, ExperimentError)
    if not isinstance(space, dict):
        raise ExperimentError(f"{where} is {short(space)}: expected an object of genes, as Space.to_nni() writes it")
    return space


def _is(value: Plain, *kinds: type) -> bool:
    """Tell whether a value is of one of these kinds; true and false, integers to Python, are not."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _allowed(name: str, kb: float | None, there: int, board: str) -> int:
    """Return the bytes of a memory that the network may take: the whole memory, unless the settings say less."""
    allowed = there if kb is None else int(kb * 1024)
    if allowed > there:
        raise ConfigError(f"{name} is {kb}: {board} has {there / 1024:g} kB for a network")
    return allowed


def _with_base(data: PlainDict, folder: Path, above: list[Path]) -> PlainDict:
    """Lay the mapping over that of its base file, and so on. `above`: the files on the way here."""
    if not isinstance(data, dict):
        return data
    own = {key: value for key, value in data.items() if key != "base"}
    if data.get("base") is None:
        return own
    if not isinstance(data["base"], str):
        raise ConfigError(f"base is {short(data['base'])}: expected the path of a YAML file")
    path = (folder / data["base"]).resolve()
    if path in above:
        raise ConfigError(f"base: {path} is its own base")
    try:
        base = read_yaml(path, ConfigError)
    except OSError as error:
        raise ConfigError(f"base: {reason_of(error)}: {path}") from None
    check_keys(base, sorted([*(f.name for f in fields(SearchConfig)), "base"]), f"base {path}", kind=ConfigError)
    return _with_base(base, folder, [*above, path]) | own
