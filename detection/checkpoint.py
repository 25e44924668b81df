"""Checkpoints under today's torch.load, which refuses to unpickle anything but tensors and plain values.

mmengine's own checkpoints also hold its HistoryBuffer and numpy arrays. Exactly these classes are allowed here: test.py
and --resume work, and a checkpoint from elsewhere still cannot run code.
"""

import errno
import os
import pickle
import re
from pathlib import Path

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.net import Net
from nni_mcunet.core.qat import fake_quantize, learnt_ranges


def _method(owner, name: str):
    """What stands in for getattr: HistoryBuffer pickles its four methods by name, and nothing else has to."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r})")
    return getattr(owner, name)


_NUMPY = [np._core.multiarray._reconstruct, np._core.multiarray.scalar, np.ndarray, np.dtype]
_DTYPES = [type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "u1", "?")]
ALLOWED = [HistoryBuffer, (_method, "builtins.getattr"), (_method, "__builtin__.getattr")] + _NUMPY + _DTYPES


def load_from_local(path, map_location=None) -> dict:
    """torch.load of a local file. Raises FileNotFoundError, or UserError for a file that is no (safe) checkpoint."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location=map_location)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} is no checkpoint this project loads ({reason}); if you trust its origin set "
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"
        ) from None


def latest_checkpoint(folder) -> Path | None:
    """The newest epoch_N.pth or iter_N.pth that loads: mmengine writes them, and the name in last_checkpoint, in place,
    so that a kill can leave either half written or empty."""
    found = [path for path in Path(folder).glob("*.pth") if re.fullmatch(r"(epoch|iter)_\d+", path.stem)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            load_from_local(path, "cpu")
        except UserError:
            continue
        return path
    return None


def load_strictly(model, path) -> None:
    """Load a checkpoint into a network, which simulates int8 from then on where the checkpoint is of quantisation-aware
    training. Raises UserError where it is another network's: mmengine would load what fits and leave the rest at
    random."""
    checkpoint = load_from_local(path, "cpu")
    if learnt_ranges(checkpoint.get("state_dict", checkpoint)):
        fake_quantize(*parts(model))
    try:
        load_checkpoint(model, str(path), map_location="cpu", strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not hold the weights of this config's network: {reason}") from None


def parts(model) -> list[Net]:
    """The nets of a detector, in the order in which pictures pass them."""
    return [part for part in model.modules() if isinstance(part, Net)]


CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
