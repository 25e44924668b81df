"""Put the answer of a model to one picture into a user's terms: real values, classes, boxes."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import UserError
from ..core.types import FilePath, PlainDict
from ..core.validate import file_text, short
from ..core.view import View
from ..engine.run.generated import OutputMap
from .inputs import path_of

MOST_LIKELY = 5  # classes of a classifier that are named


@dataclass(frozen=True)
class Seen:
    """The picture as a network saw it: its `image` (w, h) in pixels, by which view, and the (w, h) of the picture's
    file, None for an array."""

    image: tuple[int, int]
    view: View
    picture: tuple[int, int] | None

    def own(self, box: Sequence[float]) -> list[float] | None:
        """Return a box of the image in the picture's pixels."""
        if self.picture is None or self.view.keep is not None:  # of a part: no detector sees one
            return None
        scale = self.view.scale(self.picture[::-1], self.image[::-1]) * 2
        return [round(value * each, 2) for value, each in zip(box, scale, strict=True)]

    def __str__(self) -> str:
        what, (w, h) = ("the network's image", self.image) if self.picture is None else ("the picture", self.picture)
        return f"{what}, {w}x{h}"


@dataclass(frozen=True, eq=False)
class Run:
    """The answer of a model to one picture.

    outputs  int8 arrays (bytes,), in the order of the model's header
    maps     of each output: name, shape (h, w, c), scale and zero point
    boxes    a detector's: {"box": [x1, y1, x2, y2] in pixels of the network's image, "score": 0 to 1, "label", "name"};
             of a picture's file also "in_picture": the same in the picture's own pixels
    top      a classifier's likeliest classes: {"class", "score", "value"}, the score as int8, the value as the network
             gives it; "name" where the names are known
    facts    figures of the board: bytes of stack, instructions under emulation, microseconds on a real one, ...;
             "board" it ran on, "made_for" the one that the C was generated for
    detector  whether the C finds boxes: there may be none on this picture
    shapes   of a Firmware's run: each output's name, with the shape that a module's forward() returns, () for others
    seen     the network's image and the picture that it was made of
    layers   of each layer, where they were asked for: instructions, estimated cycles, bytes
    """

    outputs: list[np.ndarray]
    maps: list[OutputMap]
    boxes: list[PlainDict] = field(default_factory=list)
    top: list[PlainDict] = field(default_factory=list)
    facts: PlainDict = field(default_factory=dict)
    detector: bool = False
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    seen: "Seen | None" = None

    @property
    def layers(self) -> list[PlainDict]:
        """Return a row for each layer, empty where they were not asked for."""
        return self.facts.get("layers", [])

    @property
    def values(self) -> list[np.ndarray]:
        """Return the outputs as real numbers, each (h, w, c) float64."""
        return [m.real(q) for q, m in zip(self.outputs, self.maps, strict=True)]

    @property
    def named(self) -> dict[str, np.ndarray]:
        """Return the values by the outputs' names, float32: of a module in the shapes that its forward() returns, of
        any other network (h, w, c)."""
        shapes = self.shapes or {m.name: () for m in self.maps}
        return {name: _shaped(v, shape) for v, (name, shape) in zip(self.values, shapes.items(), strict=True)}

    def to_dict(self) -> PlainDict:
        """Return what `mcunet run --json` writes: all but the outputs' values, of which it has the range."""
        rows = [
            {"name": m.name, "shape": list(m.shape), "scale": m.scale, "zero_point": m.zero_point,
             "least": float(v.min()), "most": float(v.max())}
            for m, v in zip(self.maps, self.values, strict=True)
        ]  # fmt: skip
        own = {"picture": list(self.seen.picture)} if self.seen and self.seen.picture else {}
        return {**self.facts, **own, "outputs": rows, "boxes": self.boxes} | ({"top": self.top} if self.top else {})

    def __str__(self) -> str:
        lines, made_for, board = [], self.facts.get("made_for"), self.facts.get("board")
        if made_for != board:
            lines.append(f"generated for {made_for}, run on {board}: the answer is the same, the patches and the arena "
                         f"are those for the {made_for}")  # fmt: skip
        if self.top:
            kind = "" if self.maps[0].holds_shares else "logit "
            lines.append("  ".join(_likely(row, kind) for row in self.top))
        elif not self.detector:
            lines += [_line(i, q, m) for i, (q, m) in enumerate(zip(self.outputs, self.maps, strict=True))]
        lines += [f"{name:>22} {value:>12,}" for name, value in self.facts.items() if isinstance(value, int)]
        if self.boxes and self.seen:
            lines.append(f"boxes x1, y1, x2, y2 in pixels of {self.seen}:")
        lines += [_box_line(box) for box in self.boxes]
        return "\n".join(lines)


def class_names(classes: FilePath | Sequence[str] | None, maps: list[OutputMap]) -> list[str] | None:
    """Return the names of a classifier's classes, from a list or a text file with one a line; None for None. Raises
    UserError for a model that is no classifier, and unless there is one for each class."""
    if classes is None:
        return None
    if isinstance(classes, (str, os.PathLike)):
        path = path_of(classes, "classes")
        names, where = [line.strip() for line in file_text(path).rstrip().splitlines()], str(path)
    else:
        names, where = list(classes), "classes"
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"classes is {short(classes)}: expected a list of names, or a text file with one a line")
    if not _is_classifier(maps):
        raise UserError(f"{where} names classes, and this model is no classifier of one output: leave it out")
    if len(names) != maps[0].shape[2]:
        raise UserError(
            f"{where} names {len(names)} classes, and the output {short(maps[0].name)} has {maps[0].shape[2]}"
        )
    return names


def answer(
    facts: PlainDict,
    said: PlainDict,
    maps: list[OutputMap],
    names: list[str] | None = None,
    shapes: dict[str, tuple[int, ...]] | None = None,
    seen: Seen | None = None,
) -> Run:
    """Return the run of a report: its arrays as Run has them, the figures as `facts`. said: what parse_report gives;
    names: of a classifier's classes; shapes, seen: as Run has them. Raises UserError for outputs of other
    sizes than the maps'."""
    said = dict(said)
    detector, outputs = "boxes" in said, said.pop("outputs")
    if [q.size for q in outputs] != [math.prod(m.shape) for m in maps]:
        raise UserError("the header's outputs are not those that the C gives: run mcunet generate again")
    boxes = [box_dict(b, name) for b, name in zip(said.pop("boxes", ()), said.pop("names", ()), strict=True)]
    if seen is not None:
        boxes = [box | {"in_picture": own} if (own := seen.own(box["box"])) else box for box in boxes]
    top = _top(outputs[0], maps[0], names) if not detector and _is_classifier(maps) else []
    return Run(outputs, maps, boxes, top, {**facts, **said}, detector, shapes or {}, seen)


def _shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an output (h, w, c) in a module's shape, () for as it is: the engine counts channels last, and so does an
    output of a module that is no (1, c, h, w) and no signal (1, c, positions), in one row or column, as the reader sees
    to."""
    h, w, c = values.shape
    if shape == (1, c, h, w) or (shape in ((1, c, h * w), (1, c, w, h)) and 1 in (h, w)):
        values = values.transpose(2, 0, 1)
    return (values.reshape(shape) if shape else values).astype(np.float32)


def _is_classifier(maps: list[OutputMap]) -> bool:
    return len(maps) == 1 and maps[0].is_vector


def _top(q: np.ndarray, m: OutputMap, names: list[str] | None = None) -> list[PlainDict]:
    """Return the likeliest classes of a vector, the first of equal ones first."""
    best, real = np.argsort(-q.astype(int), kind="stable")[:MOST_LIKELY], m.real(q).reshape(-1)
    rows: list[PlainDict] = [{"class": int(i), "score": int(q[i]), "value": float(real[i])} for i in best]
    return [row | {"name": names[row["class"]]} for row in rows] if names else rows


def _likely(row: PlainDict, kind: str = "") -> str:
    name = f" {row['name']}" if "name" in row else ""
    return f"class {row['class']}{name}: {kind}{row['value']:.4g} (int8 {row['score']})"


def _line(number: int, q: np.ndarray, m: OutputMap) -> str:
    """Say what an output holds: the likeliest of a vector, the range of a map."""
    head = f"output {number} {short(m.name)} {'x'.join(map(str, m.shape))}"
    if m.is_vector:
        return f"{head}  " + "  ".join(map(_likely, _top(q, m)))
    real = m.real(q)
    if real.size == 1:
        return f"{head}  {real.item():.4g} (int8 {int(q[0])})"
    return f"{head}  {real.min():.4g} to {real.max():.4g} (int8 {q.min()} to {q.max()})"


def _box_line(box: PlainDict) -> str:
    at = ", ".join(f"{v:.1f}" for v in box.get("in_picture") or box["box"])
    return f"{box['name']:>22}  score {box['score']:.3f}  at {at}"


def box_dict(box: np.void, name: str) -> PlainDict:
    """Return a box (dtype detect.BOX) as plain data: pixels of the image, score 0 to 1."""
    corners = [round(float(box[k]) / 16, 4) for k in ("x1", "y1", "x2", "y2")]
    return {"box": corners, "score": float(box["score"]) / 2**15, "label": int(box["label"]), "name": name}
