"""Read a folder of VOC's XML files: VOCdevkit's layout, or XML files next to their pictures as labelling programs and
Roboflow write them."""

from itertools import islice
from pathlib import Path, PureWindowsPath

from nni_mcunet.core.progress import each
from nni_mcunet.core.validate import file_bytes, file_text

from ..data.pictures import inspect
from ..data.voc_xml import Annotation, read_annotation
from .labelled import (
    LOOKED_AT,
    PICTURES,
    UNFIT,
    Box,
    Folder,
    Labelled,
    Tree,
    in_doubt,
    shared,
    some_paths,
    split_of,
    steps,
    unfit,
)

XML_BYTES = 1 << 22
ENDINGS = (*PICTURES, ".xml")


def is_voc(tree: Tree) -> bool:
    """Tell whether one of the first XML files is an annotation: the very first may be broken."""
    return any(b"<annotation" in path.read_bytes()[:4096] for path in islice(tree.with_ending(".xml"), LOOKED_AT))


def read_voc(tree: Tree) -> Folder:
    """Read every XML file and its picture. Splits are those of ImageSets/Main, else those that the folders name.
    Classes stand in alphabetical order: VOC has no other. Raises UserError for a file that is no annotation."""
    parts = _lists(tree)
    lists = {of: split for split in reversed(parts) for of in parts[split]}  # the first of them stays
    bases = {base for base, _ in lists}
    without, wrong, taken, listed = list[str](), list[str](), list[Path](), set[tuple[Path, str] | None]()
    splits: dict[str, list[Labelled]] = {}
    found: dict[Path, list[tuple[Path, Annotation]]] = {}
    for xml in each(list(tree.with_ending(".xml")), "file", f"reading {tree.root}"):
        note = read_annotation(file_bytes(xml, XML_BYTES), xml)
        picture = _picture(tree, xml, note.file)
        if picture is None:
            without.append(str(xml))
        else:
            found.setdefault(picture, []).append((xml, note))
    for picture, labels in found.items():
        (xml, note), *further = sorted(labels, key=lambda label: (steps(label[0], picture), label[0]))
        if further and steps(xml, picture) == steps(further[0][0], picture):
            raise in_doubt(picture, xml, further[0][0], "labels")
        without += [str(path) for path, _ in further]
        taken.append(picture)
        looked_at = inspect(picture)
        size = note.size or looked_at.size
        if (fault := unfit(looked_at, note.size)) or size is None:
            wrong.append(f"{picture} ({fault})")
            continue
        boxes = []
        for name, (left, top, right, bottom), difficult in zip(
            note.names, note.boxes.tolist(), note.difficult, strict=True
        ):
            (x1, x2), (y1, y2) = _from_0(left, right), _from_0(top, bottom)
            boxes.append(Box(name.strip(), (x1, y1, x2, y2), difficult))
        near = sorted(bases, key=lambda base: not xml.is_relative_to(base))
        of = next(((base, xml.stem) for base in near if (base, xml.stem) in lists), None)
        if lists:
            split = lists[of] if of else ""
        else:
            split = split_of(xml, tree.root) or split_of(picture, tree.root)
        listed |= {of}
        doubtful = looked_at.turned and not (note.size and looked_at.aside)
        splits.setdefault(split, []).append(Labelled(picture, size, tuple(boxes), doubtful))
    classes = sorted({box.name for pictures in splits.values() for item in pictures for box in item.boxes})
    notes = some_paths(without, "XML file", "without a picture") + some_paths(wrong, *UNFIT)
    notes += some_paths(tree.others(taken), "picture", "without an XML file, left out")
    notes += shared("ImageSets/Main", {split: names & listed for split, names in parts.items()})
    if lists and splits.get(""):
        notes.append(f"{len(splits.pop(''))} pictures that no list of ImageSets/Main names")
    return Folder("voc", tuple(classes), splits, notes)


def _picture(tree: Tree, xml: Path, name: str) -> Path | None:
    """Return the picture that has the stem of the XML file, with the ending that the file says where there are several;
    else the one of the `name` in the file."""
    ending = PureWindowsPath(name).suffix or xml.suffix
    return tree.picture_of(xml, xml.stem + ending) or (tree.picture_of(xml, name) if name else None)


def _from_0(low: float, high: float) -> tuple[float, float]:
    """Return two sides of a box in pixels from the picture's corner, in their order. VOC counts pixels from 1, and both
    sides are in the box: the smaller one is one less."""
    return (low - 1, high) if low <= high else (low, high - 1)


def _lists(tree: Tree) -> dict[str, set[tuple[Path, str]]]:
    """Return split -> (folder, name of an XML file), of each FOLDER/ImageSets/Main/{train,val,test}.txt: VOCdevkit has
    a folder for each year. Where there is only trainval.txt, it is for training. The lists of single classes
    (cat_train.txt) are others."""
    found: dict[Path, dict[str, Path]] = {}
    for path in tree.with_ending(".txt"):
        if path.match("ImageSets/Main/*.txt"):
            found.setdefault(path.parents[2], {})[path.stem] = path
    stems = {path.stem for path in tree.with_ending(".xml")}
    parts: dict[str, set[tuple[Path, str]]] = {}
    for split in ("train", "val", "test"):
        for base, files in found.items():
            there = files.get(split) or (files.get("trainval") if split == "train" else None)
            if there is not None:
                lines = [line.strip() for line in file_text(there).splitlines() if line.strip()]
                parts.setdefault(split, set()).update((base, _stem(line, stems)) for line in lines)
    return parts


def _stem(line: str, stems: set[str]) -> str:
    """Return the stem that a line of a list means: the whole line or its first word, which may have an ending and
    folders. A name may have blanks and dots of its own."""
    names = [PureWindowsPath(name) for name in (line, line.split()[0])]
    forms = [form for name in names for form in (name.name, name.stem if name.suffix.lower() in ENDINGS else name.name)]
    return next((form for form in forms if form in stems), forms[-1])
