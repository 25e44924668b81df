"""Check that the files that a config's data sets name are there, where mmdet will look for them, before anything runs.

The data sets stay mmdet's. This module writes down once what each of them will open, so that a folder that is missing
or laid out in another way ends in one message: what was expected where, and what was found.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, WIDERFaceDataset, XMLDataset
from mmengine.dataset import BaseDataset

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import listing
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import check_names, counted, file_bytes, file_text, read_json, short

from ..said import tell
from .building import building
from .coco_json import read_coco
from .coco_names import ids_by_name
from .datasets import build_pictures, class_names, dataset_type, leaves, loader_leaves, some
from .voc_xml import read_annotation


def check_folders(config: PlainDict) -> None:
    """Look for every list, annotation and picture of the config's loaders. Raises UserError, with the config's
    `data_source` (how to get the data) at the end where it is of this place."""
    seen = []
    for _, data in loader_leaves(config):
        place = [data.get(key) for key in ("type", "data_root", "ann_file", "data_prefix", "metainfo")]
        if place not in seen:
            seen.append(place)
            try:
                check_dataset(data)
            except UserError as error:
                raise UserError(f"{error}{data_advice(config, data)}") from None
    for name in ("val", "test"):
        given = config.get(f"{name}_evaluator") or ()
        for evaluator in [given] if isinstance(given, dict) else given:
            notes = evaluator.get("ann_file")
            if isinstance(notes, str) and "://" not in notes and not evaluator.get("backend_args"):
                _wanted(Path(), notes, f"{name}_evaluator.ann_file, the annotations of the set that it judges")
                _check_judged(config, name, notes)


def data_advice(config: PlainDict, data: PlainDict) -> str:
    """Return how to get the data, for the end of a message; empty for a data set that lies elsewhere than the config's
    `data_root` says: the advice is not of it."""
    source, root = config.get("data_source"), config.get("data_root")
    there = not root or str(data.get("data_root")).startswith(str(root))
    return f"; {source}" if source and there else ""


def _check_judged(config: PlainDict, name: str, notes: str) -> None:
    """Raise UserError where COCO's metric would judge other pictures than those that the loader reads: both are known
    by numbers, which most files count from 1."""
    read = [data for _, data in loader_leaves(config, (f"{name}_dataloader",))]
    if len(read) != 1 or not issubclass(dataset_type(read[0]) or object, CocoDataset):
        return
    path = _root(read[0]) / read[0]["ann_file"]
    if path.samefile(notes):
        return
    pictures, judged = _numbered(path), _numbered(notes)
    for number, file in pictures.items():
        if judged.get(number) != file:
            raise UserError(
                f"data: picture {number} is {file} in {path}, which {name}_dataloader reads, and "
                f"{judged.get(number, 'missing')} in {notes}, {name}_evaluator.ann_file: give the same annotations to "
                "both"
            )


def _numbered(path: FilePath) -> dict[int, str]:
    try:
        return {image["id"]: image["file_name"] for image in read_json(path)["images"]}
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise UserError(f"data: {path} is not COCO's JSON ({reason})") from None


def open_pictures(data: PlainDict, **changes: Any) -> BaseDataset:
    """Build the data set as datasets.build_pictures does, after a look at its files. Raises UserError."""
    for part in leaves(data):
        check_dataset(part)
    with building({"dataset": data, **changes}, "the config"):
        return build_pictures(data, **changes)


def check_dataset(data: PlainDict) -> None:
    """Raise UserError for a data set of mmdet's whose files are not all there. A data set of an unknown kind is only
    asked for its annotation file, and one that is not on a disk for nothing."""
    if data.get("backend_args") or "://" in str(data.get("data_root")):
        return
    kind = dataset_type(data)
    if kind is None:
        raise UserError(f"data: no data set type {short(data['type'])}; is a package missing from custom_imports?")
    classes = class_names(data)
    if issubclass(kind, WIDERFaceDataset):
        _check_wider(data, classes)
    elif issubclass(kind, XMLDataset):
        _check_voc(data, classes)
    elif issubclass(kind, CocoDataset):
        _check_coco(data, classes)
    elif data.get("ann_file"):
        _wanted(_root(data), data["ann_file"], data["ann_file"])


def _root(data: PlainDict) -> Path:
    return Path(data.get("data_root") or ".")


def _prefix(data: PlainDict, key: str) -> Path:
    """Return the folder of a data_prefix as mmdet joins it. An absent one is the working directory, whatever the
    data_root."""
    prefix = (data.get("data_prefix") or {}).get(key)
    return Path() if prefix is None else _root(data) / prefix


def _unset(data: PlainDict, key: str) -> str:
    unset = key not in (data.get("data_prefix") or {})
    return f" (data_prefix.{key} is not set: mmdet looks in the working directory)" if unset else ""


def _wanted(root: Path, path: FilePath, layout: str) -> Path:
    """Return root / path if it exists; else raise a UserError with the layout, what there is, and the data_root that
    would do."""
    found = root / path
    if found.exists():
        return found
    if not root.is_dir():
        raise UserError(f"data: no folder {root}; expected there: {layout}")
    near = [root.parent, *sorted(entry for entry in root.iterdir() if entry.is_dir())]
    there = [str(folder) for folder in near if not Path(path).is_absolute() and (folder / path).exists()]
    advice = f"; it is in {there[0]}: set data_root to that" if there else ""
    where = found.parent if found.parent.is_dir() else root
    raise UserError(
        f"data: {found} is missing; expected in {root}: {layout}; found in {where}: {listing(where)}{advice}"
    )


def _names(path: Path) -> list[str]:
    names = file_text(path).splitlines()
    if not any(name.strip() for name in names):
        raise UserError(f"data: {path} is empty; expected the name of a picture, without .jpg, on each line")
    check_names(names, path)
    return names  # as mmdet reads them: the whole line is the name


def _check_voc(data: PlainDict, classes: Sequence[str] | None) -> None:
    prefix, pictures = _prefix(data, "sub_data_root"), data.get("img_subdir", "JPEGImages")
    notes = data.get("ann_subdir", "Annotations")
    layout = f"{data['ann_file']} (a name on each line), {prefix / notes}/NAME.xml, {prefix / pictures}/NAME.jpg"
    layout += _unset(data, "sub_data_root")
    listed = _wanted(_root(data), data["ann_file"], layout)
    for folder in (notes, pictures):
        _wanted(prefix, folder, layout)
    names = _names(listed)
    _check_xml([prefix / notes / f"{name}.xml" for name in names], listed, classes)
    _all_there([prefix / pictures / f"{name}.jpg" for name in names], listed, "pictures")


def _check_wider(data: PlainDict, classes: Sequence[str] | None) -> None:
    prefix = _prefix(data, "img")
    layout = f"{data['ann_file']} (a name on each line), {prefix}/Annotations/NAME.xml, {prefix}/EVENT/NAME.jpg"
    if (_root(data) / "wider_face_split").is_dir() and not (prefix / "Annotations").is_dir():
        layout += " (mmdet's layout; this folder has the official one: its .txt have to be converted to .xml)"
    layout += _unset(data, "img")
    listed = _wanted(_root(data), data["ann_file"], layout)
    _wanted(prefix, "Annotations", layout)
    names = _names(listed)
    events = _check_xml([prefix / "Annotations" / f"{name}.xml" for name in names], listed, classes)
    paths = [prefix / event / f"{name}.jpg" for event, name in zip(events, names, strict=True)]
    _all_there(paths, listed, "pictures")


def _check_coco(data: PlainDict, classes: Sequence[str] | None) -> None:
    images = _prefix(data, "img")
    layout = f"{data['ann_file']} (COCO's JSON), {images}/FILE_NAME for each of its images"
    layout += _unset(data, "img")
    listed = _wanted(_root(data), data["ann_file"], layout)
    coco = read_coco(listed)
    for lines, what in ((coco.flat, "without area"), (coco.outside, "wholly outside the picture")):
        if lines:
            said = f"{listed}: {counted(len(lines), 'box')} {what} left out, the first is in {lines[0]}"
            tell(said, logging.WARNING)
    try:
        ids_by_name([{"id": key, "name": name} for key, name in coco.names.items()], classes or ())
    except UserError as error:
        raise UserError(f"data: {listed} {error}") from None
    objects, paths = coco.objects, [images / name for name in coco.files]
    _known(objects, classes, listed)
    _wanted(images, ".", layout)
    _all_there(paths, listed, "pictures")


def _check_xml(paths: list[Path], listed: Path, classes: Sequence[str] | None) -> list[str]:
    """Return the folder that each annotation names. All are read (20,000 in two seconds): mmdet's traceback names no
    file."""
    _all_there(paths, listed, "annotations")
    notes = [read_annotation(file_bytes(path), path) for path in paths]
    for note, path in zip(notes, paths, strict=True):
        if note.folder:
            check_names([note.folder], path)
    _known({name for note in notes for name in note.names}, classes, listed)
    return [note.folder for note in notes]


def _known(objects: set[str], classes: Sequence[str] | None, listed: Path) -> None:
    """Raise UserError where no object is of the data set's classes: mmdet passes over others in silence, and nothing
    would be learnt."""
    if not objects:
        raise UserError(f"data: no annotation of {listed} has an object: there is nothing to learn or to find")
    if classes and not objects & set(classes):
        raise UserError(
            f"data: no object of {listed} is of a class of metainfo.classes, {some(classes)}; there are "
            f"{some(sorted(objects))}"
        )


def _all_there(paths: list[Path], listed: Path, what: str) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        first = missing[0]
        others = sorted(p.name for p in first.parent.glob(f"{first.stem}.*")) if first.parent.is_dir() else []
        instead = f" ({others[0]} is there)" if others else ""
        raise UserError(
            f"data: {len(missing)} of {len(paths)} {what} that {listed} names are missing, "
            f"the first is {first}{instead}"
        )
