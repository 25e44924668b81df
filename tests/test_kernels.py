"""The C kernels: against plain numpy on random layers (also under sanitizers), DSP against plain versions in QEMU."""

import ctypes
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels import I8, I16, I32, KERNELS, SANITIZED, U8, at, kernel_library, run_sanitized
from programs import EMULATED, MACHINES

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.kernel_facts import CORTEX_M, IN_ORDER
from nni_mcunet.engine.ops import conv, requantise
from nni_mcunet.engine.ops.conv import ConvIntegers
from nni_mcunet.engine.ops.weight_packing import pack_channels, pack_weights
from nni_mcunet.engine.run import emulator, toolchain
from nni_mcunet.engine.run.host import SANITIZERS
from nni_mcunet.engine.run.toolchain import RUNTIME


class Axis(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("n_in", "first", "n_out", "n_dst", "dst", "n_res", "res")]


class Conv(ctypes.Structure):
    _fields_ = [
        *((n, I16) for n in ("cin", "cout", "groups")), *((n, U8) for n in ("kh", "kw", "sh", "sw")),
        *((n, I8) for n in ("zp_in", "zp_out", "lo", "hi", "res_zp")), ("res_bits", U8), ("res_mult", I32),
        *((n, ctypes.c_void_p) for n in ("weights", "pairs")),
    ]  # fmt: skip


class Factor(ctypes.Structure):
    _fields_ = [("mult", I32), ("left", U8), ("right", U8)]


class Pool(ctypes.Structure):
    _fields_ = [
        ("c", I16), *((n, U8) for n in ("kh", "kw", "sh", "sw")), *((n, I8) for n in ("zp_in", "zp_out")),
        ("mean", Factor), ("border", ctypes.POINTER(Factor)),
    ]  # fmt: skip


class Move(ctypes.Structure):
    _fields_ = [
        *((n, I16) for n in ("c", "cout", "from")), *((n, U8) for n in ("sh", "sw")), ("zp", I8),
        ("channels", ctypes.POINTER(I16)),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return kernel_library(tmp_path_factory.mktemp("kernels"))


def random_axis(rng, k, s, padded):
    """n_out positions of windows that begin up to k - 1 before the buffer and end up to k - 1 behind it, or crop it."""
    n_out, dst, res = int(rng.integers(1, 9)), int(rng.integers(3)), int(rng.integers(3))
    first = int(rng.integers(1 - k, 3)) if padded else int(rng.integers(3))
    last = int(rng.integers(1 - k, 3)) if padded else int(rng.integers(3))
    n_in = max(1, (n_out - 1) * s + k + first + last)
    return Axis(n_in, first, n_out, n_out + dst + int(rng.integers(3)), dst, n_out + res + int(rng.integers(3)), res)


def int8(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


def random_conv(rng, kind, k, s):
    """A conv struct and the arrays it points to (in .arrays)."""
    cin = int(rng.integers(2 if kind == "dw" else 1, 24))  # of one channel it is a dense one, with its scratch
    cout = cin if kind == "dw" else int(rng.integers(1, 24))
    groups = {"dw": cin, "group": int(rng.integers(1, 5))}.get(kind, 1)
    if kind == "group":
        cin, cout = groups * int(rng.integers(1, 6)), groups * int(rng.integers(1, 6))
    taps = k[0] * k[1] * cin // groups
    arrays = {
        "weights": int8(rng, cout, *k, cin // groups),
        "bias": rng.integers(-(2**14), 2**14, cout).astype(np.int32),
        "mult": rng.integers(2**30, 2**31, cout).astype(np.int32),
        "left": rng.integers(0, 4, cout).astype(np.uint8),
    }
    right = arrays["left"] + np.log2(taps * 4000 / 128) / 2  # most results inside -128..127
    arrays["right"] = np.maximum(right + rng.integers(0, 3, cout) + 3, 1).astype(np.uint8)
    lo, hi = sorted(rng.integers(-128, 128, 2).tolist()) if rng.random() < 0.3 else (-128, 127)
    zp = int8(rng, 3).tolist()
    op = Conv(cin, cout, groups, *k, *s, zp[0], zp[1], lo, hi, zp[2], 0, 0)
    op.arrays, op.depthwise, op.lie = arrays, kind == "dw", ""
    return packed(op)


def packed(op):
    """Points the struct to its arrays, packed."""
    weights, *channels = (op.arrays[name] for name in ("weights", "bias", "mult", "left", "right"))
    groups = 1 if op.depthwise else op.groups
    op.packed = weights if op.depthwise else pack_weights(weights.transpose(0, 3, 1, 2), groups, op.lie)
    op.packed_pairs = pack_channels(*channels, groups, op.lie == "raw")
    op.weights, op.pairs = at(op.packed), at(op.packed_pairs)
    return op


def with_residual(op, rng):
    op.res_bits, op.res_mult = int(rng.integers(1, 9)), int(rng.integers(1, 3 << 8))
    op.arrays["right"] = np.maximum(op.arrays["right"].astype(int) - op.res_bits, 1).astype(np.uint8)
    packed(op)


def windows(data, y, x, k, s, zp):
    """(y.n_out, x.n_out, kh, kw, c) int64 of every window, one tap at a time."""
    result = np.full((y.n_out, x.n_out, *k, data.shape[2]), zp, np.int64)
    for i, j, r, q in np.ndindex(result.shape[:4]):
        row, col = y.first + i * s[0] + r, x.first + j * s[1] + q
        if 0 <= row < y.n_in and 0 <= col < x.n_in:
            result[i, j, r, q] = data[row, col]
    return result


def requant(acc, mult, left, right):
    """floor(acc * mult * 2^(left - 32 - right) + 1/2) with exact integers."""
    rounded = [
        (int(a) * 2 ** int(s) * int(m) // 2**32 * 2 + 2 ** int(r)) // 2 ** (int(r) + 1)
        for a, m, s, r in np.nditer([acc, mult, left, right])
    ]
    return np.array(rounded).reshape(acc.shape)


def expected(op, y, x, data, res, out):
    """The whole destination buffer after the kernel has run."""
    taps = windows(data, y, x, (op.kh, op.kw), (op.sh, op.sw), op.zp_in)
    weights = op.arrays["weights"].astype(np.int64).reshape(op.groups, -1, op.kh, op.kw, op.cin // op.groups)
    acc = np.einsum("ijrqgc,gorqc->ijgo", taps.reshape(*taps.shape[:4], op.groups, -1), weights)
    acc = acc.reshape(y.n_out, x.n_out, op.cout)
    value = requant(
        acc + op.arrays["bias"], *(np.broadcast_to(op.arrays[n], acc.shape) for n in ("mult", "left", "right"))
    )
    if res is not None:
        skip = res[y.res : y.res + y.n_out, x.res : x.res + x.n_out].astype(np.int64)
        value = (value + (skip - op.res_zp) * op.res_mult + 2 ** (op.res_bits - 1)) // 2**op.res_bits
    out = out.copy()
    out[y.dst : y.dst + y.n_out, x.dst : x.dst + x.n_out] = np.clip(value + op.zp_out, op.lo, op.hi)
    return out


def call(lib, kind, op, y, x, data, res, out):
    conv = Op("conv", "conv", ("in",), op.cout, (op.kh, op.kw), (op.sh, op.sw), groups=op.groups)
    scratch = np.empty(CORTEX_M.scratch(conv, op.cin, y.n_out, x.n_out), np.int8)
    getattr(lib, f"mcu_conv_{kind}")(
        ctypes.byref(op), ctypes.byref(y), ctypes.byref(x), *(ctypes.c_void_p(at(a)) for a in (data, res, out, scratch))
    )


@pytest.mark.parametrize("kind", ["pw", "dense", "dw", "group"])
@pytest.mark.parametrize("seed", range(25))
def test_conv_equals_numpy(lib, kind, seed):
    """Any window, stride, padding, crop and placement; nothing else of the destination is touched."""
    rng = np.random.default_rng([seed, len(kind)])
    k, s = (
        ((1, 1), (1, 1))
        if kind == "pw"
        else (tuple(rng.choice([1, 3, 5, 7], 2).tolist()), tuple(rng.integers(1, 3, 2).tolist()))
    )
    op = random_conv(rng, kind, k, s)
    y, x = (random_axis(rng, k[i], s[i], kind != "pw") for i in range(2))
    data, out, res = int8(rng, y.n_in, x.n_in, op.cin), int8(rng, y.n_dst, x.n_dst, op.cout), None
    if seed % 2:
        with_residual(op, rng)
        res = int8(rng, y.n_res, x.n_res, op.cout)
    want = expected(op, y, x, data, res, out)
    call(lib, kind, op, y, x, data, res, out)
    assert (out == want).all()


@pytest.mark.parametrize("kind, k", [("pw_one", 1), ("dw_fast", 3), ("dw_fast", 7)])
@pytest.mark.parametrize("first, has_residual", [(0, False), (1, False), (1, True)])
def test_forms_equal_numpy(lib, kind, k, first, has_residual):
    """The functions that a linker takes without the rest of the general one."""
    rng = np.random.default_rng([k, first])
    op = random_conv(rng, kind[:2], (k, k), (1, 1))
    y, x = (Axis(size + k, first, size, size + 1, 1, size + 1, 1) for size in ((1, 1) if k == 1 else (4, 6)))
    data, out, res = int8(rng, y.n_in, x.n_in, op.cin), int8(rng, y.n_dst, x.n_dst, op.cout), None
    if k == 1 and has_residual:
        with_residual(op, rng)
        res = int8(rng, y.n_res, x.n_res, op.cout)
    want = expected(op, y, x, data, res, out)
    call(lib, kind, op, y, x, data, res, out)
    assert (out == want).all()


@pytest.mark.parametrize("kind", ["pw", "dense"])
@pytest.mark.parametrize("seed", range(15))
def test_raw_conv_equals_numpy(lib, kind, seed):
    """Two channels from one product; with weights and inputs at the ends of int8, too."""
    rng = np.random.default_rng([seed, len(kind)])
    k = (1, 1) if kind == "pw" else tuple(rng.choice([1, 3, 5], 2).tolist())
    op = random_conv(rng, kind, k, (1, 1))
    if seed % 3 == 0:
        op.arrays["weights"][:] = rng.choice([-128, 127, -127], op.arrays["weights"].shape)
    op.arrays["weights"][1::2] = np.maximum(op.arrays["weights"][1::2], -127)
    op.lie = "raw"
    packed(op)
    y, x = (random_axis(rng, k[i], 1, kind != "pw") for i in range(2))
    data, out, res = int8(rng, y.n_in, x.n_in, op.cin), int8(rng, y.n_dst, x.n_dst, op.cout), None
    if seed % 3 == 0:
        data[:] = rng.choice([-128, 127], data.shape)
    if seed % 2:
        with_residual(op, rng)
        res = int8(rng, y.n_res, x.n_res, op.cout)
    want = expected(op, y, x, data, res, out)
    call(lib, f"{kind}_raw", op, y, x, data, res, out)
    assert (out == want).all()


@pytest.mark.parametrize("kind", ["pw", "dense"])
@pytest.mark.parametrize("seed", range(25))
def test_conv_of_rows_equals_numpy(lib, kind, seed):
    """Fewer taps than a block of 16, blocks, and some before them; channels in fours, and the last ones."""
    rng = np.random.default_rng([seed, len(kind)])
    k, s = ((1, 1), (1, 1)) if kind == "pw" else (tuple(rng.choice([1, 3, 5], 2).tolist()), (2, 1))
    op = random_conv(rng, kind, k, s)
    if kind == "pw":
        op.cin = int(rng.choice([1, 7, 8, 15, 16, 17, 24, 32, 41, 48]))
        op.arrays["weights"] = int8(rng, op.cout, 1, 1, op.cin)
    op.lie = "rows"
    packed(op)
    assert len(op.packed) == -(-op.cout // 2) * 2 * -(-op.kh * op.kw * op.cin // 4) * 4
    y, x = (random_axis(rng, k[i], s[i], kind != "pw") for i in range(2))
    data, out, res = int8(rng, y.n_in, x.n_in, op.cin), int8(rng, y.n_dst, x.n_dst, op.cout), None
    if seed % 2:
        with_residual(op, rng)
        res = int8(rng, y.n_res, x.n_res, op.cout)
    want = expected(op, y, x, data, res, out)
    call(lib, f"{kind}_rows", op, y, x, data, res, out)
    assert (out == want).all()


@pytest.mark.parametrize("past", [False, True])
def test_raw_conv_at_its_bound(lib, past):
    """A sum of 2^23 - 1 the kernel has; a layer whose sums reach 2^23 is not given to it."""
    cin, weight = 1024, np.full((2, 1024, 1, 1), -64, np.int8)
    weight[1, -1] = -63
    graph = Graph("g", (Tensor("x", 1, 1, cin),), (Op("y", "conv", ("x",), 2),), ("y",))
    channels = dict(mult=np.full(2, 2**30), left=np.zeros(2, np.int64), right=np.full(2, 14))
    p = ConvIntegers(weight, np.array([0, 127 + past], np.int32), **channels, zp_in=0, zp_out=0, lo=-128, hi=127)
    assert (conv.raw(graph, graph.ops[0], p).lie == "raw") == (not past)
    op = random_conv(np.random.default_rng(0), "pw", (1, 1), (1, 1))
    op.cin, op.cout, op.zp_in, op.zp_out, op.lo, op.hi, op.lie = cin, 2, 0, 0, -128, 127, "raw"
    op.arrays = {"weights": weight.transpose(0, 2, 3, 1), "bias": p.bias, **channels}
    data, out = np.full((1, 4, cin), -128, np.int8), np.empty((1, 4, 2), np.int8)
    y, x = Axis(1, 0, 1, 1), Axis(4, 0, 4, 4)
    call(lib, "pw_raw", packed(op), y, x, data, None, out)
    assert (out == expected(op, y, x, data, None, out)).all() == (not past)


def test_rows_need_a_second_rounding():
    """Vectors take a value's sign into account as they round it once more, which a shift of none may not."""
    graph = Graph("g", (Tensor("x", 1, 1, 9),), (Op("y", "conv", ("x",), 2),), ("y",))
    for right in (0, 1):
        channels = dict(mult=np.full(2, 2**30), left=np.ones(2, np.int64), right=np.array([3, right]))
        p = ConvIntegers(
            np.ones((2, 9, 1, 1), np.int8), np.zeros(2, np.int32), **channels, zp_in=0, zp_out=0, lo=-128, hi=127,
            twice=True,
        )  # fmt: skip
        assert conv.rows(graph, graph.ops[0], p).lie == "rows" * right


def test_raw_channels_of_long_shifts():
    """Another multiplier stands in for one whose shift is too long where it rounds each sum to the same value."""
    graph = Graph("g", (Tensor("x", 1, 1, 9),), (Op("y", "conv", ("x",), 2),), ("y",))
    rng = np.random.default_rng(0)
    weight = int8(rng, 2, 9, 1, 1) // 2
    reach = 128 * np.abs(weight[1].astype(int)).sum()
    for right, bias in ((13, 0), (13, reach), (16, -reach), (17, 0)):
        channels = dict(mult=rng.integers(2**30, 2**31, 2), left=np.zeros(2, np.int64), right=np.full(2, right))
        p = ConvIntegers(weight, np.full(2, bias, np.int32), **channels, zp_in=0, zp_out=-128, lo=-128, hi=127)
        found = conv.raw(graph, graph.ops[0], p)
        assert found.lie == "raw" and int(found.right[1]) == min(right, 15)
        sums = bias + np.arange(-reach, reach + 1)
        old, new = (requantise.requant(sums, int(q.mult[1]), 0, int(q.right[1])) for q in (p, found))
        assert (old == new).all()
        for part in (480, 512, 513):
            mult, right_now = int(found.mult[1]) * part // 512, int(found.right[1])
            same = (old == requantise.requant(sums, mult, 0, right_now)).all()
            assert conv._is_same(p, 1, int(reach), mult, right_now) == same
    tiny = replace(p, right=np.full(2, 17), zp_out=-128, weight=np.full_like(weight, -128))
    assert not conv.raw(graph, graph.ops[0], tiny).lie


@pytest.mark.parametrize("seed", range(25))
def test_depthwise_in_place(lib, seed):
    """The output overwrites the input buffer from its beginning, packed."""
    rng = np.random.default_rng(seed)
    k, s = tuple(rng.choice([1, 3, 5, 7], 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
    op = random_conv(rng, "dw", k, s)
    y, x = (random_axis(rng, k[i], s[i], True) for i in range(2))
    x.n_in = max(x.n_in, x.n_out)
    for axis in (y, x):
        axis.dst, axis.n_dst = 0, axis.n_out
    data = int8(rng, y.n_in, x.n_in, op.cin)
    want = expected(op, y, x, data, None, np.empty((y.n_out, x.n_out, op.cin), np.int8))
    buffer = np.concatenate([data.ravel(), np.zeros(max(0, want.size - data.size), np.int8)])
    call(lib, "dw", op, y, x, buffer, None, buffer)
    assert (buffer[: want.size] == want.ravel()).all()


@pytest.mark.parametrize(
    "k, s, width",
    [
        (3, (1, 1), 58),
        (5, (1, 1), 38),
        (3, (2, 2), 29),
        (7, (3, 3), 9),
        (1, (2, 2), 41),
        (2, (3, 3), 1),
        (2, (1, 255), 1),
    ],
)
def test_depthwise_in_place_in_strips(lib, k, s, width):
    """More rows than the scratch holds, which may be full to its last bytes; beside a residual, and in place."""
    rng = np.random.default_rng([k, *s])
    op = random_conv(rng, "dw", (k, k), s)
    high = 45
    y, x = (Axis((n - 1) * step + k - 2, -1, n, n, 0, n, 0) for n, step in zip((high, width), s, strict=True))
    x.n_in, y.n_in = max(x.n_in, width), max(y.n_in, high)
    data = int8(rng, y.n_in, x.n_in, op.cin)
    buffer = data.copy()
    want = expected(op, y, x, data, None, np.empty((high, width, op.cin), np.int8))
    call(lib, "dw", op, y, x, buffer, None, buffer)
    assert (buffer.ravel()[: want.size] == want.ravel()).all()
    with_residual(op, rng)
    res = int8(rng, high, width, op.cout)
    want = expected(op, y, x, data, res, res)
    call(lib, "dw", op, y, x, data, res, res)
    assert (res == want).all()


@pytest.mark.parametrize("kind", ["pw", "dense", "group"])
@pytest.mark.parametrize("ends", [(-128, -128), (-128, 127), (127, 127)])
def test_conv_equals_numpy_at_the_ends_of_int8(lib, kind, ends):
    """Inputs and weights of nothing else, whose products are the largest that there are."""
    rng = np.random.default_rng(0)
    op = random_conv(rng, kind, (1, 1), (1, 1))
    op.arrays["weights"][:] = rng.choice(ends, op.arrays["weights"].shape)
    op.arrays["weights"][::2] = -128
    packed(op)
    y, x = Axis(3, 0, 3, 3), Axis(5, 0, 5, 5)
    data, out = rng.choice(ends, (3, 5, op.cin)).astype(np.int8), np.empty((3, 5, op.cout), np.int8)
    call(lib, kind, op, y, x, data, None, out)
    assert (out == expected(op, y, x, data, None, out)).all()


def test_upper_halves_without_a_long_product(tmp_path):
    """As a Cortex-M0+ computes them, here under the sanitizers: of the largest and of random factors."""
    rng, ends = np.random.default_rng(0), [-(2**31), 2**31 - 1, -1, 0, 1, -(2**16), 2**16 - 1, -(2**15), 2**30]
    factors = [2**31 - 1, 2**30, 0, 1, 2**16 - 1, 2**16, *rng.integers(0, 2**31, 500).tolist()]
    values = [*ends, *rng.integers(-(2**31), 2**31, 500).tolist()]
    pairs = [(v, m) for v in ends for m in factors] + [(v, m) for v in values for m in factors[:6]]
    (tmp_path / "upper.c").write_text(
        "#include <stdint.h>\n#define __ARM_ARCH_ISA_THUMB 1\n"
        '#include "mcu.h"\n#include <stdio.h>\nint main(void) {\n    int v, m;\n'
        '    while (scanf("%d %d", &v, &m) == 2)\n        printf("%d\\n", (int)mcu_upper(v, m));\n    return 0;\n}\n'
    )
    command = ["gcc", *toolchain.WARNINGS, *SANITIZERS, f"-I{KERNELS}", "upper.c", "-o", "upper"]
    subprocess.run(command, check=True, cwd=tmp_path)
    lines = "".join(f"{v} {m}\n" for v, m in pairs)
    done = subprocess.run([tmp_path / "upper"], input=lines, capture_output=True, text=True, check=True)
    assert not done.stderr and [*map(int, done.stdout.split())] == [v * m >> 32 for v, m in pairs]


@pytest.mark.parametrize("seed", range(10))
def test_pointwise_onto_cropped_residual(lib, seed):
    """The residual has a halo; the packed output overwrites the buffer that holds it."""
    rng = np.random.default_rng(seed)
    op = random_conv(rng, "pw", (1, 1), (1, 1))
    with_residual(op, rng)
    y, x = (random_axis(rng, 1, 1, False) for _ in range(2))
    for axis in (y, x):
        axis.dst, axis.n_dst = 0, axis.n_out
    data, res = int8(rng, y.n_in, x.n_in, op.cin), int8(rng, y.n_res, x.n_res, op.cout)
    want = expected(op, y, x, data, res, np.empty((y.n_out, x.n_out, op.cout), np.int8))
    call(lib, "pw", op, y, x, data, res, res)
    assert (res.ravel()[: want.size] == want.ravel()).all()


ORDERED = {
    "conv_pw",
    "conv_dense",
    "conv_pw_rows",
    "conv_dense_rows",
    "conv_group",
    "maxpool",
    "avgpool",
    "upsample",
    "pad",
}


@pytest.mark.parametrize("kernel", sorted(ORDERED))
@pytest.mark.parametrize("seed", range(20))
def test_output_over_the_input(lib, kernel, seed):
    """As near before it as kernel_facts says, and behind it where a kernel goes backwards, too."""
    assert set(IN_ORDER) == {name for name in ORDERED if not name.startswith("conv_")}
    rng, name = np.random.default_rng([seed, len(kernel)]), kernel.removeprefix("conv_")
    kind, _, lie = name.partition("_")
    conv, enlarges = kernel.startswith("conv_"), kernel == "upsample"
    windowed = kind not in ("pw", "upsample", "pad")
    k = tuple(rng.choice([1, 2, 3, 5], 2).tolist()) if windowed else (1, 1)
    s = tuple(rng.integers(1, 4, 2).tolist()) if windowed or enlarges else (1, 1)
    pads = [(int(a), int(b)) for a, b in (rng.integers(0, 3 if kind == "pad" else max(1, k[i]), 2) for i in (0, 1))]
    pads = [(0, 0), (0, 0)] if kind in ("pw", "upsample") else pads
    op = random_conv(rng, kind, k, s) if conv else Pool(int(rng.integers(1, 9)), *k, *s, 3, -2, (2**30, 0, 1))
    if conv:
        op.lie = lie
        packed(op)
    else:
        op.border = (Factor * (k[0] * k[1]))(*[(2**30 + i, 0, 1) for i in range(k[0] * k[1])])
    cin, cout = (op.cin, op.cout) if conv else (op.c, op.c)
    high, wide = (int(rng.integers(k[i], 9 + k[i])) for i in (0, 1))
    graph_op = Op(
        "y", "conv" if conv else kernel, ("x",), cout, k, s, (pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
        groups=op.groups if conv else 1,
    )  # fmt: skip
    graph = Graph("over", (Tensor("x", high, wide, cin),), (graph_op,), ("y",))
    y, x = (
        Axis(n, -pad[0], m, m, 0)
        for n, m, pad in zip((high, wide), (graph.tensors["y"].h, graph.tensors["y"].w), pads, strict=True)
    )
    lead, lag = CORTEX_M.shift(graph, graph_op, y.n_out, x.n_out)
    data, size = int8(rng, high, wide, cin), y.n_out * x.n_out * cout

    def run(begin, source):
        """The output at byte `begin` of `source`, which has the input from byte `size` on."""
        out = source[begin:]
        if conv:
            call(lib, name, op, y, x, source[size:], None, out)
        else:
            getattr(lib, f"mcu_{kernel}")(*map(ctypes.byref, (op, y, x)), *map(at_byte, (source[size:], out)))
        return out[:size].copy()

    def memory():
        return np.concatenate([np.zeros(size, np.int8), data.ravel(), np.zeros(2 * size + data.size, np.int8)])

    want = run(size + data.size, memory())
    assert (run(size - lead, memory()) == want).all()
    if lag < data.size:
        assert kind == "pw" and (run(size + lag, memory()) == want).all()


def at_byte(array):
    return ctypes.c_void_p(at(array))


@pytest.mark.parametrize("seed", range(10))
def test_pools(lib, seed):
    rng = np.random.default_rng(seed)
    k, s, c = tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist()), int(rng.integers(1, 20))
    y, x = (random_axis(rng, k[i], s[i], True) for i in range(2))
    taps = k[0] * k[1]
    border = [(int(rng.integers(2**30, 2**31)), 1, int(rng.integers(1, 6))) for _ in range(taps)]
    op = Pool(c, *k, *s, *int8(rng, 2).tolist(), border[0], (Factor * taps)(*border[1:]))
    data, out = int8(rng, y.n_in, x.n_in, c), int8(rng, y.n_dst, x.n_dst, c)

    def run(name, y, x):
        got = out.copy()
        getattr(lib, f"mcu_{name}")(*map(ctypes.byref, (op, y, x)), *(ctypes.c_void_p(at(a)) for a in (data, got)))
        return got[y.dst : y.dst + y.n_out, x.dst : x.dst + x.n_out]

    def mean(total, factors):
        value = requant(total, *(np.broadcast_to(v, total.shape) for v in np.moveaxis(factors, -1, 0)))
        return np.clip(value + op.zp_out, -128, 127)

    assert (run("pad", *(Axis(a.n_in, a.first, a.n_out, a.n_dst, a.dst) for a in (y, x)))
            == windows(data, y, x, (1, 1), (1, 1), op.zp_in)[:, :, 0, 0]).all()  # fmt: skip
    inside = (windows(np.ones_like(data), y, x, k, s, 0)).sum((2, 3))
    if inside.all():  # the generator refuses a window of nothing but padding
        assert (run("maxpool", y, x) == windows(data, y, x, k, s, -128).max((2, 3))).all()
        total = windows(data, y, x, k, s, op.zp_in).sum((2, 3)) - op.zp_in * taps
        assert (run("avgpool", y, x) == mean(total, np.array(border)[taps - inside])).all()
    y.n_out = x.n_out = 1
    total = data.sum((0, 1), dtype=np.int64) - op.zp_in * y.n_in * x.n_in
    assert (run("gap", y, x) == mean(total, np.array(border[0]))).all()
    op.sh = op.sw = factor = int(rng.integers(1, 4))
    y.first, y.n_out = 0, min(y.n_dst - y.dst, y.n_in * factor)
    x.first, x.n_out = factor - 1, min(x.n_dst - x.dst, (x.n_in - 1) * factor + 1)
    rows, cols = (np.arange(a.n_out) + a.first for a in (y, x))
    assert (run("upsample", y, x) == data[rows // factor][:, cols // factor]).all()


@pytest.mark.parametrize("seed", range(10))
def test_moves(lib, seed):
    """Copies of any channels, steps, blocks and places; nothing else of the destination is touched."""
    rng = np.random.default_rng(seed)
    s, c = tuple(rng.integers(1, 4, 2).tolist()), int(rng.integers(1, 9))
    y, x = (random_axis(rng, 1, s[i], False) for i in range(2))
    data, channels = int8(rng, y.n_in, x.n_in, c), rng.integers(-1, c, 5)

    def run(name, op, y, x, data, want):
        got = int8(rng, y.n_dst, x.n_dst, op.cout)
        out = got.copy()
        out[y.dst : y.dst + y.n_out, x.dst : x.dst + x.n_out] = want
        getattr(lib, f"mcu_{name}")(*map(ctypes.byref, (op, y, x)), *(ctypes.c_void_p(at(a)) for a in (data, got)))
        assert (got == out).all(), name

    rows, cols = (a.first + np.arange(a.n_out) * step for a, step in zip((y, x), s, strict=True))
    taken, zero = data[rows][:, cols], int(rng.integers(-128, 128))
    chosen = np.where(channels < 0, zero, taken[..., channels])
    run("take", Move(c, 5, 0, *s, zero, (I16 * 5)(*channels)), y, x, data, chosen)
    run("take", Move(c, c - c // 2, c // 2, *s, zero, None), y, x, data, taken[..., c // 2 :])
    y.n_in, x.n_in = y.first + y.n_out * s[0], x.first + x.n_out * s[1]
    data = int8(rng, y.n_in, x.n_in, c)
    blocks = data[y.first :, x.first :].reshape(y.n_out, s[0], x.n_out, s[1], c).transpose(0, 2, 1, 3, 4)
    run("space_to_depth", Move(c, c * s[0] * s[1], 0, *s, 0, None), y, x, data, blocks.reshape(y.n_out, x.n_out, -1))
    data = int8(rng, (y.first + y.n_out - 1) // s[0] + 1, (x.first + x.n_out - 1) // s[1] + 1, c * s[0] * s[1])
    y.n_in, x.n_in = data.shape[:2]
    rows, cols = (a.first + np.arange(a.n_out) for a in (y, x))
    parts = data.reshape(y.n_in, x.n_in, *s, c).transpose(0, 2, 1, 3, 4).reshape(y.n_in * s[0], x.n_in * s[1], c)
    run("depth_to_space", Move(c * s[0] * s[1], c, 0, *s, 0, None), y, x, data, parts[rows][:, cols])


@pytest.mark.skipif(SANITIZED in os.environ, reason="this is the sanitized run")
def test_under_sanitizers():
    """The tests above once more with address and undefined-behaviour sanitizers in the kernels."""
    run_sanitized(__file__, "equals_numpy or in_place or residual or over_the_input or pools or moves")


def test_loops_fit_the_flash_accelerator(tmp_path):
    """The F412's holds 1 kB of code: no branch of a kernel goes farther back, in the code as compiled for the board."""
    flags = [*toolchain.WARNINGS, *toolchain.core_flags("cortex-m4"), f"-I{KERNELS}", "-c"]
    assert "-DMCU_DUAL_ISSUE" in toolchain.core_flags("cortex-m7") and "-DMCU_DUAL_ISSUE" not in flags
    sources = [str(KERNELS / f"mcu_{name}.c") for name in ("conv", "conv_raw", "dw", "dw_dsp", "eltwise")]
    subprocess.run([toolchain.tool("arm-none-eabi-gcc"), *flags, *sources], check=True, cwd=tmp_path)
    objects = sorted(map(str, tmp_path.glob("*.o")))
    command = [toolchain.tool("arm-none-eabi-objdump"), "-d", "--no-show-raw-insn", *objects]
    code = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    branches = re.findall(r"^ +(\w+):\tb(?!l|x)[\w.]+\t(\w+) <([^+>]+)", code, re.MULTILINE)
    loops = {name: 0 for *_, name in branches}
    for branch, target, name in branches:
        loops[name] = max(loops[name], int(branch, 16) + 4 - int(target, 16))
    assert min(loops[name] for name in ("four_plain", "four_any", "strip3_s1", "strip_wide", "mcu_add")) > 100
    assert max(loops.values()) <= 1024, loops


def test_each_core_has_a_machine_of_its_own():
    """But the M0+, which the M3 stands for: an M4 runs most code for an M33, and would not tell."""
    assert len({*MACHINES.values()}) == len(MACHINES) - 1 and MACHINES["cortex-m0plus"] == MACHINES["cortex-m3"]


@pytest.mark.parametrize("core", [core for core in MACHINES if core not in ("cortex-m0plus", "cortex-m3")])
def test_dsp_equals_plain(core, tmp_path):
    """800 random layers on each emulated core: the DSP versions write the same bytes as the plain ones."""
    compiler, elf = toolchain.tool("arm-none-eabi-gcc"), tmp_path / "kernels.elf"
    flags = [*toolchain.WARNINGS, *toolchain.core_flags(core), f"-I{KERNELS}", f"-I{RUNTIME}"]
    sources = [
        KERNELS / f"mcu_{name}.c"
        for name in (
            "conv",
            "conv_raw",
            "conv_rows",
            "conv_twice",
            "conv_twice_rows",
            "dw",
            "dw_dsp",
            "dw_mve",
            "dw_twice",
            "dw_dsp_twice",
            "dw_mve_twice",
            "eltwise",
        )
    ]
    names = (
        "conv_pw",
        "conv_dense",
        "conv_pw_raw",
        "conv_pw_one",
        "conv_dense_raw",
        "conv_pw_rows",
        "conv_dense_rows",
        "conv_pw_twice",
        "conv_dense_twice",
        "conv_group_twice",
        "conv_dw_twice",
        "conv_pw_twice_rows",
        "conv_dense_twice_rows",
        "conv_dw",
        "conv_dw_fast",
        "conv_dw_twice_fast",
        "conv_group",
        "add",
        "mul",
        "act",
        "act_channels",
        "concat",
    )
    plain = ["-U__ARM_FEATURE_DSP", *(f"-Dmcu_{n}=plain_{n}" for n in names)]
    subprocess.run([compiler, *flags, *plain, "-c", *map(str, sources)], check=True, cwd=tmp_path)
    sizes = {"FLASH_BYTES": 2**20, "SRAM_BYTES": 2**20, "STACK_BYTES": 4096}
    flags += [*(f"-Wl,--defsym={n}={v}" for n, v in sizes.items()), *EMULATED[core].defines, *EMULATED[core].link]
    sources += [
        RUNTIME / "startup.c",
        RUNTIME / "mps2.c",
        Path(__file__).parent / "kernels_board.c",
    ]
    objects = list(tmp_path.glob("*.o"))
    subprocess.run([compiler, *flags, *map(str, sources + objects), "-o", str(elf)], check=True)
    done = emulator.run_qemu(elf, MACHINES[core], timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[0] == {"cases": 800, "wrong": 0}
    assert lines[-1] == {"done": True}
    counted = {line["shape"]: line["per_1000_macs"] for line in lines[1:-1]}
    assert counted["dw 7x7 x240, 5x5"] < 1500 and counted["dw 3x3 x240, 3x3"] < 4500  # padding is no work: 1,750, 6,000
