"""Divide labelled pictures for training and validation, and keep a division that was made before."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from nni_mcunet.core.errors import UserError

from .labelled import Folder, Labelled

SHARE = 0.2  # of the pictures, for validation


def divided(folder: Folder, root: str, kept: dict[str, set[str]], seed: int = 0) -> dict[str, list[Labelled]]:
    """Return "train", "val" and, where the folder has it, "test", the pictures of each in the order of their
    paths.

    A division that the folder names stays as it is. Where it names none for validation, the test pictures serve; where
    it names neither, a fifth of the pictures is drawn by `seed`. kept: "train" and "val" -> names of pictures of an
    earlier draw, which stay where they are: a network must not be judged on what an earlier one was trained on. Raises
    UserError for a folder without pictures for one of the two."""
    splits = {name: list(pictures) for name, pictures in folder.splits.items() if pictures}
    loose = splits.pop("", [])
    named = bool(splits)
    if splits and loose:
        folder.notes.append(f"{len(loose)} pictures in no split: taken for training")
    splits.setdefault("train", []).extend(loose)
    if "val" not in splits and "test" in splits:
        splits["val"] = splits.pop("test")
        folder.notes.append("no split for validation: the test pictures serve")
    if "val" not in splits:
        if named:
            folder.notes.append("no picture for validation: a fifth of those for train is drawn")
        splits["train"], splits["val"] = _drawn(splits["train"], root, kept, seed)
    for name in ("train", "val"):
        if not any(item.boxes for item in splits[name]):
            raise UserError(f"{root}: no object in the {len(splits[name])} pictures for {name}: label more pictures")
    return {name: sorted(splits[name], key=_path) for name in ("train", "val", "test") if name in splits}


def _drawn(
    pictures: list[Labelled], root: str, kept: dict[str, set[str]], seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Draw a fifth for validation; a class that two pictures have stands in both parts."""
    names = {item.path: item.path.relative_to(root).as_posix() for item in pictures}
    fixed = {path: split for path, name in names.items() for split in ("train", "val") if name in kept.get(split, ())}
    order = sorted((p for p in pictures if p.path not in fixed), key=lambda item: _rank(names[item.path], seed))
    held = [item for item in pictures if fixed.get(item.path) == "val"]
    train = [item for item in pictures if fixed.get(item.path) == "train"]
    number = max(round(SHARE * len(order)), 0 if held else 1)
    held, train = held + order[:number], train + order[number:]
    for short_of, full in ((train, held), (held, train)):
        for name in sorted(_classes(full) - _classes(short_of)):
            having = [item for item in full if name in _classes([item])]
            free = [item for item in having if item.path not in fixed]
            if free and len(having) > 1:
                full.remove(free[0])
                short_of.append(free[0])
    return train, held


def _path(item: Labelled) -> Path:
    return item.path


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _classes(pictures: Iterable[Labelled]) -> set[str]:
    return {box.name for item in pictures for box in item.boxes}
