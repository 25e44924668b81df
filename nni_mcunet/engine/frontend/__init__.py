"""Read a network from a file of any format: load_model is the one door, and a format is a row of FORMATS.

It knows a format by the file's first bytes, not by its name. It reads no architecture (core/ir) and no checkpoint.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...core.errors import GraphError
from ...core.types import FilePath
from ...core.validate import check_is_file
from ..model import Model, QuantModel
from .onnx import load_onnx
from .tflite import is_tflite, load_tflite

HEAD = 64  # bytes of a file, enough to tell its format


class Format(NamedTuple):
    """How a format is known by a file's first HEAD bytes, and what reads it, called as load_model."""

    known: Callable[[bytes], bool]
    reader: Callable[..., Model | QuantModel]


# Asked from the top. An ONNX file is a protobuf, which has no mark of its own: it stands last and takes the rest, so
# that its reader says what is wrong with a file of no format.
FORMATS = {
    "TFLite": Format(is_tflite, load_tflite),
    "ONNX": Format(lambda head: True, load_onnx),
}


def load_model(
    path: FilePath, size: tuple[int, int] | None = None, outputs: Sequence[str] | None = None
) -> Model | QuantModel:
    """Return the Model of a float file, the QuantModel of a quantised one.

    size: (h, w) of the image in pixels, for a file that leaves them open; outputs: nodes or tensors of the file at
    which the network ends instead of at the file's outputs. Raises FileNotFoundError, GraphError for a file that is
    broken or of no known format, UserError for outputs that it lacks, UnsupportedOp that names the operator which the
    engine does not know.
    """
    check_is_file(path, GraphError)
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        raise GraphError(f"{path} is empty: copy it or convert the model again")
    return next(f for f in FORMATS.values() if f.known(head)).reader(path, size, outputs)
