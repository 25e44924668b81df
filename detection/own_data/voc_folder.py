"""Read a folder of VOC's XML files: VOCdevkit's layout, or XML files next to their pictures as labelling programs and
Roboflow write them."""

from itertools import islice
from pathlib import Path

from nni_mcunet.core.progress import each
from nni_mcunet.core.validate import file_bytes, file_text

from ..data.pictures import inspect
from ..data.voc_xml import read_annotation
from .labelled import LOOKED_AT, UNFIT, Box, Folder, Labelled, Tree, shared, some_paths, split_of, unfit

XML_BYTES = 1 << 22


def is_voc(tree: Tree) -> bool:
    """Tell whether one of the first XML files is an annotation: the very first may be broken."""
    return any(b"<annotation" in path.read_bytes()[:4096] for path in islice(tree.with_ending(".xml"), LOOKED_AT))


def read_voc(tree: Tree) -> Folder:
    """Read every XML file and its picture. Splits are those of ImageSets/Main, else those that the folders name.
    Classes stand in alphabetical order: VOC has no other. Raises UserError for a file that is no annotation."""
    parts = _lists(tree)
    lists = {name: split for split in reversed(parts) for name in parts[split]}  # the first of them stays
    without, wrong, taken = list[str](), list[str](), list[Path]()
    splits: dict[str, list[Labelled]] = {}
    for xml in each(list(tree.with_ending(".xml")), "file", f"reading {tree.root}"):
        note = read_annotation(file_bytes(xml, XML_BYTES), xml)
        picture = tree.picture_of(xml) or (tree.picture_of(xml, note.file) if note.file else None)
        if picture is None:
            without.append(str(xml))
            continue
        taken.append(picture)
        size = note.size or inspect(picture).size
        if (fault := unfit(picture, note.size)) or size is None:
            wrong.append(f"{picture} ({fault})")
            continue
        # VOC counts pixels from 1 and both corners are in the box.
        boxes = tuple(
            Box(name, (x1 - 1, y1 - 1, x2, y2), difficult)
            for name, (x1, y1, x2, y2), difficult in zip(note.names, note.boxes.tolist(), note.difficult, strict=True)
        )
        split = lists.get(xml.stem, "") if lists else split_of(xml, tree.root)
        splits.setdefault(split, []).append(Labelled(picture, size, boxes))
    classes = sorted({box.name for pictures in splits.values() for item in pictures for box in item.boxes})
    notes = some_paths(without, "XML file", "without a picture") + some_paths(wrong, *UNFIT)
    notes += some_paths(tree.others(taken), "picture", "without an XML file, left out")
    stems = {path.stem for path in taken}
    notes += shared("ImageSets/Main", {split: names & stems for split, names in parts.items()})
    if lists and splits.get(""):
        notes.append(f"{len(splits.pop(''))} pictures that no list of ImageSets/Main names")
    return Folder("voc", tuple(classes), splits, notes)


def _lists(tree: Tree) -> dict[str, set[str]]:
    """Return split -> names, of ImageSets/Main/{train,val,test}.txt. Where there is only trainval.txt, it is for
    training. The lists of single classes (cat_train.txt) are others."""
    found = {path.stem: path for path in tree.with_ending(".txt") if path.match("ImageSets/Main/*.txt")}
    if "train" not in found and "trainval" in found:
        found["train"] = found["trainval"]
    parts: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        if split in found:
            lines = [line.strip() for line in file_text(found[split]).splitlines() if line.strip()]
            parts[split] = {Path(name).stem for line in lines for name in (line.split()[0], line)}
    return parts
