"""Read WIDER FACE as its authors publish it (wider_face_{train,val}_bbx_gt.txt): a data set of mmdet without a
conversion.

The text has, per picture, EVENT/NAME.jpg, the number of faces, and a row for each (a picture of none has one row all
the same): x y w h blur expression illumination invalid occlusion pose.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.registry import DATASETS
from PIL import Image, UnidentifiedImageError

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import check_names, file_text, short

from ..said import tell

INVALID = 7  # column of the flag


def read_faces(path: FilePath) -> dict[str, np.ndarray]:
    """Map EVENT/NAME.jpg to (n, 10) integers, the text's rows. Raises UserError naming the line, FileNotFoundError."""
    lines = file_text(path).splitlines()
    faces, at = {}, 0
    while at < len(lines):
        name, at = lines[at].strip(), at + 1
        if not name:
            continue
        count = lines[at].strip() if at < len(lines) else ""
        if not re.fullmatch(r"[0-9]{1,9}", count):
            raise UserError(f"{path}, line {at + 1}: {short(count)} is not the number of faces of {short(name)}")
        check_names([name], f"{path}, line {at},")
        rows = lines[at + 1 : at + 1 + max(int(count), 1)]
        faces[name] = _rows(path, at + 2, rows, int(count))
        at += 1 + len(rows)
    return faces


def _rows(path: FilePath, line: int, rows: list[str], count: int) -> np.ndarray:
    values = [row.split() for row in rows]
    for i, row in enumerate(values):
        if len(row) != 10 or not all(re.fullmatch(r"-?[0-9]{1,9}", v) for v in row):
            raise UserError(f"{path}, line {line + i}: {short(rows[i].strip())} is no face of 10 integers")
    if len(values) < count:
        raise UserError(f"{path}: the last picture has {len(values)} of {count} faces; is the file whole?")
    return np.array(values[:count], int).reshape(-1, 10)


@DATASETS.register_module()
class WIDERFaceText(BaseDetDataset):
    """Serve the official text as a data set. ann_file: the text; data_prefix.img: the folder with EVENT/NAME.jpg
    (WIDER_train/images).

    Faces marked invalid are mmdet's ignored ones. Rows without width or height are left out. The log counts what was
    left out, and how many pictures `filter_cfg=dict(filter_empty_gt=True)` drops.
    """

    METAINFO = {"classes": ("face",), "palette": [(0, 255, 0)]}

    def load_data_list(self) -> list[PlainDict]:
        """Read the text. Raises UserError where a picture is missing."""
        faces, root = read_faces(self.ann_file), Path(self.data_prefix["img"])
        missing = [name for name in faces if not (root / name).is_file()]
        if missing or not faces:
            raise UserError(
                f"{len(missing)} of the {len(faces)} pictures of {self.ann_file} are missing, the first is "
                f"{root / (missing or ['EVENT/NAME.jpg'])[0]}; data_prefix.img is the folder of the events"
            )
        data: list[dict[str, Any]] = []
        flat = invalid = 0
        for name, rows in faces.items():
            whole = rows[(rows[:, 2] > 0) & (rows[:, 3] > 0)]
            flat += len(rows) - len(whole)
            invalid += int((whole[:, INVALID] != 0).sum())
            w, h = _size(root / name)
            data.append(dict(img_id=name, img_path=str(root / name), width=w, height=h, instances=_instances(whole)))
        kept = sum(len(image["instances"]) for image in data)
        tell(
            f"{self.ann_file}: {len(data)} pictures, {kept} faces, {invalid} of them marked invalid and ignored; "
            f"{flat} rows without width or height left out"
        )
        return data

    def filter_data(self) -> list[PlainDict]:
        """Return the pictures with a face that is not ignored, where filter_cfg asks for it; all of them in test
        mode."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        kept = [d for d in self.data_list if any(not face["ignore_flag"] for face in d["instances"])]
        tell(f"{self.ann_file}: {len(self.data_list) - len(kept)} pictures without a face left out")
        return kept


def _instances(rows: np.ndarray) -> list[PlainDict]:
    return [
        dict(bbox=[x, y, x + w, y + h], bbox_label=0, ignore_flag=int(flags[INVALID - 4] != 0))
        for x, y, w, h, *flags in rows.tolist()
    ]


def _size(path: Path) -> tuple[int, int]:
    """Read (w, h) from the file's head; (0, 0) where that is damaged, which is the loading's to say."""
    try:
        with Image.open(path) as image:
            return image.size
    except Image.DecompressionBombError:
        raise UserError(f"{path}: a picture of too many pixels: make it smaller") from None
    except (UnidentifiedImageError, SyntaxError, ValueError):
        return 0, 0
