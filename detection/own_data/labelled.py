"""Say what a folder of labelled pictures holds, in one form for every format, and find the pictures in it."""

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, takewhile
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.file_sets import MANIFEST
from nni_mcunet.core.types import FilePath
from nni_mcunet.core.validate import counted, short

from ..data.pictures import Picture

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
MOST_FILES = 1_000_000
LOOKED_AT = 20  # files of a kind that tell the format of a folder
UNFIT = "picture", "left out: cannot be read, or not of the size that the labels say"
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip


class Box(NamedTuple):
    """One object: its class, its corners x1, y1, x2, y2 in pixels from the picture's corner, and whether a metric
    ignores it (VOC's difficult, COCO's iscrowd)."""

    name: str
    corners: tuple[float, float, float, float]
    ignored: bool = False


class Labelled(NamedTuple):
    """A picture's file, its (w, h) as the annotations count it, its objects, and whether EXIF turns it and they may be
    of the picture as it lies in the file: their size is the same, or not known."""

    path: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    doubtful: bool = False

    @property
    def learnt(self) -> list[Box]:
        """Return the objects that a training learns and a metric counts."""
        return [box for box in self.boxes if not box.ignored]


@dataclass
class Folder:
    """Hold the content of a folder.

    format   "voc", "coco" or "yolo"
    classes  names in the order of their labels
    splits   "train", "val", "test" -> pictures; "" has those that no split names
    notes    what was passed over, a line each
    """

    format: str
    classes: tuple[str, ...]
    splits: dict[str, list[Labelled]]
    notes: list[str] = field(default_factory=list)

    def unite(self) -> None:
        """Make one of a split's pictures that are listed twice, with the objects of both, each once, and note it."""
        twice: list[str] = []
        for split, pictures in self.splits.items():
            by_path: dict[Path, Labelled] = {}
            for item in pictures:
                if first := by_path.get(item.path):
                    twice.append(str(item.path))
                    item = item._replace(boxes=tuple(dict.fromkeys((*first.boxes, *item.boxes))))
                by_path[item.path] = item
            self.splits[split] = list(by_path.values())
        self.notes += some_paths(twice, "picture", "listed twice, with the objects of both")

    def keep(self, classes: tuple[str, ...]) -> None:
        """Leave the objects of other classes out, and note how many. The labels are in the order of `classes`. Raises
        UserError for a class that the folder does not have, and for one that is named twice."""
        for name in classes:
            if name not in self.classes:
                raise UserError(f"--classes: no object is a {short(name)} here; there are {', '.join(self.classes)}")
            if classes.count(name) > 1:
                raise UserError(f"--classes names {short(name)} twice")
        left: Counter[str] = Counter()
        for pictures in self.splits.values():
            for at, item in enumerate(pictures):
                left.update(box.name for box in item.boxes if box.name not in classes)
                pictures[at] = item._replace(boxes=tuple(box for box in item.boxes if box.name in classes))
        self.classes = classes
        if left:
            counts = ", ".join(f"{name} {count:,}" for name, count in left.most_common())
            self.notes.append(f"{counted(left.total(), 'object')} of other classes left out: {counts}")

    def lines(self, splits: dict[str, list[Labelled]]) -> str:
        """Say what was found and how it is divided, a line for each thing."""
        lines = [f"{self.format.upper()} labels, {counted(len(self.classes), 'class')}: {', '.join(self.classes)}"]
        for split, items in splits.items():
            boxes = sum(len(item.boxes) for item in items)
            lines.append(f"  {split:5} {len(items):7,} pictures {boxes:9,} objects")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


class Tree:
    """The files below a folder, by kind. Hidden folders and files are not looked at, nor are those that our commands
    wrote there: a second run would take its own labels for the folder's."""

    def __init__(self, root: FilePath):
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder; expected one with pictures and their labels")
        self.files: list[Path] = []
        seen: set[str] = set()  # a link may lead back to a folder above it
        for folder, inner, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            inner[:] = sorted(name for name in inner if not name.startswith(".")) if real not in seen else []
            if real in seen:
                continue
            seen.add(real)
            if MANIFEST in names and Path(folder) != self.root:
                inner[:] = []
                continue
            self.files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
            if len(self.files) > MOST_FILES:
                raise UserError(f"{root} has more than {MOST_FILES:,} files: give the folder of one data set")
        self.pictures: dict[str, list[Path]] = {}  # stem -> files
        for path in self.with_ending(*PICTURES):
            self.pictures.setdefault(path.stem, []).append(path)

    def with_ending(self, *endings: str) -> Iterator[Path]:
        """Yield the files with one of these endings, in any case."""
        return (path for path in self.files if path.suffix.lower() in endings)

    def picture_of(self, label: Path, name: str) -> Path | None:
        """Return the picture that the `name` in a label file, a path of any system, means: of those with its stem the
        one that shares most folders with the name, has its ending, and lies nearest to `label`. None where there is
        none: one of another split is another picture. Raises UserError where two remain."""
        said, split = PureWindowsPath(name), split_of(label, self.root)
        found = [
            path for path in self.pictures.get(said.stem, []) if not split or split_of(path, self.root) in ("", split)
        ]
        ranked = sorted((-_alike(said, p), p.suffix != said.suffix, steps(label, p), p) for p in found)
        if len(ranked) > 1 and ranked[0][:3] == ranked[1][:3]:
            raise in_doubt(label, ranked[0][3], ranked[1][3], "picture")
        return ranked[0][3] if ranked else None

    def others(self, taken: Iterable[Path]) -> list[str]:
        """List the pictures that are none of `taken`."""
        known = set(taken)
        return [str(path) for paths in self.pictures.values() for path in paths if path not in known]


def in_doubt(of: Path, first: Path, second: Path, what: str) -> UserError:
    """Return the error that two files may be the one that belongs to another."""
    return UserError(f"{of}: both {first} and {second} may be its {what}: remove one of them")


def _alike(name: PurePath, path: Path) -> int:
    """Return how many folders a name and a path share, from the picture on."""
    pairs = zip(reversed(name.parts[:-1]), reversed(path.parts[:-1]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def steps(label: Path, picture: Path) -> int:
    """Return how many folders lie between those of two files. images/train is nearest to labels/train: of equal ways,
    those of the same last name go first."""
    start, end = label.parent, picture.parent
    shared = len(os.path.commonpath([start, end]).split(os.sep))
    return 2 * (len(start.parts) + len(end.parts) - 2 * shared) + (start.name != end.name)


def split_of(path: Path, root: Path) -> str:
    """Return the split that a file's folders or its name say, "" for none: train/labels/a.xml, instances_val2017.json.
    The folder nearest to the file decides."""
    parts = path.relative_to(root).with_suffix("").parts
    for part in reversed(parts):
        for word in _words(part) if part == parts[-1] and path.suffix == ".json" else [part]:
            if found := SPLITS.get(word.lower().rstrip("0123456789")):
                return found
    return ""


def _words(name: str) -> Iterable[str]:
    return name.replace("-", "_").replace(".", "_").split("_")


def unfit(found: Picture, size: tuple[int, int] | None) -> str | None:
    """Say why a picture cannot be trained on with the labels of one of `size` (w, h), None for any: it cannot be read,
    or it has another size, so that the boxes lie elsewhere. None where it can."""
    if found.fault is not None or found.size is None:
        return found.fault
    if size in (None, found.size):
        return None
    turned = ", turned by its EXIF" if found.turned else ""
    return f"{found.size[0]}x{found.size[1]}{turned}, its labels are of {size[0]}x{size[1]}"


def shared(where: str, named: Mapping[str, Iterable[Hashable]]) -> list[str]:
    """Return a note for each two splits that name the same pictures, which the first of them gets: a network must not
    be judged on what it has learnt. named: split -> pictures, in the order in which they go first."""
    notes = []
    for first, second in combinations(named, 2):
        if same := set(named[first]) & set(named[second]):
            many = counted(len(same), "picture")
            notes.append(f"{where} names {many} for {first} and for {second}: taken for {first}")
    return notes


def some_paths(paths: list[str], noun: str, what: str) -> list[str]:
    """Return one note on files that were passed over, none for none."""
    return [f"{counted(len(paths), noun)} {what}, the first is {paths[0]}"] if paths else []
