"""Divide labelled pictures for training and validation, and keep a division that was made before."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from nni_mcunet.core.errors import UserError

from .copies import sources
from .labelled import Folder, Labelled, some_paths

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
    if not splits["train"] and len(splits) == 2:
        (only,) = splits.keys() - {"train"}
        splits["train"] = splits.pop(only)
        folder.notes.append(f"all pictures are for {only}, none for train: they are divided anew")
    if not splits["train"]:
        others = " and ".join(f"{len(splits[name])} for {name}" for name in ("val", "test") if name in splits)
        raise UserError(f"{root}: no picture for train, {others}: call the folder or the list of those to learn train")
    if "val" not in splits and "test" in splits:
        splits["val"] = splits.pop("test")
        folder.notes.append("no split for validation: the test pictures serve")
    if "val" not in splits:
        if named:
            folder.notes.append("no picture for validation: a fifth of those for train is drawn")
        splits["train"], splits["val"] = _drawn(splits["train"], root, kept, seed)
    folder.notes += _without_copies(splits)
    for name in ("train", "val"):
        if not any(item.learnt for item in splits[name]):
            raise UserError(f"{root}: no object in the {len(splits[name])} pictures for {name}: label more pictures")
    for name in ("train", "val"):
        if absent := [of for of in folder.classes if of not in _classes(splits[name])]:
            folder.notes.append(f"no object of {', '.join(absent)} in the pictures for {name}")
    return {name: sorted(splits[name], key=_path) for name in ("train", "val", "test") if name in splits}


def _without_copies(splits: dict[str, list[Labelled]]) -> list[str]:
    """Leave a copy of a picture of another split out, in place, and return a note on them."""
    of, notes = sources([item.path for items in splits.values() for item in items]), []
    for first, second in combinations([name for name in ("train", "val", "test") if name in splits], 2):
        known = {of[item.path] for item in splits[first]}
        same = [str(item.path) for item in splits[second] if of[item.path] in known]
        splits[second] = [item for item in splits[second] if of[item.path] not in known]
        notes += some_paths(same, "picture", f"for {second} left out: the same bytes are one for {first}")
    return notes


def _drawn(
    pictures: list[Labelled], root: str, kept: dict[str, set[str]], seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Draw a fifth for validation; a class that two pictures have stands in both parts, and the copies of a picture in
    one of them."""
    names = {item.path: item.path.relative_to(root).as_posix() for item in pictures}
    of = sources(list(names))
    fixed = {
        of[path]: split for split in ("train", "val") for path, name in names.items() if name in kept.get(split, ())
    }
    order = sorted((p for p in pictures if of[p.path] not in fixed), key=lambda item: _rank(names[item.path], seed))
    held = [item for item in pictures if fixed.get(of[item.path]) == "val"]
    train = [item for item in pictures if fixed.get(of[item.path]) == "train"]
    number = max(round(SHARE * len(order)), 0 if held else 1)
    drawn = _some([of[item.path] for item in order], number)
    held += [item for item in order if of[item.path] in drawn]
    train += [item for item in order if of[item.path] not in drawn]
    for short_of, full in ((train, held), (held, train)):
        for name in sorted(_classes(full) - _classes(short_of)):
            having = list(dict.fromkeys(of[item.path] for item in full if name in _classes([item])))
            free = [source for source in having if source not in fixed]
            if free and len(having) > 1:
                short_of += [item for item in full if of[item.path] == free[0]]
                full[:] = [item for item in full if of[item.path] != free[0]]
    return train, held


def _some(order: list[str], number: int) -> set[str]:
    """Return the first sources that have `number` pictures together. One with more is taken only where all have."""
    copies, found, count = Counter(order), set[str](), 0
    few = [source for source in dict.fromkeys(order) if copies[source] <= number] or order[: len(copies) - 1]
    for source in few:
        if count < number and source not in found:
            found.add(source)
            count += copies[source]
    return found


def _path(item: Labelled) -> Path:
    return item.path


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _classes(pictures: Iterable[Labelled]) -> set[str]:
    return {box.name for item in pictures for box in item.boxes}
