"""Open pictures to train and judge on: `open_data({"kind": ..., ...})` gives a Data.

The modules beside this one say which kinds and options there are: digits (the embedded default), folders (folder,
imagenet), cifar (cifar10), vww. A kind with a dot is a class of another package, `detection.DetectorData`: a source
(see source.py) that is made from the mapping's options; OPTIONS are those it knows. Common options: calibration
[batches, pictures a batch] for the batch normalisation of a sub-network; workers, processes that read pictures; of
files also disk_gb, room for decoded ones in the user's cache, see picture_cache.py. No result depends on the last two.

Images are uint8 until they are on the device, then float32 RGB in [0, 1], (N, 3, h, w): the engine's scale, 1/255.
"""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...core.types import PlainDict
from ...core.validate import check_keys, parse_yaml, short
from ...core.view import View
from . import cifar, digits, folders, vww
from .picture_cache import cached
from .pictures import Pictures
from .source import DataError, Key, Source, natural, share

__all__ = ["Data", "DataError", "open_data", "parse_data", "view_of"]

PAPER = {"calibration": [20, 64], "workers": 4}
FILES = PAPER | {"disk_gb": 16}
Opener = Callable[[Path, PlainDict], Source]
KINDS: dict[str, tuple[Opener, PlainDict]] = {  # kind -> (what opens it, its options with their defaults)
    "digits": (lambda root, options: digits.Digits(options), digits.OPTIONS | {"calibration": [4, 64], "workers": 0}),
    "folder": (folders.open_folder, folders.FOLDER | FILES),
    "imagenet": (folders.open_imagenet, folders.IMAGENET | FILES),
    "cifar10": (cifar.open_cifar10, cifar.OPTIONS | PAPER | {"workers": 0}),
    "vww": (vww.open_vww, vww.OPTIONS | FILES),
}
CACHE_BYTES = 4 << 30  # room for pictures that are used again and again: held-out ones and the calibration's
NO_IDENTITY = ("workers", "disk_gb", "calibration", "config")  # options on which no picture depends
CHUNK = 64  # pictures a batch of an evaluation

Targets = Tensor | list[Any]  # labels (N,), or what another task has for each picture
Batch = tuple[Tensor, Targets]
Device = str | torch.device


def open_data(config: PlainDict) -> "Data":
    """Open the data set of a mapping (YAML, a trial's parameters). Raises DataError naming the key or the folder."""
    if not isinstance(config, dict):
        raise DataError(f"data is {short(config)}: expected a mapping such as {{kind: digits}}")
    kind = config.get("kind", "digits")
    if not isinstance(kind, str) or (kind not in KINDS and "." not in kind):
        hint = f"; for a folder of pictures by class say folder:{kind}" if Path(str(kind)).is_dir() else ""
        raise DataError(f"data: kind is {short(kind)}: expected one of {', '.join(KINDS)} or PACKAGE.CLASS{hint}")
    opener, defaults = KINDS[kind] if kind in KINDS else _plug_in(kind)
    rootless = kind == "digits" or "." in kind
    known = set(defaults) | {"kind"} | (set() if rootless else {"root"})
    check_keys(config, sorted(known), f"data of the kind {kind}", kind=DataError)
    root = config.get("root")
    if not rootless and (not isinstance(root, str) or not root):
        raise DataError(f"data: root is {short(root)}: expected the data set's folder, for kind {kind}")
    options = defaults | {key: value for key, value in config.items() if key in defaults}
    return Data(opener(Path(root or "."), options), kind, options)


def view_of(config: PlainDict) -> View | None:
    """Return how the pictures of a mapping for open_data are seen where they judge, without opening it. None for
    pictures that are made in the network's size (digits) or that another package resizes (a detector's)."""
    kind = config.get("kind", "digits")
    defaults = KINDS[kind][1] if kind in KINDS else {}
    return View(share(config.get("keep", defaults["keep"]), "keep")) if "keep" in defaults else None


def _plug_in(kind: str) -> tuple[Opener, PlainDict]:
    """Return a class of another package as an entry of KINDS. Raises DataError."""
    module, _, name = kind.rpartition(".")
    try:
        source = getattr(importlib.import_module(module), name)
        return (lambda root, options: source(options)), source.OPTIONS | PAPER
    except Exception as error:  # importing runs the module, which may raise anything
        raise DataError(f"data: kind is {kind}, which is no class with OPTIONS that can be imported: {error}") from None


def parse_data(text: str) -> PlainDict:
    """Read a command line's --data: KIND, KIND:ROOT, or a YAML mapping in braces. Raises DataError."""
    if text.startswith("{"):
        return parse_yaml(text, f"--data {short(text)}", DataError)
    kind, colon, root = text.partition(":")
    return {"kind": kind} | ({"root": root} if colon else {})


class _Samples(Dataset[tuple[Tensor, Any]]):
    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, key: Key) -> tuple[Tensor, Any]:
        return self.source.sample(key)


class Data:
    """Hand out a source's pictures in batches.

    task         what networks are trained for on them and judged by, see classification.py
    calibration_size  (batches, pictures a batch)
    identity     what the pictures depend on, for checkpoints
    view         how they are seen where they judge, see view_of
    """

    def __init__(self, source: Source, kind: str, options: PlainDict):
        self.source, self.task = source, source.task
        size = options["calibration"]
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise DataError(f"data: calibration is {short(size)}: expected [batches, pictures a batch]")
        self.calibration_size = natural(size[0], "calibration", 1), natural(size[1], "calibration", 1)
        self.workers, self.view = natural(options["workers"], "workers"), view_of(options | {"kind": kind})
        self.disk = natural(options.get("disk_gb", 0), "disk_gb") << 30
        fixed = {key: value for key, value in options.items() if key not in NO_IDENTITY}
        self.identity = {"kind": kind, "sizes": dict(source.sizes)} | fixed | getattr(source, "identity", {})
        self._kept: OrderedDict[tuple[object, ...], list[Batch]] = OrderedDict()  # the oldest first

    def epoch(self, batch: int) -> int:
        """Return the steps of an epoch; pictures that fill no batch are left out of it. Raises DataError."""
        steps = self.source.sizes["train"] // batch
        if not steps:
            count = self.source.sizes["train"]
            raise DataError(f"data: {count} training pictures do not fill a batch of {batch}: give a smaller --batch")
        return steps

    def training(
        self,
        steps: Iterable[int],
        batch: int,
        resolution: Callable[[int], tuple[int, int]],
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Yield (uint8 images (n, 3, h, w), targets) for each of `steps`, at the resolution of the step. Every picture
        comes once an epoch, in an order that the seed and the epoch say; its augmentation depends only on seed, step
        and place in the batch. part (i, of): the i-th of so many equal slices of each batch (data-parallel
        training)."""
        per_epoch, (at, of) = self.epoch(batch), part
        if batch % of:
            raise DataError(f"a batch of {batch} cannot be shared by {of} processes")
        slice_ = range(at * batch // of, (at + 1) * batch // of)

        def keys() -> Iterator[list[Key]]:
            shuffled, order = -1, np.zeros(0, np.int64)
            for step in steps:
                epoch, start = step // per_epoch, step % per_epoch * batch
                if shuffled != epoch:
                    shuffled, rng = epoch, np.random.default_rng([seed, epoch])
                    order = rng.permutation(self.source.sizes["train"])
                size = resolution(step)
                yield [Key("train", int(order[start + i]), size, (seed, step, i)) for i in slice_]

        return self._load(keys())

    def calibration(
        self,
        resolution: tuple[int, int],
        batches: int | None = None,
        batch: int | None = None,
        seed: int = 0,
        device: Device = "cpu",
    ) -> Iterator[Tensor]:
        """Yield batches of random training pictures as an evaluation sees them: float images, without targets."""
        batches, batch = batches or self.calibration_size[0], batch or self.calibration_size[1]
        if "train" not in self.source.sizes:
            raise DataError("data: there are no training pictures to calibrate on")
        chosen = np.random.default_rng([seed, 1]).integers(self.source.sizes["train"], size=batches * batch)
        return (images for images, _ in self._again("train", resolution, chosen, batch, device))

    def held_out(self, resolution: tuple[int, int], device: Device = "cpu") -> Iterator[Batch]:
        """Yield (float images (n, 3, h, w), targets): the pictures that a search judges by."""
        return self._whole("held_out", resolution, device)

    def test(self, resolution: tuple[int, int], device: Device = "cpu") -> Iterator[Batch]:
        """Yield the pictures of final figures, like held_out. Raises DataError where the data set has none."""
        return self._whole("test", resolution, device)

    def size(self, split: str) -> int:
        """Count the pictures of a split. Raises DataError where the data set has none."""
        if split not in self.source.sizes:
            raise DataError(f"data: there is no {split} set; there are {', '.join(self.source.sizes)}")
        return self.source.sizes[split]

    def as_deployed(
        self, split: str, resolution: tuple[int, int], view: View, indices: Iterable[int] | None = None
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield a split's pictures, all or those of `indices`, as a deployed network with this view gets them, uint8
        (h, w, 3), with their labels."""
        source: Any = copy(self.source)  # a drawn one takes a view and ignores it
        source.view = view
        for index in range(self.size(split)) if indices is None else indices:
            image, label = source.sample(Key(split, index, resolution))
            yield image.permute(1, 2, 0).contiguous().numpy(), label

    def _whole(self, split: str, resolution: tuple[int, int], device: Device) -> Iterator[Batch]:
        return self._again(split, resolution, np.arange(self.size(split)), CHUNK, device)

    def _again(
        self, split: str, resolution: tuple[int, int], indices: np.ndarray, batch: int, device: Device
    ) -> Iterator[Batch]:
        """Yield the same pictures as often as asked for: files are kept on disk, others in memory, while there is
        room."""
        key = split, tuple(resolution), indices.tobytes(), batch
        batches: Iterable[Batch] | None = self._kept.get(key)
        if batches is None:
            keys = [Key(split, int(i), (resolution[0], resolution[1])) for i in indices]
            chunks = [keys[i : i + batch] for i in range(0, len(keys), batch)]
            batches = self._mapped(chunks)
            if batches is None:
                # copies: a worker's batch is two open files and takes room in /dev/shm, of which containers have little
                batches = ((images.clone(), targets) for images, targets in self._load(chunks))
            size = 3 * len(keys) * resolution[0] * resolution[1]
            if size <= CACHE_BYTES:
                while sum(map(_bytes, self._kept.values())) > CACHE_BYTES - size:
                    self._kept.popitem(last=False)
                batches = self._kept[key] = list(batches)
        for images, targets in batches:
            yield as_float(images, device), targets

    def _mapped(self, chunks: list[list[Key]]) -> list[Batch] | None:
        """Return batches of pictures that are files, from the disk; None for others, and where there is no room."""
        if not self.disk or not isinstance(self.source, Pictures):
            return None
        items = [self.source.splits[key.split][key.index] for chunk in chunks for key in chunk]
        images = cached(
            [str(path) for path, _ in items],
            self.source.view,
            chunks[0][0].resolution,
            self.disk,
            lambda: (images for images, _ in self._load(chunks)),
        )
        if images is None:
            return None
        size = len(chunks[0])
        labels = torch.tensor([label for _, label in items])
        return list(zip(torch.split(images, size), torch.split(labels, size), strict=True))

    def _load(self, keys: Iterable[list[Key]]) -> Iterator[Batch]:
        loader = DataLoader(_Samples(self.source), batch_sampler=keys, num_workers=self.workers, collate_fn=_stack)
        try:
            for images, targets in loader:
                yield images, torch.tensor(targets) if isinstance(targets[0], int) else targets
        except DataError as error:  # a worker's arrives with its whole traceback
            raise DataError(str(error).strip().splitlines()[-1].split("DataError: ")[-1]) from None


def _stack(samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, list[Any]]:
    """Make a batch as a worker sends it: the images one tensor, the targets as they are."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def as_float(images: Tensor, device: Device = "cpu") -> Tensor:
    """Turn uint8 in [0, 255] into float32 in [0, 1]."""
    return images.to(device, non_blocking=True).float().div_(255)


def _bytes(batches: list[Batch]) -> int:
    return sum(images.numel() for images, _ in batches)
