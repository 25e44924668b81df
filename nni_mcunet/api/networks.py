"""Networks by name or file: load(), which gives a Network whatever the source, and zoo(), the names it knows."""

import difflib
import fnmatch
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.errors import UserError
from ..core.ir.arch import ArchSpec, Schedule
from ..core.ir.build import build_graph
from ..core.ir.graph import Graph
from ..core.model_zoo import PREFIX, index, is_named, model_file
from ..core.outputs import check_outputs
from ..core.types import FilePath, Picture
from ..core.validate import integer, short
from ..engine.model import Model, QuantModel
from ..paper.baselines import BASELINES, face_baseline
from .inputs import is_module, path_of, user_errors
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from ..engine.quant.sqnr import Row
    from .data_sets import DataSet
    from .inputs import Module
    from .modules import Output

    Size: TypeAlias = tuple[int, int]
    Source: TypeAlias = FilePath | ArchSpec | Graph | Model | QuantModel | Module | "Network"

ARCHITECTURES = Path(__file__).resolve().parents[1] / ".mim/configs/arch"  # of the tree, and of a wheel
CHECKPOINTS = (".pth", ".pt", ".ckpt")
EXPECTED = "an architecture (.json), a model (.onnx, .tflite) or an mmdet config (.py)"


@dataclass(frozen=True, eq=False)
class Network:
    """A network at any stage of its way to a board.

    graph     what it computes, batch normalisation folded
    model     its weights: a Model (float), a QuantModel (int8), or None for an architecture
    source    the file or name that it was loaded from, as messages call it
    schedule  how the architecture's file says to run it; layer by layer where there is none
    layers    after quantize() with pictures: the SQNR of every layer's output, see engine/quant/sqnr.py
    pictures  on how many pictures quantize() has calibrated it
    preprocessing  how its input comes from pixels, where quantize() was told
    outputs   of a module: for each output its key where forward() returns a dict, else None, and its shape
    example   a picture that quantize() has seen, uint8 (h, w, c)
    """

    graph: Graph
    model: Model | QuantModel | None = None
    source: str = ""
    schedule: Schedule = field(default_factory=Schedule)
    layers: "tuple[Row, ...]" = ()
    pictures: int = 0
    preprocessing: Preprocessing | None = None
    outputs: "tuple[Output, ...]" = ()
    example: Picture | None = None

    @property
    def kind(self) -> str:
        """Return "architecture" (no weights), "float" or "int8"."""
        if self.model is None:
            return "architecture"
        return "int8" if isinstance(self.model, QuantModel) else "float"

    def float_model(self) -> Model:
        """Return the float model. Raises UserError for a network of another kind."""
        if self.model is None:
            raise UserError(f"{self.source} has no weights: load it with weights=, or give a float model")
        if isinstance(self.model, QuantModel):
            raise UserError(f"{self.source} is int8 already: give the float file, or mcunet generate this one")
        return self.model

    def int8_model(self) -> QuantModel:
        """Return the int8 model. Raises UserError for a network of another kind."""
        if not isinstance(self.model, QuantModel):
            kind = "an architecture without weights" if self.model is None else "float"
            raise UserError(f"{self.source} is {kind}: quantise it first with mcunet quantize")
        return self.model

    def any_model(self) -> Model | QuantModel:
        """Return the model, float or int8. Raises UserError for an architecture."""
        return self.model if isinstance(self.model, QuantModel) else self.float_model()

    @property
    def image(self) -> tuple[int, int, int]:
        """Return (h, w, c) of the image that the network reads, in pixels and channels."""
        image = self.graph.inputs[0]
        return image.h, image.w, image.c

    @property
    def sqnr(self) -> dict[str, float]:
        """Return the signal to quantisation noise ratio of each output in dB, where quantize() has measured it."""
        totals = {row.name: row.total for row in self.layers}
        names = zip(self.graph.outputs, self.output_names, strict=True)
        return {name: totals[layer] for layer, name in names if layer in totals}

    @property
    def output_names(self) -> list[str]:
        """Return the outputs' names in order: the key in the dict that a module's forward() returns, or the layer's."""
        keys = [key for key, _ in self.outputs] or [None] * len(self.graph.outputs)
        return [key or layer for key, layer in zip(keys, self.graph.outputs, strict=True)]

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output by name, in order: of a module as its forward() returns it, else ()."""
        shapes = [shape for _, shape in self.outputs] or [()] * len(self.graph.outputs)
        return dict(zip(self.output_names, shapes, strict=True))

    @property
    def reads(self) -> Preprocessing | None:
        """Return how the network's input comes from pixels: as quantize() was told, or as an int8 file's scale says;
        None for another network."""
        if self.preprocessing is None and isinstance(self.model, QuantModel):
            return Preprocessing.of_scale(self.model.scales[self.graph.inputs[0].name], self.image[2])
        return self.preprocessing

    @user_errors
    def save(self, path: FilePath, boxes: bool = False) -> Path:
        """Write the model as ONNX, int8 as QDQ. boxes: a detector's decoding and NMS, too, for onnxruntime.

        Raises UserError for an architecture, for boxes of what is no detector, and for a name that does not end
        in .onnx or is that of another's file."""
        from ..engine.frontend.onnx import save_onnx

        check_outputs({"path": (path_of(path, "path"), ".onnx")})
        if self.model is None:
            raise UserError(f"{self.source} has no weights to save: load it with weights=")
        return save_onnx(self.model, path, boxes=boxes)

    def __str__(self) -> str:
        h, w, c = self.image
        return (
            f"{self.graph.name} ({self.kind}): {h}x{w}x{c}, {self.graph.macs / 1e6:.2f}M MACs, "
            f"{self.graph.params / 1e6:.3f}M parameters"
        )


def zoo(pattern: str = "*") -> list[str]:
    """Return the names of the networks that load() knows without a file: the architectures of configs/arch and the
    published face detectors, all without weights, and the trained int8 detectors zoo:NAME that `mcunet zoo` lists.
    pattern: as a shell's, such as "mcunet_*".

    >>> mcu.zoo("mobilenet_v2_rd*")
    ['mobilenet_v2_rd', 'mobilenet_v2_rd_r416']
    """
    if not isinstance(pattern, str):
        raise UserError(f"pattern is {short(pattern)}: expected text such as 'mcunet_*'")
    names = [*(path.stem for path in ARCHITECTURES.glob("*.json")), *BASELINES, *(PREFIX + name for name in index())]
    return fnmatch.filter(sorted(names), pattern)


@user_errors
def load(
    source: "Source",
    weights: FilePath | None = None,
    *,
    size: tuple[int, int] | None = None,
    view: str | None = None,
    options: dict[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
) -> Network:
    """Return the network of a name of zoo(), an architecture (.json, ArchSpec), a model's file of any format that the
    engine reads, an mmdet config (.py), or a PyTorch module (torch.nn.Module, torch.export.ExportedProgram).

    weights  checkpoint (.pth) of an architecture or a config; without it these have none, which is enough to plan
    size     (h, w) of the image in pixels, for a model's file that leaves them open and for a module
    view     how a classifier with `weights` sees pictures, where its files do not say: "stretch", "letterbox:114" or
             "crop:0.875"
    options  what to merge into an mmdet config, by dotted key
    outputs  where a model's file or a module ends: nodes, tensors or layers by name, instead of its own outputs

    Raises UserError for an unknown name (with the nearest ones), a missing, broken or unsuitable file.

    >>> print(mcu.load("mobilenet_v2"))
    mobilenet_v2 (architecture): 224x224x3, 300.77M MACs, 3.487M parameters
    """
    if outputs is not None and not (_is_file_name(source) or is_module(source)):
        raise UserError(
            f"outputs cuts a model's file (.onnx, .tflite) or a module, which {short(source)} is not: leave it out"
        )
    if isinstance(source, Network):
        return source
    if isinstance(source, Graph):
        return Network(source, None, source.name)
    if isinstance(source, (Model, QuantModel)):
        return Network(source.graph, source, source.graph.name)
    if is_module(source):
        return load_for(source, None, size, outputs)
    trained = None if weights is None else path_of(weights, "weights")
    if isinstance(source, ArchSpec):
        return _architecture(source, source.name, trained, view)
    if options is not None and not isinstance(options, dict):
        raise UserError(f"options is {short(options)}: expected a mapping of dotted keys to values")
    if isinstance(source, str) and is_named(source):
        return replace(_file(model_file(source), trained, size, outputs), source=source)
    path = path_of(source, "network")
    if str(source) in BASELINES:
        return Network(face_baseline(str(source)).folded(), None, str(source))
    if str(source) in zoo():
        return _architecture(ARCHITECTURES / f"{source}.json", str(source), trained, view)
    if path.suffix == ".json":
        return _architecture(path, str(path), trained, view)
    if path.suffix == ".py":
        return _config(path, trained, options)
    return _file(path, trained, size, outputs)


def _is_file_name(source: object) -> bool:
    """Tell whether it names a file that has outputs of its own: no architecture, config or name of the zoo."""
    named = is_named(source) or (isinstance(source, (str, os.PathLike)) and str(source) not in zoo())
    return named and Path(str(source)).suffix not in (".json", ".py")


def load_for(
    source: "Source",
    samples: "DataSet | FilePath | list[FilePath | np.ndarray] | None",
    size: "Size | None",
    outputs: Sequence[str] | None = None,
) -> Network:
    """Return load()'s network; of a module, which says its input's size nowhere, the one that reads these samples.
    Raises what load() raises, UserError for a module where neither samples nor size tell."""
    if not is_module(source):
        return load(source, size=size, outputs=outputs)
    from .modules import exported, name_of, shape_read  # imports onnx

    if "detection" in sys.modules and outputs is None:  # where mmdet's detectors of ours come from
        from ..bridge import of_detector

        if (detector := of_detector(source)) is not None:
            return Network(detector.graph, detector, name_of(source))
    first = samples[0] if isinstance(samples, list) and samples else None
    shape = shape_read(source, first, size and _size(size))
    model, returned = exported(source, shape, None if outputs is None else _names(outputs))
    return Network(model.graph, model, name_of(source), outputs=tuple(returned))


def dims_of(source: "Source") -> int:
    """Return how many dimensions a sample of the source has: of a module 2 for signals, 1 for vectors, else 3."""
    if not is_module(source):
        return 3
    from .modules import sample_dims

    return sample_dims(source)


def _architecture(arch: Path | ArchSpec, source: str, weights: Path | None, view: str | None) -> Network:
    spec = arch if isinstance(arch, ArchSpec) else ArchSpec.load(arch)
    if weights is None:
        return Network(build_graph(spec).folded(), None, source, spec.schedule)
    from ..bridge import classifier  # imports torch and mmdet

    model = classifier(arch, str(weights), view)
    return Network(model.graph, model, source, spec.schedule)


def _config(path: Path, weights: Path | None, options: dict[str, Any] | None) -> Network:
    if weights is not None:
        from ..bridge import detector

        model = detector(str(path), str(weights), options)
        return Network(model.graph, model, str(path))
    from detection import config_graph, load_config

    return Network(config_graph(load_config(str(path), options)), None, str(path))


def _file(path: Path, weights: Path | None, size: tuple[int, int] | None, outputs: Sequence[str] | None) -> Network:
    if path.suffix in CHECKPOINTS:
        raise UserError(f"{path} holds weights and no network: expected {EXPECTED}, and this beside it as weights")
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        raise UserError(_unknown(str(path)))
    if weights is not None:
        raise UserError(f"{path} has its own weights: leave out weights {weights}")
    from ..engine.frontend import load_model

    model = load_model(path, size and _size(size), None if outputs is None else _names(outputs))
    return Network(model.graph, model, str(path))


def _names(outputs: Sequence[str]) -> list[str]:
    if isinstance(outputs, str) or not isinstance(outputs, Sequence) or not all(isinstance(n, str) for n in outputs):
        raise UserError(f"outputs is {short(outputs)}: expected a list of names, such as ['conv1', 'conv2']")
    return list(outputs)


def _unknown(name: str) -> str:
    """Return the message for a name that is none of the zoo's and no file."""
    near = difflib.get_close_matches(name, zoo(), 3) or zoo()[:3]
    return (
        f"unknown network {short(name)}: did you mean {', '.join(near)}? Expected a name of the zoo "
        f"(mcu.zoo() lists {len(zoo())}) or a file: {EXPECTED}"
    )


def _size(size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise UserError(f"size is {short(size)}: expected (h, w) in pixels, such as (96, 96)")
    return integer(size[0], "size", 1), integer(size[1], "size", 1)
