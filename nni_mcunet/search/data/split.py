"""Tell which pictures train and which judge, so that no network is ever judged on what it was trained on: a fingerprint
of each split for checkpoints and exported weights, and what differs between two of them."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ...core.types import PlainDict

JUDGED = ("train", "held_out")  # a test set may come and go
OPTIONS = ("kind", "held_out", "seed")


def fingerprint(items: Sequence[tuple[str | np.ndarray, int]]) -> str:
    """Return 16 hex digits of a split's (picture, label) pairs. A file counts by its folder and name, wherever the data
    set lies."""
    digest = hashlib.sha256()
    for item, label in items:
        name = "/".join(item.split("/")[-2:]).encode() if isinstance(item, str) else item.tobytes()
        digest.update(b"%b\0%d\n" % (name, label))
    return digest.hexdigest()[:16]


def difference(before: PlainDict, now: PlainDict) -> str | None:
    """Say how the split of Data.identity `now` differs from that of `before`, which may be of a time without
    fingerprints; None where the same pictures train and the same judge."""
    if before.get("files") and before["files"] == now.get("files"):
        return None  # whatever the options: a folder with val/ and test/ does not ask for held_out
    for key in OPTIONS:
        if before.get(key) != now.get(key):
            return f"{key} {before.get(key)}, these have {now.get(key)}"
    for split in JUDGED:
        counts = [identity.get("sizes", {}).get(split) for identity in (before, now)]
        if counts[0] != counts[1]:
            return f"sizes of {counts[0]} {split} pictures, these have {counts[1]}"
    if "files" in before:
        return "another list of pictures: some were added, removed or renamed since"
    return None
