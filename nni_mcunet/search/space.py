"""Hold the search space as data (the paper's appendix B), and make the moves in it: random, mutate, crossover.

A candidate is a plain dict of genes, the JSON that NNI hands to trials: `r`, and for stage i = 1.. `s{i}_d`, `s{i}_w`,
and for its block j `s{i}_b{j}_k`, `s{i}_b{j}_e`, which begin with the block's name in the graph. Instead of one w a
stage there may be one a block or one a network, see Space.width.

p and n are no genes: the scheduler finds the best for each network (section 3.3). Whether a network fits is
constraint.py's to say, not this module's.
"""

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.ir.arch import ArchSpec, Block, Schedule, natural
from ..core.ir.published import make_divisible
from ..core.types import Plain, PlainDict
from ..core.validate import check_keys, read_plain, short
from .space_file import CHOICES, SpaceError, StageSpace, read_resolutions, read_stage, read_width, resolution, spell

Candidate = dict[str, Any]  # gene -> int, float or str, whichever the gene's choices are
Choices = tuple[Any, ...]  # of one gene, all of one type


@dataclass(frozen=True)
class Space:
    """Hold the choices of every gene, and what is fixed.

    r        resolutions: an integer for a square, "128x160" for height x width
    stem     base channels of the first convolution; `first` those of the only block of stage 0. Both are scaled by the
             w of the first block of stage 1
    first_k  kernel of that block's depth-wise convolution (MobileNetV2); 0: it has none, as in the paper
    head     channels of the last 1x1 convolution (never scaled), classes: outputs of the classifier; None: no such
             layer, as in the spaces for detection
    width    what one w scales: a "stage" (gene s{i}_w), a "block" (s{i}_b{j}_w; the shortcut is where channels agree),
             or the whole "net" (w)
    only     genes whose choices were narrowed: ((gene, choices), ...)
    """

    name: str
    r: tuple[int | str, ...]
    stem: int
    first: int
    stages: tuple[StageSpace, ...]
    head: int | None = None
    classes: int | None = None
    first_k: int = 0
    width: str = "stage"
    only: tuple[tuple[str, Choices], ...] = ()

    @cached_property
    def genes(self) -> dict[str, Choices]:
        """Map each gene to its choices, in rising order."""
        genes: dict[str, Choices] = {"r": self.r}
        for i, stage in enumerate(self.stages, 1):
            genes |= {f"s{i}_d": stage.d, self._w(i, 0): stage.w}
            for j in range(max(stage.d)):
                genes |= {f"s{i}_b{j}_k": stage.k, f"s{i}_b{j}_e": stage.e, self._w(i, j): stage.w}
        return genes | dict(self.only)

    def _w(self, i: int, j: int) -> str:
        """Name the gene of the width of block j of stage i."""
        return {"stage": f"s{i}_w", "block": f"s{i}_b{j}_w", "net": "w"}[self.width]

    @property
    def size(self) -> int:
        """Count the candidates, genes of skipped blocks left out."""
        count = {gene: len(choices) for gene, choices in self.genes.items()}
        total = prod(count.get(gene, 1) for gene in ("r", "w"))
        for i in range(1, len(self.stages) + 1):
            deepest = range(max(self.genes[f"s{i}_d"]))
            block = [prod(count.get(f"s{i}_b{j}_{letter}", 1) for letter in "kew") for j in deepest]
            total *= count.get(f"s{i}_w", 1) * sum(prod(block[:d]) for d in self.genes[f"s{i}_d"])
        return total

    @property
    def resolutions(self) -> tuple[tuple[int, int], ...]:
        """List every (h, w) a candidate may have, the fewest pixels first."""
        return tuple(resolution(r) for r in self.genes["r"])

    def resolution(self, candidate: Candidate) -> tuple[int, int]:
        """Return (h, w) of a candidate's image."""
        return resolution(candidate["r"])

    def largest(self) -> Candidate:
        """Return the candidate that contains all others: the super-network."""
        return {gene: choices[-1] for gene, choices in self.genes.items()}

    def smallest(self) -> Candidate:
        """Return the candidate whose genes all have their first choice."""
        return {gene: choices[0] for gene, choices in self.genes.items()}

    def random(self, rng: np.random.Generator) -> Candidate:
        """Draw every gene."""
        return {gene: _pick(rng, choices) for gene, choices in self.genes.items()}

    def mutate(self, parent: Candidate, rng: np.random.Generator, rate: float) -> Candidate:
        """Draw each gene anew with probability `rate`."""
        return {g: _pick(rng, choices) if rng.random() < rate else parent[g] for g, choices in self.genes.items()}

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate:
        """Take each gene from either parent."""
        return {gene: (a, b)[int(rng.integers(2))][gene] for gene in self.genes}

    def spec(self, candidate: Candidate, schedule: Schedule | None = None) -> ArchSpec:
        """Return the network of a candidate. Two candidates are the same network exactly when their specs are equal:
        genes of skipped blocks, and widths that round to the same channels, leave no trace. Raises SpaceError."""
        self.validate(candidate)
        w = candidate[self._w(1, 0)]
        stem, cin = make_divisible(self.stem * w), make_divisible(self.first * w)
        stages: list[tuple[Block, ...]] = [(Block(self.first_k, 1, stem if self.first_k else 0, cin),)]
        for i, stage in enumerate(self.stages, 1):
            blocks = []
            for j in range(candidate[f"s{i}_d"]):
                k, e = candidate[f"s{i}_b{j}_k"], candidate[f"s{i}_b{j}_e"]
                cout = make_divisible(stage.c * candidate[self._w(i, j)])
                blocks.append(Block(k, stage.s if j == 0 else 1, make_divisible(cin * e), cout))
                cin = cout
            stages.append(tuple(blocks))
        schedule, (h, w) = schedule or Schedule(), self.resolution(candidate)
        return ArchSpec(self.name, (h, w), stem, tuple(stages), self.head, self.classes, schedule)

    def candidate(self, spec: ArchSpec) -> Candidate:
        """Return the candidate of a network, the inverse of `spec`. Genes without effect get their first choice. The
        network's name and schedule do not matter. Raises SpaceError when the network is not of this space."""
        genes, cin = self.smallest() | {"r": spell(*spec.resolution)}, spec.stages[0][-1].c
        scaled = {self._w(1, 0): [(self.stem, spec.stem), (self.first, cin)]}  # gene -> (base, channels) it must give
        for i, (own, stage) in enumerate(zip(self.stages, spec.stages[1:], strict=False), 1):
            genes[f"s{i}_d"] = len(stage)
            for j, block in enumerate(stage):
                genes[f"s{i}_b{j}_k"] = block.k
                genes[f"s{i}_b{j}_e"] = self._factor(f"s{i}_b{j}_e", [(cin, block.mid)], spec)
                scaled.setdefault(self._w(i, j), []).append((own.c, block.c))
                cin = block.c
        genes |= {gene: self._factor(gene, pairs, spec) for gene, pairs in scaled.items()}
        made = replace(self.spec(genes, spec.schedule), name=spec.name)
        for field in fields(ArchSpec):
            if getattr(made, field.name) != getattr(spec, field.name) and field.compare:
                raise SpaceError(f"{spec.name} is not of space {self.name}: its {field.name} cannot be")
        return genes

    def _factor(self, gene: str, pairs: list[tuple[int, int]], spec: ArchSpec) -> float:
        """Find the gene's first choice that scales each base to its channels. Raises SpaceError."""
        for choice in self.genes.get(gene, ()):
            if all(make_divisible(base * choice) == channels for base, channels in pairs):
                return choice
        wanted = ", ".join(f"{base} into {channels}" for base, channels in dict.fromkeys(pairs))
        raise SpaceError(f"{spec.name} is not of space {self.name}: no choice of gene {gene} makes {wanted} channels")

    def validate(self, candidate: Candidate) -> None:
        """Raise SpaceError for the first gene that is missing, unknown or has a value that is no choice."""
        for gene in [*candidate, *self.genes]:
            if gene not in self.genes:
                raise SpaceError(f"space {self.name} has no gene '{gene}'")
            if gene not in candidate:
                raise SpaceError(f"the candidate lacks the gene '{gene}' of space {self.name}")
            if candidate[gene] not in self.genes[gene]:
                raise SpaceError(f"gene {gene} is {short(candidate[gene])}: expected one of {list(self.genes[gene])}")

    def to_nni(self) -> PlainDict:
        """Return NNI's search_space.json."""
        return {gene: {"_type": "choice", "_value": list(choices)} for gene, choices in self.genes.items()}

    def narrowed(self, search_space: PlainDict) -> "Space":
        """Return the part of this space that an NNI search space leaves, the inverse of to_nni. Raises SpaceError."""
        if not isinstance(search_space, dict):
            raise SpaceError(
                f"the search space is {short(search_space)}: expected an object of genes, as Space.to_nni() gives"
            )
        only = []
        for gene, entry in search_space.items():
            if gene not in self.genes:
                raise SpaceError(f"search space: space {self.name} has no gene {short(gene)}")
            offered = entry.get("_value") if isinstance(entry, dict) and entry.get("_type") == "choice" else None
            if not isinstance(offered, (list, tuple)) or not offered:
                raise SpaceError(
                    f'search space: {gene} is {short(entry)}: expected {{"_type": "choice", "_value": [...]}}'
                )
            unknown = [v for v in offered if v not in self.genes[gene]]
            if unknown:
                raise SpaceError(
                    f"search space: {gene} offers {short(unknown[0])}, space {self.name} has {list(self.genes[gene])}"
                )
            left = tuple(v for v in self.genes[gene] if v in offered)
            if left != self.genes[gene]:
                only.append((gene, left))
        return replace(self, only=tuple(dict([*self.only, *only]).items()))

    def to_dict(self) -> PlainDict:
        """Return plain values, the inverse of from_dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Plain) -> "Space":
        """Read a space from a parsed YAML or JSON file. k, e, d, w may stand once, for every stage that does not say
        its own. Raises SpaceError."""
        check_keys(data, sorted({f.name for f in fields(cls)} | set(CHOICES)), "the space", kind=SpaceError)
        data = dict(data)
        common = {name: data.pop(name) for name in CHOICES if name in data}
        if not isinstance(data.get("stages"), (list, tuple)) or not data["stages"]:
            raise SpaceError("the space lacks 'stages': a list of {c: base channels, s: stride}")
        for name in ("name", "r", "stem", "first"):
            if name not in data:
                raise SpaceError(f"the space lacks the key '{name}'")
        for name in ("stem", "first"):
            natural(data[name], name)
        natural(data.get("first_k", 0), "first_k", low=0)
        stages = tuple(read_stage(i, stage, common) for i, stage in enumerate(data["stages"], 1))
        width = read_width(data.get("width", "stage"), stages)
        only = data.pop("only", ())
        if not isinstance(only, (list, tuple)) or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in only
        ):
            raise SpaceError(f"only is {short(only)}: expected a list of [gene, choices]")
        space = cls(**data | {"r": read_resolutions(data["r"]), "stages": stages, "width": width})
        for extreme in (space.smallest(), space.largest()):
            space.spec(extreme)  # so that an impossible value is an ArchError here, not in the middle of a search
        return space.narrowed({gene: {"_type": "choice", "_value": choices} for gene, choices in only})


def load_space(source: str) -> Space:
    """Read a preset (a file of search/spaces, by its name) or a YAML or JSON file. Its `base` is a preset or a file
    beside it, with the keys that it does not say; its name is then the file's, unless it says one. Raises SpaceError,
    FileNotFoundError."""
    path = _space_file(source, Path())
    data = _with_base(path, [])
    try:
        return Space.from_dict(data)
    except UserError as error:
        raise SpaceError(f"{path}: {error}") from None


def _space_file(source: str, folder: Path) -> Path:
    """Return the file of a space: a preset's, or a path from `folder`."""
    presets = {path.stem: path for path in (Path(__file__).parent / "spaces").glob("*.yml")}
    path = presets.get(str(source), folder / source)
    if path not in presets.values() and path.suffix not in (".yml", ".yaml", ".json"):
        raise SpaceError(
            f"unknown space {short(str(source))}: use one of {', '.join(sorted(presets))} or a .yml or .json file"
        )
    return path


def _with_base(path: Path, above: list[Path]) -> Plain:
    """Read a space's file and lay it over that of its base, and so on. above: the files on the way here."""
    data = read_plain(path, SpaceError)
    if not isinstance(data, dict) or "base" not in data:
        return data
    own = {key: value for key, value in data.items() if key != "base"}
    if not isinstance(data["base"], str):
        raise SpaceError(f"{path}: base is {short(data['base'])}: expected the name of a space or of its file")
    found = _space_file(data["base"], path.parent)
    if found.resolve() in (file.resolve() for file in (*above, path)):
        raise SpaceError(f"{path}: base is {short(data['base'])}, which has this file as its base")
    base = _with_base(found, [*above, path])
    return base | {"name": path.stem} | own if isinstance(base, dict) else base


def _pick(rng: np.random.Generator, choices: Choices) -> Plain:
    return choices[int(rng.integers(len(choices)))]
