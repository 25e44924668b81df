"""Read a PyTorch module: torch.export follows its forward() once, torch.onnx writes that as ONNX, the engine reads it.

The module stays as it was: a copy on the CPU, in eval mode, is exported. Whatever cannot be exported is refused in one
line with the operator and the path of the submodule, where torch says them.
"""

import contextlib
import copy
import importlib.util
import inspect
import io
import linecache
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..core.errors import UnsupportedOp, UserError
from ..engine.frontend.onnx import load_exported
from ..engine.frontend.onnx.unknown import STATE
from ..engine.model import Model, QuantModel
from .samples import is_floats

if TYPE_CHECKING:
    import torch

    from .inputs import Module

Output: TypeAlias = tuple[str | None, tuple[int, ...]]  # its key in a dict that forward() returns, and its shape
LONGEST = 200  # characters of torch's own words in a message


def name_of(module: "Module") -> str:
    """Return what messages and the network call a module: the name of its class."""
    return re.sub(r"\W", "_", type(module).__name__.removesuffix("Impl"))  # each GraphModule has a class of its own


def exported(
    module: "Module", shape: tuple[int, ...], outputs: Sequence[str] | None = None
) -> tuple[Model | QuantModel, list[Output]]:
    """Return the model of a module that reads (1, c, h, w), (1, c, positions) or (1, features), which is `shape`, float
    unless its own quantisation was converted (pt2e), and its outputs in order, none where it ends before its forward()
    does: at the layers `outputs`, or where boxes are decoded.

    Raises UserError for a module that torch cannot export or that reads or returns more than tensors, UnsupportedOp
    for an operator that torch.onnx or the engine does not know.
    """
    import torch

    if importlib.util.find_spec("onnxscript") is None:
        raise UserError("torch.onnx needs the package onnxscript to export a module: pip install onnxscript")
    name = name_of(module)
    if isinstance(module, torch.nn.Module):
        _check_inputs(module, name)
        if outputs is None:
            _check_states(module, name)
        program = _traced(_evaluated(module, name), torch.zeros(shape), name)
    else:
        program = module
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1:
        raise UserError(f"{name} reads {len(inputs)} inputs: expected one tensor, the picture")
    spec = program.call_spec.out_spec
    returned = [node for node in program.graph.output_node().args[0] if isinstance(node, torch.fx.Node)]
    if spec is None or len(returned) != len(program.graph.output_node().args[0]):
        raise UserError(f"{name} returns more than tensors: return the tensors only")
    keys = list(_keys(torch.utils._pytree.tree_unflatten(range(len(returned)), spec)))
    shapes = [tuple(int(n) for n in node.meta["val"].shape) for node in returned]
    model, whole = load_exported(_onnx(program, name), name, outputs)
    return model, list(zip(keys, shapes, strict=True)) if whole else []


def shape_read(module: "Module", sample: object, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return what a module reads, (1, c, h, w), of signals (1, c, positions), of vectors (1, features): the shape of
    the sample, an array (c, h, w) or bytes (h, w, c); as it was exported; or of `size`, (h, w), with the channels of
    its first layer. Raises UserError where none of these says it."""
    name, dims = name_of(module), sample_dims(module)
    if isinstance(sample, np.ndarray) and sample.ndim != 3:
        raise UserError(
            f"a sample of {sample.shape}: {name} is compiled for pictures, floats (c, h, w) or uint8 (h, w, c), for "
            "signals (c, positions) where a Conv1d comes first, for vectors (features,) where a Linear does"
        )
    if isinstance(sample, np.ndarray):
        c, h, w = sample.shape if is_floats(sample) else (sample.shape[2], *sample.shape[:2])
    elif found := None if size else _exported_shape(module):
        return found
    elif size is None:
        raise UserError(f"which picture does {name} read? Give samples, or size=(h, w) in pixels")
    else:
        first = _first_layer(module)
        c, (h, w) = getattr(first, "in_channels", getattr(first, "in_features", 3)), size
    if dims == 1 and (h, w) == (1, 1):
        return 1, c
    return (1, c, w) if dims == 2 and h == 1 else (1, c, h, w)


def sample_dims(module: "Module") -> int:
    """Return how many dimensions a sample of a module has: 2 for signals (channels, positions), which a Conv1d reads
    first, 1 for vectors (features,), which a Linear does, else 3; of an exported module those that it was given."""
    import torch

    if (given := _exported_shape(module)) is not None:
        return len(given) - 1
    return {torch.nn.Conv1d: 2, torch.nn.Linear: 1}.get(type(_first_layer(module)), 3)


def _exported_shape(module: "Module") -> tuple[int, ...] | None:
    """Return the shape of what an exported program reads, None of a module or of one that reads no map."""
    import torch

    graph = getattr(module, "graph", None)
    read = graph.find_nodes(op="placeholder") if isinstance(graph, torch.fx.Graph) else []
    shapes = [tuple(int(n) for n in node.meta["val"].shape) for node in read if "val" in node.meta]
    return shapes[-1] if shapes and len(shapes[-1]) in (2, 3, 4) else None  # its parameters come before


def _first_layer(module: "Module") -> "torch.nn.Module | None":
    """Return the first layer of a module that says how many channels or features it reads."""
    import torch

    parts = module.modules() if isinstance(module, torch.nn.Module) else ()
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    return next((part for part in parts if isinstance(part, kinds)), None)


def _check_inputs(module: "torch.nn.Module", name: str) -> None:
    """Raise UserError for a forward() that needs more than one argument."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a compiled forward has no signature
        return
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    if len(needed) > 1:
        raise UserError(
            f"{name}.forward reads {', '.join(needed)}: expected one tensor, the picture; wrap the module in one that "
            "fixes the others"
        )


def _check_states(module: "torch.nn.Module", name: str) -> None:
    """Raise UnsupportedOp for a module with a layer that keeps a state: it reads no picture, and so is not traced."""
    import torch

    for path, part in module.named_modules():
        if isinstance(part, torch.nn.RNNBase):
            where = f": {type(part).__name__} at '{path}'" if path else ""
            raise UnsupportedOp(f"{name}{where} {STATE}")


def _evaluated(module: "torch.nn.Module", name: str) -> "torch.nn.Module":
    """Return a copy on the CPU, in eval mode and float32. Warns of a module in training mode."""
    import torch

    try:
        found = copy.deepcopy(module).cpu()
    except Exception as error:  # a tensor with a history, a lock, an open file, ...
        raise UserError(f"{name} cannot be copied ({_first_line(error)}): give a module of parameters and buffers "
                        "only") from None  # fmt: skip
    if isinstance(module, torch.fx.GraphModule):  # of torch.export: its mode is written into its graph
        return found
    if any(part.training for part in module.modules()):
        warnings.warn(f"{name} is in training mode: compiled as in eval mode", stacklevel=2)
    return found.eval().float()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, hints and graphs off stdout and stderr. An exception passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _traced(module: "torch.nn.Module", example: "torch.Tensor", name: str) -> "torch.export.ExportedProgram":
    """Follow forward() once. Raises UserError that says where it could not be followed."""
    import torch

    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(module, (example,))
    except Exception as error:  # dynamo, fx and the operators raise types of their own
        where = _place(module, error)
        if "data-dependent" in str(error) or "dynamic control flow" in str(error).lower():
            raise UserError(
                f"{name}{where}: forward() goes by the values of a tensor, and generated C takes one way for every "
                "picture; take the branch out"
            ) from None
        raise UserError(
            f"{name}{where}: torch.export cannot follow forward() for an input of {tuple(example.shape)}: "
            f"{_first_line(error)}"
        ) from None


def _place(module: "torch.nn.Module", error: BaseException) -> str:
    """Return " at 'path' (file.py, line 7: ...)" of the deepest forward() that is not torch's own, "" where there is
    none."""
    import torch

    paths = {id(part): path for path, part in module.named_modules()}
    home, path, line = Path(torch.__file__).parent, "", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        path = paths.get(id(frame.f_locals.get("self"))) or path
        file = Path(frame.f_code.co_filename)
        if frame.f_code.co_name == "forward" and home not in file.parents:
            line = f" ({file.name}, line {number}: {linecache.getline(str(file), number).strip()})"
    return (f" at '{path}'" if path else "") + line


def _onnx(program: "torch.export.ExportedProgram", name: str) -> bytes:
    """Return the program as the bytes of an ONNX file. Raises UnsupportedOp that names an operator which torch.onnx
    does not know, UserError for any other failure."""
    import torch

    try:
        with _quiet(), torch.no_grad():
            found = torch.onnx.export(program, dynamo=True, verbose=False)
            assert found is not None  # dynamo=True always returns a program
            return bytes(found.model_proto.SerializeToString())
    except Exception as error:  # torch.onnx's errors are private types
        words = " ".join(str(one) for one in _causes(error))
        operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", words)
        if operator is None:
            raise UserError(f"{name}: torch.onnx cannot export it: {_first_line(list(_causes(error))[-1])}") from None
        path = _path_of(program, operator[1].rpartition(".")[2])
        where = f" at '{path}'" if path else ""
        raise UnsupportedOp(
            f"{name}: {operator[1]}{where} has no counterpart in ONNX; rewrite the module without it"
        ) from None


def _path_of(program: "torch.export.ExportedProgram", operator: str) -> str:
    """Return the path of the submodule that calls an operator, "" where the program does not say. The exporter calls
    it as it is once decomposed: special_bessel_j0 has become bessel_j0."""
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op == "call_function" and stack and operator in str(node.target):
            return str(list(stack.values())[-1][0])
    return ""


def _keys(outputs: object, key: str | None = None) -> Iterator[str | None]:
    """Yield for each leaf of what forward() returns the keys of the dicts on the way to it, joined by "_"; None for one
    that no dict holds."""
    if isinstance(outputs, Mapping):
        for name, one in outputs.items():
            yield from _keys(one, str(name) if key is None else f"{key}_{name}")
    elif isinstance(outputs, Sequence):
        for i, one in enumerate(outputs):
            yield from _keys(one, None if key is None else f"{key}_{i}")
    else:
        yield key


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: BaseException) -> str:
    """Return torch's own words in one line, without colours."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines()
    return (lines[0].strip() if lines else type(error).__name__)[:LONGEST]
