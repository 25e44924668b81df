"""Write labelled pictures as COCO's JSON, which mmdet reads whatever the picture's kind."""

import json
from pathlib import Path

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import read_json

from .labelled import Labelled


def coco_text(pictures: list[Labelled], classes: tuple[str, ...], root: FilePath) -> str:
    """Return the JSON's text. file_name is a picture's path below `root`; the pictures stand in its order."""
    images: list[PlainDict] = []
    notes: list[PlainDict] = []
    for item in sorted(pictures, key=lambda item: item.path):
        image: PlainDict = {"id": len(images) + 1, "file_name": item.path.relative_to(root).as_posix()}
        images.append(image | {"width": item.size[0], "height": item.size[1]})
        for name, (x1, y1, x2, y2), ignored in item.boxes:
            box = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            notes.append({"id": len(notes) + 1, "image_id": image["id"], "category_id": classes.index(name) + 1,
                          "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": int(ignored)})  # fmt: skip
    categories = [{"id": at, "name": name} for at, name in enumerate(classes, 1)]
    content = {"images": images, "annotations": notes, "categories": categories}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def kept_names(out: FilePath) -> dict[str, set[str]]:
    """Return "train" and "val" -> names of the pictures in the JSON files of an earlier run into `out`. Raises
    UserError for a damaged one."""
    files = {split: Path(out, f"{split}.json") for split in ("train", "val")}
    try:
        return {s: {i["file_name"] for i in read_json(path)["images"]} for s, path in files.items() if path.exists()}
    except (KeyError, TypeError):
        raise UserError(f"{out}: train.json or val.json is not of mcunet new-detector: give a new folder") from None
