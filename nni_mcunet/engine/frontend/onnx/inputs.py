"""Find how an ONNX file counts the elements of its input. A file does not say which dimension is which: NCHW and NHWC,
a signal's channels and positions have as many of them. Only the operators behind tell, so that read.py tries these
layouts in their order.
"""

from dataclasses import dataclass

import onnx

from ....core.errors import GraphError

# By their number: the meanings that the dimensions behind the batch may have, the one first that needs no telling.
ORDERS = {1: ("c",), 2: ("hw", "cw", "wc"), 3: ("chw", "hwc")}
COLOURS = (1, 3)  # channels of a picture


@dataclass(frozen=True)
class Layout:
    """An input of h x w positions and c channels; `order`, which of these its elements are counted by; `shape`, as the
    file has it."""

    name: str
    h: int
    w: int
    c: int
    order: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, order: str, lengths: tuple[int, ...], shape: tuple[int, ...]) -> "Layout":
        """Return the layout of an input whose axes `order` have these lengths; the others are 1."""
        sides = dict(zip(order, lengths, strict=True))
        return cls(name, sides.get("h", 1), sides.get("w", 1), sides.get("c", 1), order, shape)


def first_tries(
    path: str, proto: onnx.ModelProto, nodes: list[onnx.NodeProto], size: tuple[int, int] | None
) -> list[tuple[Layout, ...]]:
    """Return what to read a file's inputs as, the likeliest first: a layout for each input that the nodes read."""
    read, constants = {name for node in nodes for name in node.input}, {t.name for t in proto.graph.initializer}
    values = [v for v in proto.graph.input if v.name in read - constants]
    found = [_layouts(path, value, size) for value in values]
    return [(layout,) for layout in found[0]] if len(found) == 1 else [tuple(of[0] for of in found)]


def _layouts(path: str, value: onnx.ValueInfoProto, size: tuple[int, int] | None) -> list[Layout]:
    """Return the layouts that an input may have, the likeliest first. size: (h, w) for one that leaves them open.
    Raises GraphError where it can have none."""
    dims = [max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim]  # open: 0, also written as -1 or by a name
    found, fixed = [], False
    for order in _likeliest_first(dims):
        lengths = list(dims[1:])
        for axis, length in zip("hw", size or (), strict=False):
            if axis in order and lengths[order.index(axis)] in (0, length):
                lengths[order.index(axis)] = length
            else:
                fixed = True
                break
        else:
            if min(lengths) > 0 and dims[0] in (0, 1):
                found.append(Layout.of(value.name, order, tuple(lengths), (1, *lengths)))
    if not found and fixed and min(dims) > 0:
        raise GraphError(f"{path}: the input is fixed at {dims}, not for pictures of {size}")
    if not found:
        raise GraphError(
            f"{path}: input '{value.name}' has the shape {dims}; export it as fixed NCHW of batch 1, or give "
            "the picture's size where height and width are open (mcunet quantize --size H W)"
        )
    return found


def _likeliest_first(dims: list[int]) -> tuple[str, ...]:
    orders = ORDERS.get(len(dims) - 1, ())
    swapped = len(dims) == 4 and dims[3] in COLOURS and dims[1] not in COLOURS
    one = len(dims) == 3 and dims[2] == 1 != dims[1]  # a signal of one channel, no picture of one column
    return orders[::-1] if swapped or one else orders


def unfolded(flat: Layout, shape: tuple[int, ...]) -> list[Layout]:
    """Return the layouts of an input that the file itself gives the dimensions `shape`, three or four, as it does with
    a picture or a signal that it reads as a vector."""
    return [Layout.of(flat.name, order, shape[1:], flat.shape) for order in _likeliest_first(list(shape))]
