"""Recognise the format of a folder of labelled pictures and read it."""

from pathlib import Path

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import listing
from nni_mcunet.core.types import FilePath
from nni_mcunet.core.validate import counted, file_bytes, read_json

from ..data.voc_xml import read_annotation
from .coco_folder import is_coco, read_coco_folder
from .labelled import Box, Folder, Tree, some_paths
from .voc_folder import is_voc, read_voc
from .yolo_folder import is_yolo, read_yolo

READERS = {"voc": (is_voc, read_voc), "coco": (is_coco, read_coco_folder), "yolo": (is_yolo, read_yolo)}
EXPECTED = (
    "expected VOC's XML files, COCO's JSON with images, annotations and categories, or YOLO's text files with "
    "data.yaml or classes.txt"
)


def read_folder(path: FilePath, format_: str | None = None) -> Folder:
    """Read a folder. format_: "voc", "coco" or "yolo" (default: what is there). Boxes are clipped to their picture;
    those without area are left out and counted. Raises UserError for a folder of another kind, of several formats,
    without pictures or objects, and for files that cannot be read."""
    tree = Tree(path)
    if not tree.pictures:
        raise UserError(f"{path}: no picture (.jpg, .png, .bmp) in it; it holds {listing(path)}")
    found = [name for name, (known, _) in READERS.items() if known(tree)] if format_ is None else [format_]
    if not found:
        raise UserError(f"{path}: {_others(tree)}; {EXPECTED}; it holds {listing(path)}")
    if len(found) > 1:
        raise UserError(f"{path} has labels of {' and '.join(found)}: say which, with --format {found[0]}")
    folder = READERS[found[0]][1](tree)
    folder.unite()
    turned = [str(p.path) for pictures in folder.splits.values() for p in pictures if p.doubtful and p.boxes]
    folder.notes += some_paths(turned, "picture", "turned by EXIF, whose labels must be of the turned one: look at it")
    _clip(folder)
    _name_alike(folder)
    if not any(item.learnt for pictures in folder.splits.values() for item in pictures):
        notes = "; ".join(folder.notes)
        only = " but difficult ones" if any(item.boxes for items in folder.splits.values() for item in items) else ""
        raise UserError(
            f"{path}: no labelled object{only} in it, read as {found[0].upper()}{f': {notes}' if notes else ''}"
        )
    return folder


def _others(tree: Tree) -> str:
    """Say why the folder's files are no labels: what is wrong with the first that might have been one."""
    for path in tree.with_ending(".json", ".csv", ".xml"):
        if path.suffix.lower() == ".csv":
            return f"{path.name} is a table, which is not read: export as VOC, COCO or YOLO"
        if b'"shapes"' in path.read_bytes()[:4096]:
            return f"{path.name} is LabelMe's, which is not read: export as VOC, COCO or YOLO"
        try:
            read_annotation(file_bytes(path), path) if path.suffix.lower() == ".xml" else read_json(path)
        except UserError as error:
            return str(error)
    return "no labels that are known"


def _name_alike(folder: Folder) -> None:
    """Note classes whose names differ in case or blanks only: they are trained as two."""
    spelled: dict[str, list[str]] = {}
    for name in folder.classes:
        spelled.setdefault(" ".join(name.casefold().split()), []).append(name)
    folder.notes += [
        f"the classes {' and '.join(map(repr, names))} are spelled differently: they are two classes"
        for names in spelled.values()
        if len(names) > 1
    ]


def _clip(folder: Folder) -> None:
    """Clip boxes to their pictures, and note those that reach beyond by more than the rounding. Corners that are
    exchanged are set right."""
    flat, exchanged, beyond = list[str](), list[str](), list[str]()
    for pictures in folder.splits.values():
        for at, item in enumerate(pictures):
            kept = []
            for box in item.boxes:
                x1, y1, x2, y2 = box.corners
                if x1 > x2 or y1 > y2:
                    exchanged.append(str(item.path))
                    box = box._replace(corners=(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
                clipped = _inside(box, item.size)
                sides = zip(box.corners, (0, 0, *item.size), (-1, -1, 1, 1), strict=True)
                if any((side - end) * sign > 1 for side, end, sign in sides):
                    beyond.append(str(item.path))
                if clipped is None:
                    flat.append(str(item.path))
                else:
                    kept.append(clipped)
            pictures[at] = item._replace(boxes=tuple(kept))
    folder.notes += some_paths(exchanged, "box", "with exchanged corners, set right")
    folder.notes += some_paths(beyond, "box", "beyond the picture by more than a pixel, clipped")
    if flat:
        folder.notes.append(
            f"{counted(len(flat), 'box')} less than a pixel wide or high in their picture, the first in {flat[0]}"
        )


def _inside(box: Box, size: tuple[int, int]) -> Box | None:
    (x1, y1, x2, y2), (w, h) = box.corners, size
    corners = max(x1, 0.0), max(y1, 0.0), min(x2, float(w)), min(y2, float(h))
    return box._replace(corners=corners) if corners[2] - corners[0] >= 1 and corners[3] - corners[1] >= 1 else None


def relative(path: Path, root: FilePath) -> str:
    """Return a picture's name below the data's folder, with slashes."""
    return path.relative_to(root).as_posix()
