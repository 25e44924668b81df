"""Judge a classifier on a data set: accuracy(), of its model or of its compiled C."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import UserError
from ..core.types import FilePath, PlainDict
from ..core.validate import short
from ..engine.model import view_of
from ..engine.ops.pixels import with_pixels
from ..engine.run.pictures import with_view
from .inputs import numbers, one_of, user_errors
from .networks import Network, load


@dataclass(frozen=True)
class Accuracy:
    """How many of `count` pictures of a data set's `split` a classifier has named `right`, seen by `view`."""

    right: int
    count: int
    split: str
    view: str

    @property
    def share(self) -> float:
        """Return the accuracy, 0 to 1."""
        return self.right / self.count

    def __str__(self) -> str:
        return f"accuracy {self.share:.4f}: {self.right} of {self.count} {self.split} pictures, seen by {self.view}"


@user_errors
def accuracy(
    network: FilePath | Network,
    data: str | PlainDict,
    *,
    split: str = "test",
    backend: str = "onnxruntime",
    view: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Accuracy:
    """Return a classifier's accuracy on a data set as a search opens it.

    data     "KIND:ROOT" such as "imagenet:data/imagenet", or a mapping such as {"kind": "folder", "root": "photos"}
    split    "test", "held_out" or "train"
    backend  "onnxruntime", or "c": the compiled C of an int8 network
    view     how it sees pictures, where its file does not say: "stretch", "letterbox:114" or "crop:0.875"
    mean, std  of an int8 file by others: it reads (byte - mean) / std; default what its input's range says

    Raises UserError for a network that gives no score for each class of the data, for an unknown data set or split, and
    for a float network with "c".

    >>> print(mcu.accuracy("model.int8.onnx", "folder:photos", split="held_out"))
    """
    from tqdm import tqdm

    from ..engine.int8_classifier import BACKENDS, check_classifier
    from ..search.data import open_data, parse_data
    from ..search.data.classification import Classification

    found, make = load(network), BACKENDS[one_of("backend", backend, tuple(BACKENDS))]
    model = found.any_model()
    if mean is not None or std is not None:
        model = with_pixels(found.int8_model(), numbers("mean", mean), numbers("std", std))
    model = with_view(model, view)
    if not isinstance(data, (str, dict)):
        raise UserError(f"data is {short(data)}: expected 'KIND:ROOT' or a mapping with kind and root")
    opened = open_data(parse_data(data) if isinstance(data, str) else data)
    if not isinstance(opened.task, Classification):
        raise UserError(f"data {short(data)}: pictures with boxes; a detector is tested by mcunet test")
    check_classifier(model, opened.task.classes)
    classify, image, seen = make(model), model.graph.inputs[0], view_of(model)
    count = opened.size(split)
    pictures = opened.as_deployed(split, (image.h, image.w), seen)
    bar = tqdm(pictures, total=count, unit="picture", leave=False, disable=None)
    right = sum(int(classify(picture).argmax() == label) for picture, label in bar)
    return Accuracy(right, count, split, str(seen))
