"""Read a folder with COCO's JSON, of one file or one for each split, as COCO, CVAT, Label Studio and Roboflow write
it."""

from itertools import combinations, islice
from pathlib import Path

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.progress import each
from nni_mcunet.core.types import Plain
from nni_mcunet.core.validate import leads_out, read_json, short

from ..data.coco_json import read_coco
from ..data.pictures import inspect
from .labelled import LOOKED_AT, UNFIT, Box, Folder, Labelled, Tree, shared, some_paths, split_of, unfit

PARTS = {"images", "annotations", "categories"}


def is_coco(tree: Tree) -> bool:
    """Tell whether one of the first JSON files has images, annotations and categories. A folder of one JSON file a
    picture, as LabelMe writes it, has none."""
    return any(_parts(path, []) >= PARTS for path in islice(tree.with_ending(".json"), LOOKED_AT))


def _parts(path: Path, broken: list[str]) -> set[str]:
    """Return the keys of a JSON file; of one that cannot be read none, and its name goes into `broken`."""
    try:
        content = read_json(path)
    except (UserError, OSError):
        broken.append(str(path))
        return set()
    return set(content) if isinstance(content, dict) else set()


def read_coco_folder(tree: Tree) -> Folder:
    """Read every such file. Classes are the categories that have an object in any of them, in their order. Raises
    UserError for a file that mmdet could not read."""
    broken = list[str]()
    files = [path for path in tree.with_ending(".json") if _parts(path, broken) >= PARTS]
    read = {path: read_coco(path, elsewhere=True) for path in files}
    pictures = _pictures(tree, {path: coco.files for path, coco in read.items()})
    splits: dict[str, list[Labelled]] = {}
    order: dict[str, None] = {}
    objects: set[str] = set()
    without, wrong, loose, taken = list[str](), list[str](), list[str](), list[Path]()
    for path, coco in read.items():
        content = read_json(path)
        order |= dict.fromkeys(name.strip() for name in coco.names.values())
        objects |= {name.strip() for name in coco.objects}
        boxes: dict[Plain, list[Box]] = {}
        known = {image["id"] for image in content["images"]}
        for note in content["annotations"]:
            if note["image_id"] not in known:
                loose.append(f"of image {short(note['image_id'])} in {path}")
            x, y, w, h = note["bbox"]
            name = coco.names[note["category_id"]].strip()
            boxes.setdefault(note["image_id"], []).append(Box(name, (x, y, x + w, y + h), bool(note.get("iscrowd"))))
        for image in each(content["images"], "picture", f"reading {path}"):
            picture = pictures.get((path, image["file_name"]))
            if picture is None:
                without.append(f"{short(image['file_name'])} of {path}")
                continue
            taken.append(picture)
            size = int(image["width"]), int(image["height"])
            looked_at = inspect(picture)
            if fault := unfit(looked_at, size):
                wrong.append(f"{picture} ({fault})")
                continue
            item = Labelled(picture, size, tuple(boxes.get(image["id"], ())), looked_at.turned and not looked_at.aside)
            splits.setdefault(split_of(path, tree.root) or split_of(picture, tree.root), []).append(item)
    notes = some_paths(without, "picture", "that the folder does not have") + some_paths(wrong, *UNFIT)
    notes += some_paths(broken, "JSON file", "that cannot be read, left out")
    notes += some_paths(loose, "object", "of a picture that the JSON does not list, left out")
    notes += some_paths(tree.others(taken), "picture", "that no JSON lists, left out")
    paths: dict[str, list[Path]] = {
        split: [item.path for item in splits[split]] for split in ("train", "val", "test") if split in splits
    }
    notes += shared("the JSON", paths)
    for first, second in combinations([*paths, *splits.keys() - paths], 2):  # "", of no split, comes last
        taken_first = {item.path for item in splits[first]}
        splits[second] = [item for item in splits[second] if item.path not in taken_first]
    if unused := [name for name in order if name not in objects]:
        notes.append(f"categories without an object: {', '.join(unused)}")
    return Folder("coco", tuple(name for name in order if name in objects), splits, notes)


def _pictures(tree: Tree, names: dict[Path, list[str]]) -> dict[tuple[Path, str], Path]:
    """Return the file of each picture, by its JSON and its name there: the one of that path from the JSON or the folder
    on, else the one that the name means. Two names that would mean the same file mean none: the labels of one of them
    would be another picture's."""
    found, meant = dict[tuple[Path, str], Path](), dict[Path, set[tuple[Path, str]]]()
    for path, listed in names.items():
        for name in listed:
            folders = (path.parent, tree.root, path.parent / "images", tree.root / "images")
            places = (folder / name for folder in folders if not leads_out(name))
            if there := next((place for place in places if place.is_file()), None):
                found[path, name] = there
            elif there := tree.picture_of(path, name):
                meant.setdefault(there, set()).add((path, name))
    taken = set(found.values())
    for picture, keys in meant.items():
        if picture not in taken and len({name for _, name in keys}) == 1:
            found |= dict.fromkeys(keys, picture)
    return found
