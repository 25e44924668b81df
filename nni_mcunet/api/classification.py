"""Judge a classifier on a data set: accuracy(), of its model or of its compiled C; accuracies(), of a trained network
on its whole way to int8."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import Note, UserError
from ..core.progress import each
from ..core.types import FilePath, PlainDict
from ..core.validate import counted
from ..engine.model import Model, QuantModel, view_of
from ..engine.ops.pixels import with_pixels
from ..engine.run.pictures import with_view
from .data_sets import DataSet, training_pictures
from .inputs import numbers, one_of, path_of, user_errors
from .networks import Network, load

if TYPE_CHECKING:
    from ..search.data import Data

STEPS = {"float": "float", "ptq": "int8, PTQ", "qat": "int8, QAT"}


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


@dataclass(frozen=True)
class Accuracies:
    """The top-1 accuracy of a classifier on its way to a board, all on the same pictures.

    rows   "float", "ptq" (calibrated), "qat" (its training's own ranges) -> by onnxruntime, and as compiled C, which
           a float network has not
    calibrated  so many training pictures gave the ranges of "ptq"
    """

    name: str
    rows: dict[str, tuple[Accuracy, Accuracy | None]]
    calibrated: int

    def to_dict(self) -> dict[str, float]:
        """Return the shares by name: "float", "ptq", "ptq_c", ..."""
        found = {step: onnx.share for step, (onnx, _) in self.rows.items()}
        return found | {f"{step}_c": c.share for step, (_, c) in self.rows.items() if c is not None}

    def __str__(self) -> str:
        first, _ = next(iter(self.rows.values()))
        lines = [f"{self.name}: top-1 on {counted(first.count, f'{first.split} picture')}, seen by {first.view}"]
        if "ptq" in self.rows:
            lines.append(f"PTQ is calibrated on {counted(self.calibrated, 'training picture')}")
        lines.append(f"{'':12}{'onnxruntime':>14}{'compiled C':>14}")
        for step, (onnx, c) in self.rows.items():
            lines.append(f"{STEPS[step]:12}{onnx.share:14.4f}" + (f"{c.share:14.4f}" if c else f"{'-':>14}"))
        return "\n".join(lines)


@user_errors
def accuracy(
    network: FilePath | Network,
    data: str | PlainDict,
    *,
    split: str | None = None,
    backend: str = "onnxruntime",
    view: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Accuracy:
    """Return a classifier's accuracy on a data set as a search opens it.

    data     "KIND:ROOT" such as "imagenet:data/imagenet", or a mapping such as {"kind": "folder", "root": "photos"}
    split    "test", "held_out" or "train"; default test, or held_out where there is no test set
    backend  "onnxruntime", or "c": the compiled C of an int8 network
    view     how it sees pictures, where its file does not say: "stretch", "letterbox:114" or "crop:0.875"
    mean, std  of an int8 file by others: it reads (byte - mean) / std; default what its input's range says

    Raises UserError for a network that gives no score for each class of the data, for an unknown data set or split, and
    for a float network with "c".

    >>> print(mcu.accuracy("model.int8.onnx", "folder:photos", split="held_out"))
    """
    from ..engine.int8_classifier import BACKENDS

    found = load(network)
    one_of("backend", backend, tuple(BACKENDS))
    model = found.any_model()
    if mean is not None or std is not None:
        model = with_pixels(found.int8_model(), numbers("mean", mean), numbers("std", std))
    return counted_right(with_view(model, view), DataSet(data).open(), split, backend)


def counted_right(model: Model | QuantModel, data: "Data", split: str | None, backend: str) -> Accuracy:
    """Count the pictures of a split that a model names right, run by a backend of engine/int8_classifier.py. The split
    is as for accuracy(). Raises what that raises."""
    from ..engine.int8_classifier import BACKENDS, check_classifier

    image, view = model.graph.inputs[0], view_of(model)
    split = split or ("test" if "test" in data.source.sizes else "held_out")
    check_classifier(model, data.task.identity["classes"])
    classify, count = BACKENDS[backend](model), data.size(split)
    pictures = data.as_deployed(split, (image.h, image.w), view)
    shown = each(pictures, "picture", f"{backend}, {split}", count)
    right = sum(int(classify(picture).argmax() == label) for picture, label in shown)
    return Accuracy(right, count, split, str(view))


@user_errors
def accuracies(
    arch: FilePath,
    weights: FilePath,
    data: str | PlainDict,
    *,
    qat: FilePath | None = None,
    split: str | None = None,
    images: int = 128,
    view: str | None = None,
) -> Accuracies:
    """Return the top-1 accuracy of a trained classifier as float, as int8 after training and as int8 that was trained
    for, each by onnxruntime and the int8 ones as compiled C, on the same pictures by the same view.

    arch, weights  what a search and mcunet finetune write: NAME.json, NAME.pth
    data     as for accuracy(): give what the search was given
    qat      weights of mcunet finetune --qat. Where `weights` are such themselves, there is no "ptq"
    split    "test", "held_out" or "train"; default test, or held_out where there is no test set
    images   so many training pictures calibrate
    view     how it sees pictures, where its files do not say; default as the data do

    Raises what accuracy() raises, and UserError for weights that were trained on what would judge them. Warns of
    weights that do not say on which pictures they were trained.

    >>> print(mcu.accuracies("best.json", "best_tuned.pth", "folder:photos", qat="best_qat.pth"))
    """
    from ..bridge import is_quantized, of_checkpoint
    from ..core.ir.arch import ArchSpec
    from ..search.supernet.training import check_split, check_view
    from .quantization import to_int8

    tuned, learnt = path_of(weights, "weights"), None if qat is None else path_of(qat, "qat")
    spec, opened = ArchSpec.load(path_of(arch, "arch")), DataSet(data).open()
    check_view(spec, str(arch), opened)
    for path in (tuned, *([learnt] if learnt else [])):
        if unknown := check_split(path, opened):
            warnings.warn(unknown, Note, stacklevel=3)
    model = with_view(load(arch, tuned).float_model(), view)
    if "view" not in model.meta and opened.view is not None:
        model = with_view(model, str(opened.view))
    models: dict[str, Model | QuantModel] = {"float": model}
    calibration = []
    if is_quantized(str(tuned)):
        if learnt:
            raise UserError(f"{tuned} and {learnt} are both trained for int8: give the float weights and one of them")
        learnt = tuned
    else:
        calibration = list(training_pictures(opened, model, images))
        models["ptq"] = to_int8(model, calibration)
    if learnt:
        models["qat"] = of_checkpoint(model, str(learnt))

    def row(model: Model | QuantModel) -> tuple[Accuracy, Accuracy | None]:
        """Count with onnxruntime, and where there is C with that."""
        c = counted_right(model, opened, split, "c") if isinstance(model, QuantModel) else None
        return counted_right(model, opened, split, "onnxruntime"), c

    return Accuracies(spec.name, {step: row(model) for step, model in models.items()}, len(calibration))
