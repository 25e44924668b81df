"""Define what is computed: Tensor, Op, Graph, and the only rule of output sizes.

One Op is one kernel call: the activation and the residual addition are fields of the convolution, not nodes, so the
graph built from a spec and the graph imported from ONNX are the same list. An op and the tensor it writes share one
name. Layout is NHWC with batch 1. This module says nothing of memory, order of patches or quantisation (see core/plan).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, wraps
from typing import TypeVar

from ..errors import GraphError
from .activations import CLAMPS, check_act
from .kinds import BASELINE_KINDS, FACTS, KINDS


@dataclass(frozen=True)
class Tensor:
    """A feature map: h x w positions of c channels, NHWC, one byte an element once quantised."""

    name: str
    h: int
    w: int
    c: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.h * self.w * self.c


_tensor = lru_cache(maxsize=1 << 16)(Tensor)  # a search asks for the same ones in thousands of networks


@dataclass(frozen=True)
class Op:
    """One kernel call; its output tensor carries its name.

    kind      a line of kinds.py, which says what each is
    k, s      kernel and stride, (vertical, horizontal)
    pad       (top, left, bottom, right); one may be negative: rows or columns that are never read
    act       one of activations.py with its `args`, applied after the residual addition: of a conv or add one of
              CLAMPS, of an "act" op any, None there being a change of scale; prelu, of baselines, has a learned slope a
              layer
    residual  tensor added to the convolution's result before the activation
    norm      the layer is trained with batch normalisation (folded before export) instead of a bias
    block     index of the block it belongs to, the first convolution being block 0 (the paper's n counts these)
    shares    an earlier op whose weights this one uses (EXTD runs one backbone on its own output)
    groups    of a convolution its groups; of an "act" op its tables of int8 values, one or one for each channel
    channels  take: which channel of the input each of the output is, -1 for zeros
    hidden    rnnpool: units of its first RNN; its second has a quarter of `cout`
    twice     its int8 kernel rounds as TensorFlow Lite's does, twice mostly; such an op has no residual
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    cout: int
    k: tuple[int, int] = (1, 1)
    s: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    act: str | None = None
    residual: str | None = None
    norm: bool = False
    block: int = 0
    shares: str | None = None
    hidden: int = 0
    args: tuple[float, ...] = ()
    channels: tuple[int, ...] = ()
    twice: bool = False

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Names of the tensors it reads, the residual last."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual)

    @cached_property
    def link(self) -> tuple[str, tuple[str, ...], int]:
        """The tensor it writes, those it reads, and its block."""
        return self.name, self.reads, self.block

    @cached_property
    def second(self) -> str | None:
        """The map that is read besides the first: the residual, or the second input of a sum, a product or
        attention."""
        return self.inputs[1] if FACTS[self.kind].adds_second else self.residual

    @cached_property
    def baseline(self) -> str | None:
        """The part that only the profiler and torch know (see `kind`); None where ONNX and the C engine go on."""
        if self.kind in BASELINE_KINDS:
            return self.kind
        return "prelu" if self.act == "prelu" else "weights shared between layers" if self.shares else None

    def is_depthwise(self, cin: int) -> bool:
        """Tell whether it is a depth-wise convolution of `cin` channels."""
        return self.kind == "conv" and self.groups > 1 and self.groups == cin == self.cout

    @cached_property
    def is_pointwise(self) -> bool:
        """Whether it is a dense 1x1 convolution that reads each position once."""
        return self.kind == "conv" and self.k == (1, 1) and self.s == (1, 1) and self.groups == 1 and not any(self.pad)


def out_length(length: int, k: int, s: int, lo: int, hi: int) -> int:
    """Count the positions of a k-window moved by s over lo + length + hi elements: the output-size rule of one axis."""
    return (length + lo + hi - k) // s + 1


def out_tensor(op: Op, x: Tensor, *others: Tensor) -> Tensor:
    """Return the tensor that `op` writes when it reads `x` first, then `others`. Raises GraphError when nothing is left
    of the map."""
    if op.kind == "conv":
        (kh, kw), (sh, sw), (top, left, bottom, right) = op.k, op.s, op.pad
        h, w = out_length(x.h, kh, sh, top, bottom), out_length(x.w, kw, sw, left, right)
    elif op.kind == "gap":
        h = w = 1
    elif op.kind == "resize":
        if len(others) != 1:
            raise GraphError(f"{op.name}: resize: expected a second input, whose size it takes")
        h, w = others[0].h, others[0].w
    elif op.kind == "attention_scores":
        h, w = x.h * x.w, op.groups
    elif op.kind == "attention_sum":
        h, w = others[0].h, others[0].w
    elif FACTS[op.kind].enlarges:
        h, w = x.h * op.s[0] + op.pad[2], x.w * op.s[1] + op.pad[3]
    else:
        h = out_length(x.h, op.k[0], op.s[0], op.pad[0], op.pad[2])
        w = out_length(x.w, op.k[1], op.s[1], op.pad[1], op.pad[3])
    if h < 1 or w < 1:
        raise GraphError(f"{op.name}: a {x.h}x{x.w} input leaves no output; raise the resolution or drop a stride")
    return _tensor(op.name, h, w, op.cout)


@dataclass(frozen=True, eq=False)
class Links:
    """The answers of Graph.last_use and Graph.block_ends, and the op that writes each tensor, -1 for an input. Nobody
    writes to them."""

    born: dict[str, int]
    last: dict[str, int]
    ends: list[tuple[int, tuple[str, ...]]]


@lru_cache(maxsize=1 << 10)
def _links(
    inputs: tuple[str, ...], ops: tuple[tuple[str, tuple[str, ...], int], ...], outputs: tuple[str, ...]
) -> Links:
    last = dict.fromkeys(inputs, 0)
    for index, (name, reads, _) in enumerate(ops):
        last[name] = index
        last.update(dict.fromkeys(reads, index))
    last.update(dict.fromkeys(outputs, len(ops)))
    seen, ends = set[str](), []
    for size, (name, reads, block) in enumerate(ops, 1):
        seen.update(reads)
        seen.add(name)
        if size == len(ops) or ops[size][2] != block:
            seen = {name for name in seen if last[name] >= size}
            ends.append((size, tuple(sorted(seen))))
    return Links(dict.fromkeys(inputs, -1) | {name: at for at, (name, *_) in enumerate(ops)}, last, ends)


@dataclass(frozen=True)
class Graph:
    """Ops in execution order. `inputs` are tensors, `outputs` names; the networks of the zoo read one image."""

    name: str
    inputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, shapes derived by `out_tensor`."""
        tensors = {t.name: t for t in self.inputs}
        for op in self.ops:
            try:
                reads = [tensors[name] for name in op.reads]
            except KeyError as missing:
                raise GraphError(f"{op.name} reads {missing}, which nothing before it writes") from None
            tensors[op.name] = out_tensor(op, *reads) if op.residual is None else out_tensor(op, *reads[:-1])
        return tensors

    def op(self, name: str) -> Op:
        """Return the op that writes the tensor `name`."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Op]:
        return {op.name: op for op in self.ops}

    def input_of(self, op: Op) -> Tensor:
        """Return the first tensor that `op` reads."""
        return self.tensors[op.inputs[0]]

    def verify(self) -> "Graph":
        """Check every invariant the rest of the house relies on; returns self, raises GraphError."""
        names = [t.name for t in self.inputs] + [op.name for op in self.ops]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise GraphError(f"{self.name}: the name '{twice}' is written twice")
        for op in self.ops:
            self._verify_op(op)
        for name in self.outputs:
            if name not in self.tensors:
                raise GraphError(f"{self.name}: output '{name}' is written by no op")
        return self

    def _verify_op(self, op: Op) -> None:
        x, y = self.input_of(op), self.tensors[op.name]
        if op.kind not in KINDS + BASELINE_KINDS:
            raise GraphError(f"{op.name}: unknown kind '{op.kind}', one of {', '.join(KINDS + BASELINE_KINDS)}")
        if not FACTS[op.kind].own_cout and x.c != op.cout:
            raise GraphError(f"{op.name}: {op.kind} keeps its {x.c} channels")
        self._verify_act(op)
        self._verify_inputs(op)
        self._verify_move(op)
        if op.kind == "rnnpool" and (op.hidden < 1 or op.cout % 4):
            raise GraphError(f"{op.name}: rnnpool: expected hidden units and a multiple of four channels")
        if op.shares is not None:
            self._verify_shared(op)
        if op.kind == "conv" and (x.c % op.groups or op.cout % op.groups):
            raise GraphError(f"{op.name}: {op.groups} groups do not divide {x.c} -> {op.cout} channels")
        if op.residual is not None:
            r = self.tensors[op.residual]
            if (r.h, r.w, r.c) != (y.h, y.w, y.c):
                raise GraphError(
                    f"{op.name}: adds {r.name} of {r.h}x{r.w}x{r.c} to {y.h}x{y.w}x{y.c}; shapes must be equal"
                )

    def _verify_move(self, op: Op) -> None:
        """Check the channels, blocks and pads of an op that copies values to other places."""
        x, block = self.input_of(op), op.s[0] * op.s[1]
        if op.kind != "take" and op.channels:
            raise GraphError(f"{op.name}: {op.kind} takes no channels by number")
        if op.kind == "take" and not (len(op.channels) == op.cout and all(-1 <= c < x.c for c in op.channels)):
            raise GraphError(f"{op.name}: take: expected {op.cout} channels of -1..{x.c - 1}")
        if op.kind == "depth_to_space" and x.c != op.cout * block:
            raise GraphError(f"{op.name}: depth_to_space: expected {op.cout * block} channels, not {x.c}")
        if op.kind == "space_to_depth" and (op.k != op.s or x.h % op.s[0] or x.w % op.s[1] or op.cout != x.c * block):
            raise GraphError(f"{op.name}: space_to_depth: {x.h}x{x.w}x{x.c} is not {op.cout // x.c} parts of {op.s}")
        cropped = {"take": 4, "depth_to_space": 2, "space_to_depth": 0, "upsample": 0}.get(op.kind)
        if cropped is not None and (max(op.pad) > 0 or any(op.pad[: 4 - cropped])):
            raise GraphError(f"{op.name}: {op.kind} with the pads {op.pad}")

    def _verify_act(self, op: Op) -> None:
        if (not FACTS[op.kind].takes_act and (op.act or op.args)) or (op.kind != "conv" and op.residual):
            raise GraphError(f"{op.name}: {op.kind} has no residual or activation")
        if op.kind == "act" and op.groups not in (1, op.cout):
            raise GraphError(f"{op.name}: act: expected one table or one for each of {op.cout} channels")
        if op.act in (None, "prelu"):
            return
        check_act(op.name, op.act, op.args)
        if op.kind != "act" and op.act not in CLAMPS:
            raise GraphError(f"{op.name}: '{op.act}' is an op of its own (kind 'act') behind a {op.kind}")

    def _verify_inputs(self, op: Op) -> None:
        """Check how many inputs there are, and their shapes."""
        x, *others = (self.tensors[name] for name in op.inputs)
        wanted = FACTS[op.kind].inputs or max(2, len(op.inputs))
        if len(op.inputs) != wanted:
            raise GraphError(f"{op.name}: {op.kind}: expected {wanted} input{'s' * (wanted > 1)}, not {len(op.inputs)}")
        size, shapes = (x.h, x.w, x.c), [(t.h, t.w, t.c) for t in others]
        if op.kind == "add" and shapes != [size]:
            raise GraphError(f"{op.name}: add: expected inputs of one shape")
        if op.kind == "mul" and shapes[0] not in (size, (1, 1, x.c)):
            raise GraphError(
                f"{op.name}: mul: expected a second input of 1x1x{x.c}, one factor a channel, or of its shape"
            )
        if op.kind.startswith("attention"):
            self._verify_attention(op, x, others[0])
        if op.kind == "concat" and any(shape[:2] != size[:2] for shape in shapes):
            raise GraphError(f"{op.name}: concat: expected maps of one size")
        if op.kind == "concat" and op.cout != x.c + sum(t.c for t in others):
            raise GraphError(f"{op.name}: concat has the channels of its inputs together, not {op.cout}")

    def _verify_attention(self, op: Op, x: Tensor, other: Tensor) -> None:
        """Check the maps of attention: heads of one depth, and a score for each position of the other map."""
        count = other.h * other.w
        if op.kind == "attention_scores":
            fits = x.c == other.c and x.c % op.groups == 0 and op.cout == count
        else:
            fits = (x.h, x.w, x.c) == (count, op.groups, count) and op.cout == other.c and other.c % op.groups == 0
        if not fits:
            raise GraphError(
                f"{op.name}: {op.kind} of {op.groups} heads and {op.cout} channels does not fit {x.h}x{x.w}x{x.c} and "
                f"{other.h}x{other.w}x{other.c}"
            )

    def _verify_shared(self, op: Op) -> None:
        owner = self._by_name.get(op.shares or "")
        earlier = owner is not None and owner.shares is None and self.ops.index(owner) < self.ops.index(op)
        if owner is None or not earlier or self._weight_shape(owner) != self._weight_shape(op):
            raise GraphError(f"{op.name}: no earlier op '{op.shares}' with weights of its own and of this shape")

    def _weight_shape(self, op: Op) -> tuple[object, ...]:
        return op.kind, op.k, self.input_of(op).c, op.cout, op.groups, op.norm, op.act, op.hidden

    def op_macs(self, op: Op, positions: int | None = None) -> int:
        """Count the multiply-accumulates of a conv, attention or rnnpool (zero for the rest), for all or so many output
        positions."""
        if op.kind == "conv" and positions is not None:
            return positions * self.op_weights(op)
        y = self.tensors[op.name]
        positions = y.h * y.w if positions is None else positions
        if op.kind == "rnnpool":  # both sweeps of a window by the first RNN, their ends by the second, forth and back
            (kh, kw), h1, h2 = op.k, op.hidden, op.cout // 4
            return positions * (2 * kh * kw * h1 * (self.input_of(op).c + h1) + 2 * (kh + kw) * h2 * (h1 + h2))
        x, per_output = self.input_of(op), {"attention_scores": op.groups, "attention_sum": 1}
        if op.kind in per_output:
            return positions * op.cout * (x.c // per_output[op.kind])
        return positions * self.op_weights(op) if op.kind == "conv" else 0

    def op_weights(self, op: Op) -> int:
        """Count the elements of a conv's weight tensor, shared or not; zero for the rest."""
        if op.kind != "conv":
            return 0
        return op.k[0] * op.k[1] * (self.input_of(op).c // op.groups) * op.cout

    def op_params(self, op: Op) -> int:
        """Count the weights and biases that no earlier op has, batch normalisation folded."""
        if op.shares is not None:
            return 0
        if op.kind == "rnnpool":  # two cells with two biases and the scalars zeta and nu, see rnnpool.py
            h1, h2 = op.hidden, op.cout // 4
            return h1 * (self.input_of(op).c + h1 + 2) + 2 + h2 * (h1 + h2 + 2) + 2
        own = {"conv": self.op_weights(op) + op.cout, "l2norm": op.cout}.get(op.kind, 0)
        return own + (op.act == "prelu")

    @cached_property
    def weights(self) -> list[int]:
        """Multiply-accumulates of each op for one output position."""
        return [self.op_macs(op, 1) for op in self.ops]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference; convolutions, fully connected layers, attention and RNNs only (the
        paper's count)."""
        return sum(self.op_macs(op) for op in self.ops)

    @property
    def params(self) -> int:
        """Weights and biases, batch normalisation folded, shared ones once."""
        return sum(map(self.op_params, self.ops))

    @property
    def trained_params(self) -> int:
        """Parameters as papers count them: batch normalisation not folded, a gamma and a beta a channel."""
        return self.params + sum(op.cout for op in self.ops if op.norm and op.shares is None)

    def strides(self, names: Iterable[str]) -> list[int]:
        """Return the rows of the input per row of these tensors; no ratio of sizes: 480 rows at stride 64 are 8."""
        stride = {t.name: 1 for t in self.inputs}
        for op in self.ops:
            before = stride[op.inputs[0]]
            stride[op.name] = before // op.s[0] if FACTS[op.kind].enlarges or op.kind == "resize" else before * op.s[0]
        return [stride[name] for name in names]

    @property
    def block_names(self) -> dict[int, str]:
        """Block -> what its first op's name has before the last underscore (s2_b1 of s2_b1_exp); its whole name where
        each op is a block, as in a file of others: node_Conv_295."""
        whole = len({op.block for op in self.ops}) == len(self.ops)
        return {op.block: op.name if whole else op.name.rsplit("_", 1)[0] for op in reversed(self.ops)}

    def rounded_as(self, name: str) -> str:
        """Return the tensor whose scale this one has: through the ops that only move values."""
        op = self._by_name.get(name)
        return self.rounded_as(op.inputs[0]) if op is not None and FACTS[op.kind].scale == "input" else name

    def last_use(self) -> dict[str, int]:
        """Return tensor name -> index of the last op that reads it; graph outputs live to the end."""
        return self.links.last

    @property
    def block_ends(self) -> list[tuple[int, tuple[str, ...]]]:
        """At the end of each block: the number of ops so far, and the tensors that they read or wrote and that later
        ops or the user read."""
        return self.links.ends

    @cached_property
    def links(self) -> "Links":
        """Whatever follows from the names that ops read and write; networks of one structure share it."""
        return _links(tuple([t.name for t in self.inputs]), tuple([op.link for op in self.ops]), self.outputs)

    def part(self, prefixes: tuple[str, ...]) -> "Graph":
        """Cut out the ops whose names start with one of `prefixes`. A tensor that they read from outside becomes an
        input; one that others read of them, or the graph gives out, an output. mmdet's backbone, neck and head are cut
        from one definition in this way."""
        inside = [op for op in self.ops if op.name.startswith(prefixes)]
        written = {op.name for op in inside}
        read = {n for op in self.ops if op.name not in written for n in op.reads} | set(self.outputs)
        wanted = [n for op in inside for n in op.reads if n not in written]
        return Graph(
            f"{self.name}:{'|'.join(prefixes)}",
            tuple(self.tensors[n] for n in dict.fromkeys(wanted)),
            tuple(inside),
            tuple(op.name for op in inside if op.name in read),
        ).verify()

    def folded(self) -> "Graph":
        """Return the graph as exported: batch normalisation folded into weights and bias."""
        return replace(self, ops=tuple(replace(op, norm=False) for op in self.ops))


Of = TypeVar("Of", Graph, Links)
Fact = TypeVar("Fact")


def once(fact: Callable[[Of], Fact]) -> Callable[[Of], Fact]:
    """Decorate a function of a graph, or of links, whose answer is kept there: a cached_property of another module."""
    key = f"{fact.__module__}.{fact.__qualname__}"

    @wraps(fact)
    def kept(of: Of) -> Fact:
        found: Fact
        try:
            found = of.__dict__[key]
        except KeyError:
            found = of.__dict__[key] = fact(of)
        return found

    return kept
