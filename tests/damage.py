"""Share what damages of every format need (see fuzz_onnx.py): odd numbers, a choice, changed bytes, the reader."""

import warnings
from pathlib import Path

import numpy as np

from nni_mcunet.core.errors import CutWarning
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.model import Model, QuantModel

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 256, 32767, 32768, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 1e-38, 1e38, np.inf, -np.inf, np.nan, 1e-12, 3.0)


def pick(rng, things):
    """Raises LookupError where there is nothing."""
    things = list(things)
    if not things:
        raise LookupError
    return things[rng.integers(len(things))]


def raw_bytes(rng, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, what = int(rng.integers(len(data))), rng.integers(4)
        if what == 0:
            data[at] = int(rng.integers(256))
        elif what == 1:
            del data[at : at + int(rng.integers(1, 20))]
        elif what == 2:
            data[at:at] = bytes(rng.integers(0, 256, rng.integers(1, 20)).astype(np.uint8))
        else:
            data = data[: max(at, 1)] if rng.random() < 0.2 else data
    return bytes(data)


def loaded(path: Path) -> tuple[Model | QuantModel, bool]:
    """The model of a file, and whether it ends before the file does: its outputs are others then."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        model = load_model(path)
    return model, any(issubclass(note.category, CutWarning) for note in notes)
