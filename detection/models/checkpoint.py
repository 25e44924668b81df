"""Read checkpoints, wherever they come from, by a torch.load that unpickles nothing but tensors and plain values.

mmengine's own checkpoints also hold its HistoryBuffer and numpy arrays. Exactly these classes are allowed here: mcunet
test and --resume work, and a checkpoint from elsewhere still cannot run code. Each of the loaders that mmengine knows
by a prefix (https://, s3://, torchvision://, ...) fetches as before and loads under the same rule; mmengine would run
what a downloaded file says.
"""

import errno
import os
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from numpy._core import multiarray
from torch import nn

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import fake_quantize, learnt_ranges, learnt_spans
from nni_mcunet.core.types import FilePath, Groups, Plain, PlainDict
from nni_mcunet.core.validate import reason_of_load, short

from ..data.datasets import check_classes


def _method(owner: type, name: str) -> Plain:
    """Stand in for getattr: HistoryBuffer pickles its four methods by name, and nothing else has to."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r})")
    return getattr(owner, name)


_NUMPY = [multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype]
_DTYPES = [type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "u1", "?")]
ALLOWED = [HistoryBuffer, (_method, "builtins.getattr"), (_method, "__builtin__.getattr")] + _NUMPY + _DTYPES


DAMAGED = (pickle.UnpicklingError, EOFError, RuntimeError, BadZipFile, LookupError, TypeError, AttributeError,
           ValueError, AssertionError, struct.error)  # fmt: skip
TRUST, SAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def _weights_only() -> Iterator[None]:
    """Keep every torch.load inside the context from unpickling code, even one that is called with weights_only=False,
    unless the user has set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD."""
    before = os.environ.get(SAFE)
    if os.environ.get(TRUST, "0").lower() not in ("1", "y", "yes", "true"):
        os.environ[SAFE] = "1"
    try:
        with torch.serialization.safe_globals(ALLOWED):
            yield
    finally:
        os.environ.pop(SAFE, None) if before is None else os.environ.update({SAFE: before})


def _safely(loader: Callable[..., PlainDict]) -> Callable[..., PlainDict]:
    """Put one of mmengine's loaders under `_weights_only`. It raises UserError for what cannot be fetched or is no
    checkpoint, and OSError with the name of a file on the disk."""

    @wraps(loader)  # mmengine's log has its name
    def load(path: FilePath, map_location: Plain = None) -> PlainDict:
        try:
            with _weights_only():
                return loader(path, map_location)
        except (OSError, HTTPException, ImportError) as error:
            if isinstance(error, OSError) and error.filename and not isinstance(error, URLError):
                raise
            raise UserError(f"{path} cannot be fetched ({_reason(error)}); download it and give the file") from None
        except DAMAGED as error:
            # a cut file is no better for being trusted
            advice = f"; if you trust its origin set {TRUST}=1" if isinstance(error, pickle.UnpicklingError) else ""
            raise UserError(f"{path} is no checkpoint this project loads ({_reason(error)}){advice}") from None

    return load


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError) and isinstance(error.args[0], str):  # of a list of models, such as torchvision's
        return f"there is no {short(error.args[0])}"
    if not isinstance(error, (OSError, HTTPException, ImportError)):
        return reason_of_load(error)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@_safely
def load_from_local(path: FilePath, map_location: Plain = None) -> PlainDict:
    """Load a local file by torch.load. Raises FileNotFoundError, IsADirectoryError, or UserError for a file that is
    no (safe) checkpoint."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return torch.load(path, map_location=map_location)


def read_checkpoint(path: FilePath) -> PlainDict:
    """Read a checkpoint from a file, or from any place that mmengine knows by a prefix, onto the CPU. Raises
    FileNotFoundError, UserError."""
    found = CheckpointLoader.load_checkpoint(str(path), map_location="cpu", logger="silent")
    if not isinstance(found, dict):
        raise UserError(f"{path} is no checkpoint: it holds a {type(found).__name__}")
    return found


def trained_classes(checkpoint: PlainDict) -> tuple[str, ...] | None:
    """Return the names that a checkpoint of mmengine was trained on; None where it does not say."""
    meta = checkpoint.get("meta") or {}
    found = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
    return None if found is None else tuple(found)


def latest_checkpoint(folder: FilePath, iteration: int | None = None) -> Path | None:
    """Find the epoch_N.pth or iter_N.pth that a training wrote last, among those that a training can go on from; with
    an iteration, among those that were written behind it.

    Last is the time that mmengine wrote into the checkpoint, then the highest N: a file's own date is that of a copy,
    and N of an older training in the same folder may be higher. A kill can leave a file half written, and the file
    last_checkpoint too, which is not read.
    """
    found = {}
    for path in Path(folder).glob("*.pth"):
        number = re.fullmatch(r"(?:epoch|iter)_(\d+)", path.stem)
        if number:
            with suppress(UserError, FileNotFoundError):
                meta = read_checkpoint(path).get("meta") or {}
                if ("epoch" in meta or "iter" in meta) and iteration in (None, meta.get("iter")):
                    found[path] = (meta.get("time") or "", meta.get("iter") or 0, int(number[1]))
    return max(found, key=lambda path: found[path], default=None)


def check_resumable(path: FilePath, classes: tuple[str, ...] | None) -> None:
    """Look whether a training on these classes can go on from a checkpoint. Raises UserError, FileNotFoundError."""
    checkpoint = read_checkpoint(path)
    meta = checkpoint.get("meta") or {}
    if not {"epoch", "iter"} <= meta.keys() or "message_hub" not in checkpoint:
        raise UserError(
            f"{path} holds weights and not the state of a training: begin a new one with --cfg-options load_from={path}"
        )
    check_classes(trained_classes(checkpoint), classes, path)


def load_strictly(model: nn.Module, path: FilePath, classes: tuple[str, ...] | None = None) -> tuple[str, ...] | None:
    """Load a checkpoint into a network. The network simulates int8 from then on where the checkpoint is of
    quantisation-aware training. Returns the names of its classes: the checkpoint's, else `classes`, the config's.
    Raises UserError where these differ, and where it is another network's: mmengine would load what fits and leave
    the rest at random."""
    checkpoint = read_checkpoint(path)
    trained = trained_classes(checkpoint)
    check_classes(trained, classes, path)
    state = checkpoint.get("state_dict", checkpoint)
    if learnt_ranges(state):
        fake_quantize(*parts(model), groups=channel_groups(model) if learnt_spans(state) else None)
    try:
        load_checkpoint(model, str(path), map_location="cpu", strict=True, logger="silent")
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not hold the weights of this config's network: {reason}") from None
    return trained or classes


def parts(model: nn.Module) -> list[Net]:
    """List the nets of a detector, in the order in which pictures pass them."""
    return [part for part in model.modules() if isinstance(part, Net)]


def channel_groups(model: nn.Module) -> dict[str, Groups]:
    """Return the groups of its outputs' channels of a detector, which may stand in another module (core/ir/box_channels
    says what they are)."""
    found: dict[str, Groups] = {}
    for part in model.modules():
        found |= getattr(part, "channel_groups", {})
    return found


for _prefix, _loader in list(CheckpointLoader._schemes.items()):
    _loader = _safely(_loader) if _prefix else load_from_local
    CheckpointLoader.register_scheme(prefixes=_prefix, loader=_loader, force=True)
