"""Number COCO's categories by name. mmdet numbers the labels in the order of the JSON's categories, whatever the order
of `metainfo.classes`: with another order every object is learnt under another class's name, down to the board.

Here label i is the category called classes[i], for the data set and for the metric, which turns labels into ids again.
"""

from collections.abc import Iterable, Sequence
from functools import wraps

from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import PlainDict
from nni_mcunet.core.validate import short

from .datasets import some


def ids_by_name(categories: list[PlainDict], names: Iterable[str]) -> list[int]:
    """Return the ids of COCO's categories (dicts with id and name) in the order of the names. Raises UserError for a
    name that is none's, or more than one's."""
    found = []
    for name in names:
        ids = [category["id"] for category in categories if category["name"] == name]
        if len(ids) != 1:
            there = f"the ids {ids}" if ids else some([category["name"] for category in categories])
            what = f"{len(ids)} categories" if ids else "no category"
            raise UserError(f"has {what} {short(name)} of metainfo.classes; it has {there}")
        found += ids
    return found


def install_names() -> None:
    """Put the names' order into mmdet's reader of COCO's JSON and into its metric. An object's id, which nothing else
    names, is its place in the file: pycocotools counts a box on an object of the id 0 as a false one, and one of two
    objects of one id as the other. Area and iscrowd, which many writers leave out and its metric needs, are added."""
    plain_ids, plain_json, plain_index = COCO.get_cat_ids, CocoMetric.results2json, COCO.createIndex

    @wraps(plain_index)
    def create_index(self: COCO) -> None:
        for at, note in enumerate(self.dataset.get("annotations", ()), 1):
            note["id"] = at
            if "bbox" in note:
                note.setdefault("area", note["bbox"][2] * note["bbox"][3])
            note["iscrowd"] = note.get("iscrowd") or 0
        plain_index(self)

    @wraps(plain_ids)
    def get_cat_ids(
        self: COCO, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (), cat_ids: Sequence[int] = ()
    ) -> list[int]:
        if not cat_names or isinstance(cat_names, str) or sup_names or cat_ids:
            return plain_ids(self, cat_names, sup_names, cat_ids)
        try:
            return ids_by_name(self.dataset["categories"], cat_names)
        except UserError as error:
            raise UserError(f"COCO's JSON {error}") from None

    @wraps(plain_json)
    def results2json(self: CocoMetric, results: Sequence[PlainDict], outfile_prefix: str) -> dict[str, str]:
        self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta["classes"])
        files = plain_json(self, results, outfile_prefix)
        self.cat_ids = sorted(self.cat_ids)  # COCOeval's order, by which mmdet names the classes' own AP
        return files

    COCO.get_cat_ids, COCO.createIndex, CocoMetric.results2json = get_cat_ids, create_index, results2json
