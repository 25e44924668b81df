"""The search space as data (the paper's appendix B) and the moves in it: random, mutate, crossover.

A candidate is a plain dict of genes, the JSON that NNI hands to trials: `r`, and for stage i = 1.. `s{i}_d`, `s{i}_w`,
and for its block j `s{i}_b{j}_k`, `s{i}_b{j}_e`, the block's own name in the graph. p and n are no genes: the scheduler
finds the best for each network (section 3.3). Whether a network fits is constraint.py's to say, not this module's.
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import yaml

from ..core.arch import ArchSpec, Block, Schedule, _natural, make_divisible
from ..core.errors import UserError

Candidate = dict[str, int | float]
CHOICES = ("k", "e", "d", "w")


class SpaceError(UserError):
    """A malformed search space, or a candidate that is not of it."""


@dataclass(frozen=True)
class StageSpace:
    """A stage: base channels c (times w), stride s of its first block, and the choices of its genes."""

    c: int
    s: int
    k: tuple[int, ...]
    e: tuple[int, ...]
    d: tuple[int, ...]
    w: tuple[float, ...]


@dataclass(frozen=True)
class Space:
    """Choices of every gene, and what is fixed.

    r       resolutions (square)
    stem    base channels of the first convolution; `first` those of the block without a depth-wise, stage 0. Both are
            scaled by the w of stage 1
    head    channels of the last 1x1 convolution (never scaled), classes: outputs of the classifier
    only    genes whose choices were narrowed: ((gene, choices), ...)
    """

    name: str
    r: tuple[int, ...]
    stem: int
    first: int
    stages: tuple[StageSpace, ...]
    head: int | None = None
    classes: int | None = None
    only: tuple[tuple[str, tuple], ...] = ()

    @cached_property
    def genes(self) -> dict[str, tuple]:
        """Gene -> its choices, rising."""
        genes = {"r": self.r}
        for i, stage in enumerate(self.stages, 1):
            genes |= {f"s{i}_d": stage.d, f"s{i}_w": stage.w}
            for j in range(max(stage.d)):
                genes |= {f"s{i}_b{j}_k": stage.k, f"s{i}_b{j}_e": stage.e}
        return genes | dict(self.only)

    @property
    def size(self) -> int:
        """Number of candidates, genes of skipped blocks not counted."""
        total = len(self.genes["r"])
        for i in range(1, len(self.stages) + 1):
            block = [len(self.genes[f"s{i}_b{j}_k"]) * len(self.genes[f"s{i}_b{j}_e"]) for j in range(self._most(i))]
            total *= len(self.genes[f"s{i}_w"]) * sum(prod(block[:d]) for d in self.genes[f"s{i}_d"])
        return total

    def _most(self, i: int) -> int:
        return max(self.genes[f"s{i}_d"])

    def largest(self) -> Candidate:
        """The network that contains all others: the super-network."""
        return {gene: choices[-1] for gene, choices in self.genes.items()}

    def smallest(self) -> Candidate:
        return {gene: choices[0] for gene, choices in self.genes.items()}

    def random(self, rng: np.random.Generator) -> Candidate:
        return {gene: _pick(rng, choices) for gene, choices in self.genes.items()}

    def mutate(self, parent: Candidate, rng: np.random.Generator, rate: float) -> Candidate:
        """Each gene drawn anew with probability `rate`."""
        return {g: _pick(rng, choices) if rng.random() < rate else parent[g] for g, choices in self.genes.items()}

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate:
        """Each gene from either parent."""
        return {gene: (a, b)[int(rng.integers(2))][gene] for gene in self.genes}

    def spec(self, candidate: Candidate, schedule: Schedule | None = None) -> ArchSpec:
        """The network of a candidate. Two candidates are the same network exactly when their specs are equal: genes of
        skipped blocks, and widths that round to the same channels, leave no trace. Raises SpaceError."""
        self.validate(candidate)
        w = candidate["s1_w"]
        cin = make_divisible(self.first * w)
        stages = [(Block(0, 1, 0, cin),)]
        for i, stage in enumerate(self.stages, 1):
            cout, blocks = make_divisible(stage.c * candidate[f"s{i}_w"]), []
            for j in range(candidate[f"s{i}_d"]):
                k, e = candidate[f"s{i}_b{j}_k"], candidate[f"s{i}_b{j}_e"]
                blocks.append(Block(k, stage.s if j == 0 else 1, make_divisible(cin * e), cout))
                cin = cout
            stages.append(tuple(blocks))
        stem = make_divisible(self.stem * w)
        schedule = schedule or Schedule()
        return ArchSpec(self.name, candidate["r"], stem, tuple(stages), self.head, self.classes, schedule)

    def validate(self, candidate: Candidate) -> None:
        """Raises SpaceError naming the first gene that is missing, unknown or has a value that is no choice."""
        for gene in [*candidate, *self.genes]:
            if gene not in self.genes:
                raise SpaceError(f"space {self.name} has no gene '{gene}'")
            if gene not in candidate:
                raise SpaceError(f"the candidate lacks the gene '{gene}' of space {self.name}")
            if candidate[gene] not in self.genes[gene]:
                raise SpaceError(f"gene {gene} is {candidate[gene]!r}: one of {list(self.genes[gene])} is wanted")

    def to_nni(self) -> dict:
        """NNI's search_space.json."""
        return {gene: {"_type": "choice", "_value": list(choices)} for gene, choices in self.genes.items()}

    def narrowed(self, search_space: dict) -> "Space":
        """The part of this space that an NNI search space leaves: inverse of to_nni. Raises SpaceError."""
        if not isinstance(search_space, dict):
            raise SpaceError(f"search space: an object of genes, as Space.to_nni() gives, not {search_space!r}")
        only = []
        for gene, entry in search_space.items():
            if gene not in self.genes:
                raise SpaceError(f"search space: space {self.name} has no gene '{gene}'")
            offered = entry.get("_value") if isinstance(entry, dict) and entry.get("_type") == "choice" else None
            if not isinstance(offered, (list, tuple)) or not offered:
                raise SpaceError(f'search space: {gene} must be {{"_type": "choice", "_value": [...]}}, not {entry!r}')
            unknown = [v for v in offered if v not in self.genes[gene]]
            if unknown:
                raise SpaceError(
                    f"search space: {gene} offers {unknown[0]!r}, space {self.name} has {list(self.genes[gene])}"
                )
            left = tuple(v for v in self.genes[gene] if v in offered)
            if left != self.genes[gene]:
                only.append((gene, left))
        return replace(self, only=tuple(dict([*self.only, *only]).items()))

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data) -> "Space":
        """From a parsed YAML or JSON file. k, e, d, w may stand once, for every stage that does not say its own."""
        _known(data, {f.name for f in fields(cls)} | set(CHOICES), "the space")
        data = dict(data)
        common = {name: data.pop(name) for name in CHOICES if name in data}
        if not isinstance(data.get("stages"), (list, tuple)) or not data["stages"]:
            raise SpaceError("the space lacks 'stages': a list of {c: base channels, s: stride}")
        stages = [_stage(i, stage, common) for i, stage in enumerate(data["stages"], 1)]
        for name in ("name", "r", "stem", "first"):
            if name not in data:
                raise SpaceError(f"the space lacks the key '{name}'")
        for name in ("stem", "first"):
            _natural(data[name], name)
        only = data.pop("only", ())
        if not isinstance(only, (list, tuple)) or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in only
        ):
            raise SpaceError(f"only is {only!r}: a list of [gene, choices] is wanted")
        space = cls(**data | {"r": _choices(data["r"], "r"), "stages": tuple(stages)})
        for extreme in (space.smallest(), space.largest()):
            space.spec(extreme)  # an impossible value is an ArchError here, not in the middle of a search
        return space.narrowed({gene: {"_type": "choice", "_value": choices} for gene, choices in only})


def load_space(source: str) -> Space:
    """A preset (demo, mcunet384) or a YAML or JSON file. Raises SpaceError."""
    presets = {path.stem: path for path in Path(__file__).parent.glob("*.yml")}
    path = presets.get(str(source), Path(source))
    if path not in presets.values() and path.suffix not in (".yml", ".yaml", ".json"):
        raise SpaceError(f"unknown space '{source}': use one of {', '.join(sorted(presets))} or a .yml or .json file")
    try:
        text = path.read_text()
        return Space.from_dict(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError, UserError) as error:
        raise SpaceError(f"{path}: {' '.join(str(error).split())}") from None


def _pick(rng: np.random.Generator, choices: tuple):
    return choices[int(rng.integers(len(choices)))]


def _known(data, names: set[str], where: str) -> None:
    if not isinstance(data, dict):
        raise SpaceError(f"{where} is {data!r}: a mapping with the keys {', '.join(sorted(names))} is wanted")
    for key in data:
        if key not in names:
            raise SpaceError(f"{where} has the unknown key '{key}': known are {', '.join(sorted(names))}")


def _choices(values, what: str) -> tuple:
    values = values if isinstance(values, (list, tuple)) else [values]
    kinds, kind = ((int, float), "numbers") if what.endswith(": w") else ((int,), "integers")
    if not values or not all(isinstance(v, kinds) and not isinstance(v, bool) and 0 < v < math.inf for v in values):
        raise SpaceError(f"{what} is {values!r}: a list of positive {kind} is wanted")
    return tuple(sorted(set(values)))


def _stage(i: int, stage, common: dict) -> StageSpace:
    names = {f.name for f in fields(StageSpace)}
    _known(stage, names, f"stage {i}")
    stage = common | stage
    missing = sorted(names - set(stage))
    if missing:
        raise SpaceError(f"stage {i} lacks the key '{missing[0]}'")
    c, s = _natural(stage["c"], f"stage {i}: c"), _natural(stage["s"], f"stage {i}: s", high=4)
    space = StageSpace(c, s, **{name: _choices(stage[name], f"stage {i}: {name}") for name in CHOICES})
    _natural(space.d[-1], f"stage {i}: d", high=100)
    for k in space.k:
        Block(k, s, c, c)  # an even kernel between two odd ones is said now
    return space
