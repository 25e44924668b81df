"""Read a folder of YOLO's text files: a line an object, class number and box as shares of the picture, as Ultralytics,
Darknet, CVAT, Label Studio and Roboflow write them."""

import math
from pathlib import Path, PureWindowsPath

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.progress import each
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import file_text, read_yaml, short

from ..data.pictures import inspect
from .labelled import SPLITS, Box, Folder, Labelled, Tree, in_doubt, shared, some_paths, split_of

NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")
IMAGES = ("images", "jpegimages")  # folders beside which lies labels/
OTHER_TEXTS = {*NAMES, *LISTS}


def is_yolo(tree: Tree) -> bool:
    """Tell whether there is a data.yaml with names, or a text file for one of the pictures."""
    if _yamls(tree):
        return True
    return any(path.stem in tree.pictures and path.name not in OTHER_TEXTS for path in tree.with_ending(".txt"))


def read_yolo(tree: Tree) -> Folder:
    """Read every picture with its text file. A picture without one shows nothing. Splits are data.yaml's, else those
    that the folders name. Raises UserError where no file has the names, and for a line that is no box."""
    settings = _settings(tree)
    if settings and "kpt_shape" in settings[1]:
        raise UserError(f"{settings[0]}: kpt_shape: these labels are of key points, not of boxes: export them as boxes")
    said = list[str]()
    names = _names(tree, settings, said)
    where, places = _places(tree, settings)
    parts, missing = _listed(tree, where, places)
    listed = {picture: split for split in reversed(parts) for picture in parts[split]}  # the first of them stays
    labels: dict[str, list[Path]] = {}
    for path in tree.with_ending(".txt"):
        if path.name not in OTHER_TEXTS:
            labels.setdefault(path.stem, []).append(path)
    splits: dict[str, list[Labelled]] = {}
    broken, without, used = list[str](), list[str](), dict[Path, Path]()
    for pictures in each(tree.pictures.values(), "picture", f"reading {tree.root}"):
        for picture in pictures:
            found, label = inspect(picture), _label(picture, labels.get(picture.stem, ()))
            if label is None:
                without.append(str(picture))
            else:
                if label in used:
                    raise in_doubt(label, used[label], picture, "picture")
                used[label] = picture
            if found.size is None or found.fault is not None:
                broken.append(f"{picture} ({found.fault})")
                continue
            boxes = tuple(_boxes(label, names, found.size)) if label else ()
            split = listed.get(picture, "") if listed else split_of(picture, tree.root)
            splits.setdefault(split, []).append(Labelled(picture, found.size, boxes, found.turned))
    loose = [str(p) for paths in labels.values() for p in paths if p not in used and _is_label(p)]
    notes = some_paths(broken, "picture", "that nothing can read")
    notes += some_paths(without, "picture", "without a text file, taken as without objects")
    notes += some_paths(loose, "text file", "of no picture: expected next to it, or in labels/ beside images/")
    notes += said + missing + shared(where.name, parts)
    if listed and splits.get(""):
        notes.append(f"{len(splits.pop(''))} pictures that {where.name} does not name")
    return Folder("yolo", names, splits, notes)


def _yamls(tree: Tree) -> list[tuple[Path, PlainDict]]:
    """Return the YAML files that name classes, and their content."""
    found = []
    for path in tree.with_ending(".yaml", ".yml"):
        try:
            content = read_yaml(path)
        except UserError:
            continue
        if isinstance(content, dict) and "names" in content:
            found.append((path, content))
    return found


def _settings(tree: Tree) -> tuple[Path, PlainDict] | None:
    """Return the YAML file that names classes, data.yaml where there are several, and its content. Raises UserError
    where they name others."""
    found = sorted(_yamls(tree), key=lambda of: of[0].stem != "data")
    for path, content in found[1:]:
        if _named(path, content) != _named(*found[0]):
            raise UserError(f"{found[0][0]} and {path} name the classes differently: remove one of them")
    return found[0] if found else None


def _names(tree: Tree, settings: tuple[Path, PlainDict] | None, notes: list[str]) -> tuple[str, ...]:
    """Return the classes in the order of their numbers. labelImg writes a classes.txt into each folder, some with the
    first classes only: the longest holds, and one that says others is a UserError, beside a data.yaml a note."""
    lists = sorted(((_lines(path), path) for path in tree.files if path.name in NAMES), key=lambda of: -len(of[0]))
    if not settings and not lists:
        raise UserError(
            f"{tree.root}: YOLO's text files number the classes, and no file names them: write data.yaml with "
            "names: [first, second, ...], or classes.txt with a name on each line"
        )
    names, where = (_named(*settings), settings[0]) if settings else lists[0]
    for others, path in lists:
        if others != names[: len(others)]:
            if not settings:
                raise UserError(f"{where} and {path} name the classes differently: remove one of them")
            notes.append(f"{path} names other classes than {where.name}, whose names are taken")
    return _distinct(names, where)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in file_text(path).rstrip().splitlines()]
    if "" in lines:
        raise UserError(f"{path}, line {lines.index('') + 1}: empty, and it counts as a class: name it, or take it out")
    return lines


def _named(path: Path, content: PlainDict) -> list[str]:
    """Return the names of a YAML file. Raises UserError for what is none, and what YAML takes for no text."""
    found = content["names"]
    numbered = {str(key): name for key, name in found.items()} if isinstance(found, dict) else {}
    if numbered and numbered.keys() == set(map(str, range(len(numbered)))):
        found = [numbered[str(i)] for i in range(len(numbered))]
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: names is {short(found)}: expected a list of classes, or 0: NAME, 1: NAME, ...")
    for name in found:
        if type(name) not in (str, int):  # no, off and 1.10 are others to YAML
            raise UserError(f"{path}: names has {short(name)}, which YAML does not take for text: write it in quotes")
    if content.get("nc") not in (None, len(found)):
        raise UserError(f"{path}: nc is {short(content['nc'])}, and names has {len(found)}: correct one of them")
    return [str(name).strip() for name in found]


def _places(tree: Tree, settings: tuple[Path, PlainDict] | None) -> tuple[Path, PlainDict]:
    """Return the file that says where the pictures of the splits are, and its content: data.yaml, else Darknet's and
    CVAT's train.txt, valid.txt, ..."""
    if settings and any(settings[1].get(key) for key in SPLITS):
        return settings
    texts: dict[str, list[str]] = {}
    for path in tree.files:
        if path.name in LISTS and _in_list(tree, path):
            texts.setdefault(path.stem, []).append(str(path))
    found = [place for places in texts.values() for place in places]
    return Path(found[0]) if found else tree.root, dict(texts)


def _distinct(names: list[str], path: Path) -> tuple[str, ...]:
    """Return the names. Raises UserError for none and for one that stands twice."""
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
    inner = Path(PureWindowsPath(place).as_posix())
    bases = [*([path.parent / root] if isinstance(root, str) else []), path.parent, tree.root]
    stripped = Path(*[part for part in inner.parts if part != ".."]) if not inner.is_absolute() else inner
    for candidate in [base / part for base in bases for part in (inner, stripped)]:
        found: list[Path] = []
        if candidate.is_dir():
            below = candidate.resolve()
            found = [p for paths in tree.pictures.values() for p in paths if p.resolve().is_relative_to(below)]
        elif candidate.is_file():
            found = _in_list(tree, candidate)
        if found:
            return found
    return []


def _in_list(tree: Tree, path: Path) -> list[Path]:
    """Return the pictures that the lines of a text file name."""
    lines = [line.strip() for line in file_text(path).splitlines()]
    return [found for line in lines if line and (found := tree.picture_of(path, line))]


def _label(picture: Path, candidates: list[Path] | tuple[Path, ...]) -> Path | None:
    """Return the text file of a picture. Raises UserError for two that say different things."""
    found = [path for path in candidates if _beside(picture, path)]
    for other in found[1:]:
        if file_text(other) != file_text(found[0]):
            raise in_doubt(picture, found[0], other, "labels")
    return found[0] if found else None


def _beside(picture: Path, label: Path) -> bool:
    """Tell whether a text file is next to a picture, or in labels/ where that is in one of IMAGES, whatever
    the capitals."""
    ours, theirs = picture.with_suffix("").parts, label.with_suffix("").parts
    other = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs) or len(other) > 1:
        return False
    return all(one.lower() in IMAGES and two.lower() == "labels" for one, two in other)


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
