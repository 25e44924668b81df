"""Read a folder with COCO's JSON, of one file or one for each split, as COCO, CVAT, Label Studio and Roboflow write
it."""

from itertools import combinations, islice
from pathlib import Path

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.progress import each
from nni_mcunet.core.types import Plain
from nni_mcunet.core.validate import read_json, short

from ..data.coco_json import read_coco
from .labelled import LOOKED_AT, UNFIT, Box, Folder, Labelled, Tree, shared, some_paths, split_of, unfit

PARTS = {"images", "annotations", "categories"}


def coco_files(tree: Tree) -> list[Path]:
    """Return the JSON files that have images, annotations and categories. A folder of one JSON file a picture, as
    LabelMe writes it, has none: the first few decide."""
    found = []
    for path in islice(tree.with_ending(".json"), LOOKED_AT):
        content = _parts(path)
        if content >= PARTS:
            found.append(path)
    return found


def _parts(path: Path) -> set[str]:
    try:
        content = read_json(path)
    except (UserError, OSError):
        return set()
    return set(content) if isinstance(content, dict) else set()


def read_coco_folder(tree: Tree) -> Folder:
    """Read every such file. Classes are the categories that have an object in any of them, in their order. Raises
    UserError for a file that mmdet could not read, and where two files give one name different places."""
    splits: dict[str, list[Labelled]] = {}
    order: dict[str, None] = {}
    objects: set[str] = set()
    without, wrong, loose, taken = list[str](), list[str](), list[str](), list[Path]()
    for path in coco_files(tree):
        coco, content = read_coco(path), read_json(path)
        order |= dict.fromkeys(coco.names.values())
        objects |= coco.objects
        boxes: dict[Plain, list[Box]] = {}
        known = {image["id"] for image in content["images"]}
        for note in content["annotations"]:
            if note["image_id"] not in known:
                loose.append(f"of image {short(note['image_id'])} in {path}")
            x, y, w, h = note["bbox"]
            name = coco.names[note["category_id"]]
            boxes.setdefault(note["image_id"], []).append(Box(name, (x, y, x + w, y + h), bool(note.get("iscrowd"))))
        for image in each(content["images"], "picture", f"reading {path}"):
            picture = _picture(tree, path, image["file_name"])
            if picture is None:
                without.append(f"{short(image['file_name'])} of {path}")
                continue
            taken.append(picture)
            size = int(image["width"]), int(image["height"])
            if fault := unfit(picture, size):
                wrong.append(f"{picture} ({fault})")
                continue
            item = Labelled(picture, size, tuple(boxes.get(image["id"], ())))
            splits.setdefault(split_of(path, tree.root), []).append(item)
    notes = some_paths(without, "picture", "that the folder does not have") + some_paths(wrong, *UNFIT)
    notes += some_paths(loose, "object", "of a picture that the JSON does not list, left out")
    notes += some_paths(tree.others(taken), "picture", "that no JSON lists, left out")
    paths: dict[str, list[Path]] = {
        split: [item.path for item in splits[split]] for split in ("train", "val", "test") if split in splits
    }
    notes += shared("the JSON", paths)
    for first, second in combinations(paths, 2):
        taken_first = set(paths[first])
        splits[second] = [item for item in splits[second] if item.path not in taken_first]
    if unused := [name for name in order if name not in objects]:
        notes.append(f"categories without an object: {', '.join(unused)}")
    return Folder("coco", tuple(name for name in order if name in objects), splits, notes)


def _picture(tree: Tree, path: Path, name: str) -> Path | None:
    """Return the file of a picture: next to the JSON, below the folder, or the one of that name."""
    for folder in (path.parent, tree.root, path.parent / "images"):
        if (folder / name).is_file():
            return folder / name
    return tree.picture_of(path, name)
