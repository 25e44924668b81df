"""Random networks for the tests: graphs with every geometry the planner claims to handle, and integers for them."""

import numpy as np

from nni_mcunet.core.ir.activations import ACTS
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.ir.kinds import SAME_SCALE
from nni_mcunet.engine.model import PROBABILITY, QuantModel, QuantWeights, Scale


def random_graph(rng: np.random.Generator, blocks: int = 5, size=None, channels=(2, 9), image: int = 3) -> Graph:
    """Convolutions (dense, 1x1, depth-wise, k 1..7, stride 1..2, any pads), residual adds, a pool, an upsampling, on a
    picture of `image` channels."""
    h, w = size or rng.integers(9, 40, 2)
    graph = Graph("random", (Tensor("image", int(h), int(w), image),), (), ())
    ops: list[Op] = []

    def add(op):
        ops.append(op)
        return Graph("random", graph.inputs, tuple(ops), ()).tensors[op.name]

    x = graph.inputs[0]
    for block in range(blocks):
        kind = "conv" if block == 0 else rng.choice(["conv", "mb", "mb", "mb", "maxpool", "upsample"])
        name = f"b{block}"
        if kind == "maxpool" and min(x.h, x.w) >= 4:
            x = add(Op(f"{name}_max", "maxpool", (x.name,), x.c, (2, 2), (2, 2), block=block))
        elif kind == "upsample" and max(x.h, x.w) < 24:
            x = add(Op(f"{name}_up", "upsample", (x.name,), x.c, s=(2, 2), block=block))
        elif kind == "mb":
            x = _mb(rng, add, name, x, block, int(rng.integers(*channels)))
        else:
            x = add(_conv(rng, f"{name}_conv", x, int(rng.integers(*channels)), block))
    return Graph("random", graph.inputs, tuple(ops), (x.name,)).verify()


MOVES = ("take", "space_to_depth", "depth_to_space")
WHOLE = ("conv", "maxpool", "avgpool", "pad", "upsample", "act", "softmax", *MOVES)  # blocks of one op on one input
BRANCHES = ("add", "mul", "concat", "twice")  # blocks that end in an op on several


def any_graph(rng: np.random.Generator, blocks: int = 5, channels: int | None = None) -> Graph:
    """Every kind of op the C engine has, any geometry: chains, branches with halos of different sizes that meet in a
    sum, product or concat, maps read twice; squeeze-excite and a classifier's end behind them now and then."""
    h, w, c = rng.integers((9, 9, 1), (32, 32, 5))
    image, ops = Tensor("image", int(h), int(w), channels or int(c)), []

    def add(kind, inputs, cout, name="", **fields):
        block = fields.pop("block", 0)
        ops.append(Op(f"b{block}_{name or kind}", kind, tuple(t.name for t in inputs), cout, block=block, **fields))
        return Graph("random", (image,), tuple(ops), ()).tensors[ops[-1].name]

    x = _one(rng, add, "conv", image, 0)
    for block in range(1, blocks):
        kind = str(rng.choice(WHOLE + 2 * BRANCHES))
        x = _meet(rng, add, kind, x, block) if kind in BRANCHES else _one(rng, add, kind, x, block)
    if rng.random() < 0.4:
        gate = add("gap", (x,), x.c, block=blocks)
        gate = add("conv", (gate,), x.c, "se", block=blocks)
        x = add("mul", (x, gate), x.c, block=blocks)
    if (h + w) % 4 == 0:
        x = _attended(add, x, blocks)
    if rng.random() < 0.3:
        x = add("conv", (add("gap", (x,), x.c, block=blocks + 1),), int(rng.integers(2, 9)), block=blocks + 1)
        x = add("softmax", (x,), x.c, block=blocks + 1)
    return Graph("random", (image,), tuple(ops), (x.name,)).verify()


def _attended(add, x, block):
    """Attention of a map to itself, of as many heads as its channels allow, at no more than 30 positions."""
    k = -(-x.h // 5), -(-x.w // 6)
    x, heads = add("maxpool", (x,), x.c, "few", k=k, s=k, block=block), max(g for g in (1, 2, 3) if x.c % g == 0)
    query = add("conv", (x,), x.c, "query", block=block)
    scores = add("attention_scores", (query, x), x.h * x.w, groups=heads, block=block)
    weights = add("softmax", (scores,), scores.c, "weights", block=block)
    return add("attention_sum", (weights, x), x.c, groups=heads, block=block)


def _one(rng, add, kind, x, block, same=False, name=""):
    """An op of `kind` on x, with any window it may have."""
    if kind == "conv":
        group = int(rng.choice([g for g in range(1, x.c + 1) if x.c % g == 0]))
        k, s, pad = _geometry(rng, x, same)
        cout = group * int(rng.integers(1, 8 // group + 2))
        return add(kind, (x,), cout, name, k=k, s=s, pad=pad, groups=group, block=block, **_clamped(rng))
    if kind in ("maxpool", "avgpool"):
        k, s, pad = _geometry(rng, x, same)
        return add(kind, (x,), x.c, name, k=k, s=s, pad=pad, block=block)
    if kind == "pad":
        return add(kind, (x,), x.c, name, pad=tuple(rng.integers(0, 4, 4).tolist()), block=block)
    if kind == "upsample" and max(x.h, x.w) < 24:
        return add(kind, (x,), x.c, name, s=tuple(rng.integers(1, 4, 2).tolist()), block=block)
    if kind == "softmax":
        return add(kind, (x,), x.c, name, block=block)
    if kind == "depth_to_space" and x.c % 2 and x.c % 3:
        x = add("conv", (x,), 2 * int(rng.integers(1, 5)), f"{name}wide", block=block)
    if kind in MOVES and (moved := _move(rng, kind, x)):
        return add(kind, (x,), name=name, block=block, **moved)
    act, args = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    return add("act", (x,), x.c, name, act=act, args=args, block=block)


def _move(rng, kind, x):
    """The fields of a copy to other places that x allows; None where there is none."""
    sides = [[n for n in (1, 2, 3) if length % n == 0] for length in (x.h, x.w)]
    if kind == "space_to_depth":
        s = tuple(int(rng.choice(side)) for side in sides)
        return {"k": s, "s": s, "cout": x.c * s[0] * s[1]} if x.c * s[0] * s[1] <= 36 else None
    if kind == "depth_to_space":
        blocks = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if x.c % (a * b) == 0 and a * b > 1]
        if not blocks or max(x.h, x.w) > 24:
            return None
        s = blocks[int(rng.integers(len(blocks)))]
        crop = tuple(-int(rng.integers(min(n, length))) for n, length in zip(s, (x.h, x.w), strict=True))
        return {"s": s, "pad": (0, 0, *crop), "cout": x.c // (s[0] * s[1])}
    channels = rng.permutation(x.c) if rng.random() < 0.5 else rng.integers(-1, x.c, int(rng.integers(1, 9)))
    if rng.random() < 0.3:
        channels = np.arange(int(rng.integers(x.c)), x.c)
    s, crop = tuple(rng.choice([1, 1, 2, 3], 2).tolist()), []
    for length in (x.h, x.w):
        lo = int(rng.integers(min(3, length)))
        crop.append((-lo, -int(rng.integers(min(3, length - lo)))))
    pad = (crop[0][0], crop[1][0], crop[0][1], crop[1][1])
    return {"channels": tuple(channels.tolist()), "s": s, "pad": pad, "cout": len(channels)}


ACTIVATIONS = ((None, ()), ("hswish", ()), ("leaky", (0.1,)), ("sigmoid", ()), ("hsigmoid", ()), ("clip", (-0.5, 0.7)))


def _clamped(rng):
    return {"act": "clip", "args": (-0.4, 0.9)} if rng.random() < 0.3 else {"act": rng.choice([None, "relu", "relu6"])}


def _meet(rng, add, kind, x, block):
    """Two or three branches of one size from x, one of which may be x itself, and the op in which they meet."""
    if kind == "twice":
        kind = str(rng.choice(["add", "mul", "concat"]))
        return add(kind, (x, x), x.c * (1 + (kind == "concat")), block=block)
    one, other = str(rng.choice(["conv", "avgpool", "maxpool"])), str(rng.choice(["conv", "avgpool", "itself"]))
    heads = [_one(rng, add, one, x, block, True, "h0")]
    heads.append(x if other == "itself" else _one(rng, add, other, x, block, True, "h1"))
    if kind == "concat":
        heads += [x] * int(rng.integers(2))
        return add(kind, heads, sum(t.c for t in heads), block=block)
    pair = [t if t.c == x.c else add("conv", (t,), x.c, f"t{i}", block=block) for i, t in enumerate(heads)]
    rng.shuffle(pair)
    return add(kind, pair, x.c, block=block, **(_clamped(rng) if kind == "add" else {}))


def twice_graph(rng, blocks: int = 4, channels: int | None = None) -> Graph:
    """Ops that read any maps before them, often one map twice: as input and residual, as both inputs of a sum or
    product, as two parts of a concat. Every op is a block of its own: a stage may end between any two that one map
    connects. rng: numpy's, or another with its `integers` and `choice` (test_twice.py)."""
    image, ops = Tensor("image", *(int(rng.integers(6, 25)) for _ in "hw"), channels or int(rng.integers(1, 4))), []

    def add(kind, inputs, cout, **fields):
        ops.append(Op(f"n{len(ops)}_{kind}", kind, tuple(t.name for t in inputs), cout, block=len(ops), **fields))
        return Graph("twice", (image,), tuple(ops), ()).tensors[ops[-1].name]

    x = add("conv", (image,), int(rng.integers(1, 6)), **_same_size(rng))
    for _ in range(blocks):
        maps = [x]
        for _ in range(int(rng.integers(1, 4))):
            maps.append(_reader(rng, add, maps))
        read = {name for op in ops for name in op.reads}
        ends = [t for t in maps if t.name not in read]
        x = add("concat", ends, sum(t.c for t in ends)) if len(ends) > 1 else ends[0]
        if x.c > 8 or rng.integers(3) == 0:
            stride = {"s": (int(rng.integers(1, 3)), int(rng.integers(1, 3)))} if min(x.h, x.w) > 8 else {}
            x = add("conv", (x,), int(rng.integers(1, 6)), **_same_size(rng), **stride)
        elif rng.integers(4) == 0 and max(x.h, x.w) < 12:
            x = add("upsample", (x,), x.c, s=(int(rng.integers(1, 3)), 2))
    return Graph("twice", (image,), tuple(ops), (x.name,)).verify()


def _reader(rng, add, maps):
    """An op that keeps the maps' size, of any of them: the last, mostly."""
    x = maps[-1] if rng.integers(3) else _one_of(rng, maps)
    alike = [t for t in maps if t.c == x.c]
    kind = str(rng.choice(["own", "own", "conv", "add", "add", "mul", "concat", "maxpool", "avgpool", "act"]))
    if kind in ("own", "conv"):
        group = _one_of(rng, [g for g in range(1, x.c + 1) if x.c % g == 0])
        skip = x if kind == "own" else _one_of(rng, alike)
        return add("conv", (x,), x.c, groups=group, residual=skip.name, **_same_size(rng), **_clamped(rng))
    if kind in ("add", "mul"):
        return add(kind, (x, x if rng.integers(2) else _one_of(rng, alike)), x.c)
    if kind == "concat":
        parts = [x, x if rng.integers(2) else _one_of(rng, maps)]
        return add(kind, parts, sum(t.c for t in parts))
    return add(kind, (x,), x.c, **(_same_size(rng) if "pool" in kind else {"act": "hswish"}))


def _one_of(rng, things):
    return things[int(rng.integers(len(things)))]


def _same_size(rng):
    """A window, padded unevenly, that keeps a map's size at stride 1."""
    k = tuple(int(rng.choice([1, 2, 3, 3, 4, 5])) for _ in "hw")
    top, left = (int(rng.integers(n)) for n in k)
    return {"k": k, "pad": (top, left, k[0] - 1 - top, k[1] - 1 - left)}


def every_kind():
    """One network with every kind, and both sorts of product, concat input, window and group."""
    image, ops = Tensor("image", 17, 14, 3), []

    def add(name, kind, inputs, cout, block, **fields):
        ops.append(Op(name, kind, tuple(inputs.split()), cout, block=block, **fields))

    three = dict(k=(3, 3), pad=(1, 1, 1, 1))
    add("stem", "conv", "image", 8, 0, act="clip", args=(-3.0, 2.0), **three)
    add("halves", "conv", "stem", 8, 1, groups=2, **three)
    add("wide", "conv", "halves", 16, 1, groups=8, s=(2, 2), act="relu", **three)
    add("mean", "avgpool", "wide", 16, 2, **three)
    add("most", "maxpool", "wide", 16, 2, **three)
    add("sum", "add", "mean most", 16, 2, act="relu6")
    add("squared", "mul", "sum mean", 16, 2)
    add("both", "concat", "squared most wide", 48, 3)
    add("smooth", "act", "both", 48, 3, act="hswish")
    add("rim", "pad", "smooth", 48, 3, pad=(3, 0, 2, 5))
    add("shuffled", "take", "rim", 24, 3, channels=(*range(47, 1, -2), -1), s=(1, 2), pad=(-1, 0, 0, -2))
    add("blocks", "depth_to_space", "shuffled", 6, 3, s=(2, 2), pad=(0, 0, -1, 0))
    add("less", "conv", "blocks", 6, 3)
    add("packed", "space_to_depth", "less", 12, 3, k=(1, 2), s=(1, 2))
    add("half", "take", "packed", 6, 3, channels=tuple(range(3, 9)))
    add("twice", "upsample", "half", 6, 4, s=(2, 1))
    add("few", "maxpool", "twice", 6, 5, k=(10, 2), s=(10, 2))
    add("scores", "attention_scores", "few few", 10, 5, groups=3)
    add("weights", "softmax", "scores", 10, 5)
    add("attended", "attention_sum", "weights few", 6, 5, groups=3)
    add("squeeze", "gap", "attended", 6, 5)
    add("gate", "act", "squeeze", 6, 5, act="sigmoid")
    add("scaled", "mul", "twice gate", 6, 5)
    add("classes", "softmax", "scaled", 6, 5)
    return Graph("every", (image,), tuple(ops), ("scaled", "classes")).verify()


def _geometry(rng, x, same=False):
    """(k, s, pad) that leaves at least one position; `same` keeps the size. Kernels and strides differ per axis."""
    k, s, pads = [], [], []
    for length in (x.h, x.w):
        kk = int(rng.choice([1, 3, 5, 7] if same else [1, 2, 3, 4, 5, 7]))
        kk = min(kk, length if length % 2 or not same else length - 1)
        ss = 1 if same else int(rng.choice([1, 1, 2, 3]))
        lo, hi = (kk // 2, kk // 2) if same else (int(rng.integers(0, kk)), int(rng.integers(-1, kk)))
        hi = max(hi, -1 if length + lo > kk else 0)
        k.append(kk), s.append(ss), pads.append((lo, hi))
    return tuple(k), tuple(s), (pads[0][0], pads[1][0], pads[0][1], pads[1][1])


def _conv(rng, name, x, cout, block, act="relu6"):
    k, s, pad = _geometry(rng, x)
    return Op(name, "conv", (x.name,), cout, k, s, pad, act=act, block=block)


def _mb(rng, add, name, x, block, cout):
    skip, mid = x, int(rng.integers(2, 12))
    x = add(Op(f"{name}_exp", "conv", (x.name,), mid, act="relu", block=block))
    residual = bool(rng.random() < 0.6)
    k, s, pad = _geometry(rng, x, same=residual)
    x = add(Op(f"{name}_dw", "conv", (x.name,), mid, k, s, pad, mid, "relu6", block=block))
    cout = skip.c if residual else cout
    return add(Op(f"{name}_proj", "conv", (x.name,), cout, residual=skip.name if residual else None, block=block))


def _scale(rng, op, inputs) -> Scale:
    """For the output of an op without weights, so that most values differ and some are clamped."""
    x = inputs[0]
    if op.kind == "softmax":
        return PROBABILITY
    if op.kind == "act" and op.act:
        return Scale.of_range(*np.sort(ACTS[op.act](x.dequantize(np.array([-128.0, 127.0])), *op.args)))
    product = x.scale * inputs[-1].scale
    near = {"add": 0.7 * (x.scale + inputs[-1].scale), "mul": 90 * product, "attention_scores": 150 * product,
            "attention_sum": 200 * product}.get(op.kind, x.scale)  # fmt: skip
    return Scale(max(near, 1e-6) * float(rng.uniform(0.6, 1.2)), int(rng.integers(-100, 100)))


def random_model(rng: np.random.Generator, graph: Graph, step: float = 1 / 255) -> QuantModel:
    """Random weights, biases, scales and zero points that keep the values away from saturation. step: the scale of the
    picture, and about that of every map behind it."""
    scales, weights = {graph.inputs[0].name: Scale(step, int(rng.integers(-128, 128)))}, {}
    for op in graph.ops:
        x = graph.input_of(op)
        if op.kind in (*SAME_SCALE, "gap"):
            scales[op.name] = scales[op.inputs[0]]
            continue
        if op.kind != "conv":
            scales[op.name] = _scale(rng, op, [scales[name] for name in op.inputs])
            continue
        fan = op.k[0] * op.k[1] * x.c // op.groups
        weight = rng.integers(-127, 128, (op.cout, x.c // op.groups, *op.k)).astype(np.int8)
        channel = rng.uniform(0.5, 2, op.cout).astype(np.float32) / (73 * np.sqrt(fan))
        bias = rng.integers(-(1 << 13), 1 << 13, op.cout).astype(np.int32)
        scales[op.name] = Scale(scales[op.inputs[0]].scale * float(rng.uniform(0.7, 1.4)), int(rng.integers(-100, 100)))
        weights[op.name] = QuantWeights(weight, channel, bias)
    return QuantModel(graph, scales, weights)


def block_graph(rng: np.random.Generator, size, blocks: int = 5, channels: int = 3, skips: float = 0) -> Graph:
    """Blocks of searched networks, dense ones of windows up to 7 among them, now and then with a shortcut from the map
    before it or a squeeze-excite, a block of its own, behind it: what may stand on either side of a cut. skips: the
    probability that a block reads an earlier map again, as a detector's neck does, where one is of its size."""
    image, ops = Tensor("image", *size, channels), []

    def add(name, kind, inputs, cout, block, **fields):
        ops.append(Op(f"b{block}_{name}", kind, tuple(t.name for t in inputs), cout, block=block, **fields))
        return Graph("random", (image,), tuple(ops), ()).tensors[ops[-1].name]

    x, block, maps = image, 0, []
    for _ in range(blocks):
        x, block = _block(rng, add, x, block), block + 1
        if rng.random() < 0.2:
            x, block = _gated(rng, add, x, block), block + 1
        earlier = [one for one in maps[:-1] if (one.h, one.w) == (x.h, x.w)]
        if skips and earlier and rng.random() < skips:
            other = earlier[int(rng.integers(len(earlier)))]
            x, block = add("join", "concat", (x, other), x.c + other.c, block), block + 1
        maps.append(x)
    return Graph("random", (image,), tuple(ops), (x.name,)).verify()


def _block(rng, add, x, block):
    """A dense convolution or an inverted residual, of one stride and "same" padding on both axes."""
    k, s = int(rng.choice([3, 5, 7])), int(rng.choice([1, 1, 2]))
    window = {"k": (k, k), "s": (s, s), "pad": (k // 2,) * 4}
    cout = x.c if block and s == 1 and rng.random() < 0.6 else int(rng.integers(2, 21))
    shortcut = {"residual": x.name} if block and s == 1 and cout == x.c else {}
    if block == 0 or rng.random() < 0.4:
        return add("conv", "conv", (x,), cout, block, **window, **shortcut, **_clamped(rng))
    mid = int(rng.integers(3, 31))
    x = add("exp", "conv", (x,), mid, block, act="relu6")
    x = add("dw", "conv", (x,), mid, block, groups=mid, **window, **_clamped(rng))
    return add("proj", "conv", (x,), cout, block, **shortcut)


def _gated(rng, add, x, block):
    """Squeeze-excite."""
    gate = add("pool", "gap", (x,), x.c, block)
    gate = add("red", "conv", (gate,), max(1, x.c // 4), block, act="relu")
    gate = add("gate", "conv", (gate,), x.c, block)
    gate = add("act", "act", (gate,), x.c, block, act=str(rng.choice(["sigmoid", "hsigmoid"])))
    return add("mul", "mul", (x, gate), x.c, block)
