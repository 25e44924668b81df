"""Read a folder of YOLO's text files: a line an object, class number and box as shares of the picture, as Ultralytics,
Darknet, CVAT, Label Studio and Roboflow write them."""

import math
from pathlib import Path

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.progress import each
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import file_text, read_yaml, short

from ..data.pictures import inspect
from .labelled import SPLITS, Box, Folder, Labelled, Tree, shared, some_paths, split_of

NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
OTHER_TEXTS = {*NAMES, "train.txt", "val.txt", "valid.txt", "test.txt"}


def is_yolo(tree: Tree) -> bool:
    """Tell whether there is a data.yaml with names, or a text file for one of the pictures."""
    if _settings(tree) is not None:
        return True
    return any(path.stem in tree.pictures and path.name not in OTHER_TEXTS for path in tree.with_ending(".txt"))


def read_yolo(tree: Tree) -> Folder:
    """Read every picture with its text file. A picture without one shows nothing. Splits are data.yaml's, else those
    that the folders name. Raises UserError where no file has the names, and for a line that is no box."""
    settings = _settings(tree)
    if settings and "kpt_shape" in settings[1]:
        raise UserError(f"{settings[0]}: kpt_shape: these labels are of key points, not of boxes: export them as boxes")
    names = _names(tree, settings)
    parts, missing = _listed(tree, *settings) if settings else ({}, [])
    listed = {picture: split for split in reversed(parts) for picture in parts[split]}  # the first of them stays
    labels: dict[str, list[Path]] = {}
    for path in tree.with_ending(".txt"):
        if path.name not in OTHER_TEXTS:
            labels.setdefault(path.stem, []).append(path)
    splits: dict[str, list[Labelled]] = {}
    broken, without, used = list[str](), list[str](), set[Path]()
    for pictures in each(tree.pictures.values(), "picture", f"reading {tree.root}"):
        for picture in pictures:
            found, label = inspect(picture), _label(picture, labels.get(picture.stem, ()))
            if label is None:
                without.append(str(picture))
            else:
                used.add(label)
            if found.size is None or found.fault is not None:
                broken.append(f"{picture} ({found.fault})")
                continue
            boxes = tuple(_boxes(label, names, found.size)) if label else ()
            split = listed.get(picture, "") if listed else split_of(picture, tree.root)
            splits.setdefault(split, []).append(Labelled(picture, found.size, boxes))
    loose = [str(p) for paths in labels.values() for p in paths if p not in used and _is_label(p)]
    notes = some_paths(broken, "picture", "that nothing can read")
    notes += some_paths(without, "picture", "without a text file, taken as without objects")
    notes += some_paths(loose, "text file", "of no picture: expected next to it, or in labels/ beside images/")
    notes += missing + (shared(settings[0].name, parts) if settings else [])
    if listed and splits.get(""):
        notes.append(f"{len(splits.pop(''))} pictures that data.yaml does not name")
    return Folder("yolo", names, splits, notes)


def _settings(tree: Tree) -> tuple[Path, PlainDict] | None:
    """Return the YAML file that names classes, and its content."""
    for path in tree.with_ending(".yaml", ".yml"):
        try:
            content = read_yaml(path)
        except UserError:
            continue
        if isinstance(content, dict) and "names" in content:
            return path, content
    return None


def _names(tree: Tree, settings: tuple[Path, PlainDict] | None) -> tuple[str, ...]:
    if settings:
        path, content = settings
        found = content["names"]
        numbered = {str(key): name for key, name in found.items()} if isinstance(found, dict) else {}
        if numbered and numbered.keys() == set(map(str, range(len(numbered)))):
            found = [numbered[str(i)] for i in range(len(numbered))]
        if not isinstance(found, list) or not found:
            raise UserError(f"{path}: names is {short(found)}: expected a list of classes, or 0: NAME, 1: NAME, ...")
        if content.get("nc") not in (None, len(found)):
            raise UserError(f"{path}: nc is {short(content['nc'])}, and names has {len(found)}: correct one of them")
        return _distinct([str(name) for name in found], path)
    for path in tree.files:
        if path.name in NAMES:
            return _distinct([line.strip() for line in file_text(path).splitlines() if line.strip()], path)
    raise UserError(
        f"{tree.root}: YOLO's text files number the classes, and no file names them: write data.yaml with "
        "names: [first, second, ...], or classes.txt with a name on each line"
    )


def _distinct(names: list[str], path: Path) -> tuple[str, ...]:
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        raise UserError(f"{path}: {f'the class {short(twice[0])} stands twice' if twice else 'no class is named'}")
    return tuple(names)


def _listed(tree: Tree, path: Path, content: PlainDict) -> tuple[dict[str, list[Path]], list[str]]:
    """Return split -> pictures, of the keys train, val and test of data.yaml: a folder, a text file of pictures, or a
    list of these; and a note for each that leads to no picture of this folder. Roboflow writes ../train/images for
    train/images, and others the path of the machine that trained."""
    found: dict[str, list[Path]] = {}
    notes = []
    for key, split in SPLITS.items():
        places = content.get(key)
        for place in places if isinstance(places, list) else [places] * bool(places):
            pictures = _pictures_at(tree, path, content.get("path"), place)
            if pictures:
                found.setdefault(split, []).extend(pictures)
            else:
                notes.append(f"{path.name} says {key}: {place}, where no picture is")
    return found, notes


def _pictures_at(tree: Tree, path: Path, root: Plain, place: Plain) -> list[Path]:
    if not isinstance(place, str):
        raise UserError(f"{path}: {short(place)} is no folder: expected the path of a folder or of a list")
    inner = Path(place)
    bases = [path.parent, tree.root, *([path.parent / root] if isinstance(root, str) else [])]
    stripped = Path(*[part for part in inner.parts if part != ".."]) if not inner.is_absolute() else inner
    for candidate in [base / part for base in bases for part in (inner, stripped)]:
        if candidate.is_dir():
            below = candidate.resolve()
            return [p for paths in tree.pictures.values() for p in paths if p.resolve().is_relative_to(below)]
        if candidate.is_file():
            stems = {Path(line.strip()).name for line in file_text(candidate).splitlines() if line.strip()}
            return [p for paths in tree.pictures.values() for p in paths if p.name in stems]
    return []


def _label(picture: Path, candidates: list[Path] | tuple[Path, ...]) -> Path | None:
    """Return the text file of a picture: next to it, or in labels/ where it is in images/."""
    parts = picture.parts
    wanted = {picture.with_suffix("")}
    for at in range(len(parts) - 1):
        if parts[at] == "images":
            wanted.add(Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(""))
    return next((path for path in candidates if path.with_suffix("") in wanted), None)


def _is_label(path: Path) -> bool:
    """Tell whether a text file has a line of numbers first, as those of boxes have."""
    try:
        return len([float(word) for word in file_text(path).split("\n", 1)[0].split()]) >= 5
    except ValueError:
        return False


def _boxes(path: Path, names: tuple[str, ...], size: tuple[int, int]) -> list[Box]:
    """Read the boxes of a text file. A line of more than five numbers is an outline: its box is taken."""
    found, (w, h) = [], size
    for number, line in enumerate(file_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            label, *values = map(float, line.split())
        except ValueError:
            raise UserError(f"{path}, line {number}: {short(line)}: expected five numbers") from None
        if label != int(label) or not 0 <= label < len(names):
            raise UserError(f"{path}, line {number}: class {label:g}, and there are {len(names)} names, from 0 on")
        if not all(math.isfinite(v) and -0.5 <= v <= 1.5 for v in values):
            raise UserError(f"{path}, line {number}: {short(line)}: expected shares of the picture, from 0 to 1")
        if len(values) == 4:
            x, y, bw, bh = values
            corners = x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2
        elif len(values) >= 6 and len(values) % 2 == 0:
            corners = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        else:
            raise UserError(f"{path}, line {number}: {1 + len(values)} numbers: expected class, x, y, width, height")
        x1, y1, x2, y2 = corners
        found.append(Box(names[int(label)], (x1 * w, y1 * h, x2 * w, y2 * h)))
    return found
