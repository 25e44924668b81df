"""Read CIFAR-10, the "python version" archive unpacked: ROOT/cifar-10-batches-py/data_batch_1..5 and test_batch.

The files are pickles, and a pickle is a program: only the few names that an array of numbers needs are let in.
"""

import io
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.types import PlainDict
from ...core.view import View
from .pictures import Pictures, split_off
from .source import DataError, natural, wanted

OPTIONS = {"held_out": 5000, "crop": [0.5, 1.0], "jitter": 0.4, "keep": 1.0, "seed": 0}
LAYOUT = "cifar-10-batches-py/data_batch_1 ... data_batch_5 and test_batch (cifar-10-python.tar.gz, unpacked)"
CLASSES = 10


def open_cifar10(root: Path, options: PlainDict) -> Pictures:
    """Open the archive's folder, or the one above it; held-out pictures are split off the training batches. Raises
    DataError."""
    folder = root if root.name == "cifar-10-batches-py" else root / "cifar-10-batches-py"
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = [read_batch(wanted(folder / name, LAYOUT, root)) for name in names]
    train = [item for batch in batches[:5] for item in batch]
    held_out, seed = natural(options["held_out"], "held_out", low=1), natural(options["seed"], "seed")
    splits = split_off(train, held_out, seed) | {"test": batches[5]}
    return Pictures(splits, picture, CLASSES, options)


def picture(row: np.ndarray, view: View) -> Image.Image:
    """Make a picture from uint8 (3072,), planes of red, green, blue: the same for every view."""
    return Image.fromarray(np.ascontiguousarray(row.reshape(3, 32, 32).transpose(1, 2, 0)))


def read_batch(path: Path) -> list[tuple[np.ndarray, int]]:
    """Read one batch: (planes uint8 (3072,), label) of each picture. Raises DataError."""
    try:
        batch = _Numbers(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        good = (
            data.dtype == np.uint8 and data.shape == (len(labels), 3072) and 0 <= labels.min() <= labels.max() < CLASSES
        )
    except DataError:
        raise
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(f"data: {path} is no batch of CIFAR-10's python version ({error})") from None
    if not good:
        raise DataError(f"data: {path} is no batch of CIFAR-10: expected uint8 (n, 3072) and n labels under 10")
    return list(zip(data, labels.tolist(), strict=True))


class _Numbers(pickle.Unpickler):
    """Load arrays, lists, dictionaries and strings; refuse every other name."""

    ALLOWED = {("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")} | {
        (module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise DataError(f"data: a batch of CIFAR-10 would run {module}.{name}: it is not the published file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
