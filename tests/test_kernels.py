"""The C kernels: against plain numpy on random layers (also under sanitizers), DSP versions against plain ones in QEMU,
and the integer detector against its numpy twin and a float one."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nni_mcunet.core.errors import UserError
from nni_mcunet.engine import detect, firmware

KERNELS = Path(firmware.__file__).parent / "kernels"
SANITIZED = "MCU_SANITIZED"  # set in the subprocess that repeats these tests under sanitizers
I16, I32, U8, I8 = ctypes.c_int16, ctypes.c_int32, ctypes.c_uint8, ctypes.c_int8


class Axis(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("n_in", "first", "n_out", "n_dst", "dst", "n_res", "res")]


class Conv(ctypes.Structure):
    _fields_ = [
        *((n, I16) for n in ("cin", "cout")), *((n, U8) for n in ("kh", "kw", "sh", "sw")),
        *((n, I8) for n in ("zp_in", "zp_out", "lo", "hi", "res_zp")), ("res_bits", U8), ("res_mult", I32),
        *((n, ctypes.c_void_p) for n in ("weights", "bias", "mult", "left", "right")),
    ]  # fmt: skip


class Pool(ctypes.Structure):
    _fields_ = [
        ("c", I16), *((n, U8) for n in ("kh", "kw", "sh", "sw")),
        *((n, I8) for n in ("zp_in", "zp_out", "lo", "hi")), ("mult", I32), ("left", U8), ("right", U8),
    ]  # fmt: skip


def at(array):
    return None if array is None else array.ctypes.data


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    flags = firmware.SANITIZERS if SANITIZED in os.environ else ["-O2"]
    command = ["gcc", *firmware.WARNINGS, *flags, "-shared", "-fPIC", *map(str, KERNELS.glob("*.c")), "-o", str(path)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


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
    cin = int(rng.integers(1, 24))
    cout = cin if kind == "dw" else int(rng.integers(1, 24))
    taps = k[0] * k[1] * (1 if kind == "dw" else cin)
    arrays = {
        "weights": int8(rng, cout, *k, 1 if kind == "dw" else cin),
        "bias": rng.integers(-(2**14), 2**14, cout).astype(np.int32),
        "mult": rng.integers(2**30, 2**31, cout).astype(np.int32),
        "left": rng.integers(0, 4, cout).astype(np.uint8),
    }
    right = arrays["left"] + np.log2(taps * 4000 / 128) / 2  # most results inside -128..127
    arrays["right"] = np.maximum(right + rng.integers(0, 3, cout) + 3, 1).astype(np.uint8)
    lo, hi = sorted(rng.integers(-128, 128, 2).tolist()) if rng.random() < 0.3 else (-128, 127)
    zp = int8(rng, 3).tolist()
    op = Conv(cin, cout, *k, *s, zp[0], zp[1], lo, hi, zp[2], 0, 0, *(at(a) for a in arrays.values()))
    op.arrays = arrays
    return op


def with_residual(op, rng):
    op.res_bits, op.res_mult = int(rng.integers(1, 9)), int(rng.integers(1, 3 << 8))
    op.arrays["right"] = np.maximum(op.arrays["right"].astype(int) - op.res_bits, 1).astype(np.uint8)
    op.right = at(op.arrays["right"])


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


def expected(op, y, x, data, res, out, depthwise):
    """The whole destination buffer after the kernel has run."""
    taps = windows(data, y, x, (op.kh, op.kw), (op.sh, op.sw), op.zp_in)
    weights = op.arrays["weights"].astype(np.int64)
    acc = np.einsum(
        "ijrqc,crq->ijc" if depthwise else "ijrqc,orqc->ijo", taps, weights[..., 0] if depthwise else weights
    )
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
    cols = (x.n_out - 1) * op.sw + op.kw
    size = {"pw": 0, "dense": op.kh * op.kw * op.cin, "dw": op.kh * cols + 3}[kind]
    scratch = np.empty(size, np.int8)
    getattr(lib, f"mcu_conv_{kind}")(
        ctypes.byref(op), ctypes.byref(y), ctypes.byref(x), *(ctypes.c_void_p(at(a)) for a in (data, res, out, scratch))
    )


@pytest.mark.parametrize("kind", ["pw", "dense", "dw"])
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
    want = expected(op, y, x, data, res, out, kind == "dw")
    call(lib, kind, op, y, x, data, res, out)
    assert (out == want).all()


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
    want = expected(op, y, x, data, None, np.empty((y.n_out, x.n_out, op.cin), np.int8), True)
    buffer = np.concatenate([data.ravel(), np.zeros(max(0, want.size - data.size), np.int8)])
    call(lib, "dw", op, y, x, buffer, None, buffer)
    assert (buffer[: want.size] == want.ravel()).all()


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
    want = expected(op, y, x, data, res, np.empty((y.n_out, x.n_out, op.cout), np.int8), False)
    call(lib, "pw", op, y, x, data, res, res)
    assert (res.ravel()[: want.size] == want.ravel()).all()


@pytest.mark.parametrize("seed", range(10))
def test_pools(lib, seed):
    rng = np.random.default_rng(seed)
    k, s, c = tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist()), int(rng.integers(1, 20))
    y, x = (random_axis(rng, k[i], s[i], True) for i in range(2))
    op = Pool(c, *k, *s, *int8(rng, 2).tolist(), -128, 127, int(rng.integers(2**30, 2**31)), 1, int(rng.integers(1, 6)))
    data, out = int8(rng, y.n_in, x.n_in, c), int8(rng, y.n_dst, x.n_dst, c)

    def run(name, y, x):
        got = out.copy()
        getattr(lib, f"mcu_{name}")(*map(ctypes.byref, (op, y, x)), *(ctypes.c_void_p(at(a)) for a in (data, got)))
        return got[y.dst : y.dst + y.n_out, x.dst : x.dst + x.n_out]

    assert (run("maxpool", y, x) == windows(data, y, x, k, s, op.zp_in).max((2, 3))).all()
    y.n_out = x.n_out = 1
    total = data.sum((0, 1), dtype=np.int64) - op.zp_in * y.n_in * x.n_in
    mean = requant(total, *(np.full(c, v) for v in (op.mult, op.left, op.right)))
    assert (run("gap", y, x) == np.clip(mean + op.zp_out, -128, 127)).all()
    op.sh = op.sw = factor = int(rng.integers(1, 4))
    y.first, y.n_out = 0, min(y.n_dst - y.dst, y.n_in * factor)
    x.first, x.n_out = factor - 1, min(x.n_dst - x.dst, (x.n_in - 1) * factor + 1)
    rows, cols = (np.arange(a.n_out) + a.first for a in (y, x))
    assert (run("upsample", y, x) == data[rows // factor][:, cols // factor]).all()


def random_detector(rng, anchors_each=None):
    """(meta, outputs, maps) with a few dozen objects on up to three scales."""
    classes, scales = int(rng.integers(1, 21)), int(rng.integers(1, 4))
    strides = [8, 16, 32][:scales]
    anchors = [rng.uniform(6, 90, (anchors_each or int(rng.integers(1, 4)), 2)).round(1).tolist() for _ in strides]
    outputs = [
        {"scale": float(rng.uniform(0.03, 0.09)), "zero_point": int(rng.integers(20, 60)), "h": 128 // t, "w": 160 // t}
        for t in strides
    ]
    maps = []
    for a, o in zip(anchors, outputs, strict=True):
        real = rng.normal(-1, 1, (o["h"], o["w"], len(a), 5 + classes))
        real[..., 4:] = rng.normal(-4, 2, real[..., 4:].shape)
        q = np.clip(np.round(real / o["scale"]) + o["zero_point"], -128, 127).astype(np.int8)
        maps.append(q.reshape(o["h"], o["w"], -1))
    meta = {"type": "yolov3", "classes": [str(i) for i in range(classes)], "strides": strides, "anchors": anchors,
            "score_thr": 0.05, "conf_thr": 0.02, "nms_iou": 0.45, "max_per_img": 100}  # fmt: skip
    return meta, outputs, maps


class CMap(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("h", "w", "stride", "anchors", "least_object", "least_class")]
    _fields_ += [(n, ctypes.c_void_p) for n in ("sigmoid", "exp", "sizes")]


class CYolo(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("maps", "classes", "most", "candidates")]
    _fields_ += [("iou", I32), ("map", ctypes.c_void_p)]


@pytest.mark.parametrize("seed", range(20))
def test_yolo_equals_numpy(lib, seed):
    rng = np.random.default_rng(seed)
    meta, outputs, maps = random_detector(rng)
    params = detect.yolo_params(meta, outputs, int(rng.choice([7, 60, 1000])))
    cmaps = (CMap * len(maps))(*(
        CMap(m.h, m.w, m.stride, len(m.sizes), m.least_object, m.least_class, at(m.sigmoid), at(m.exp), at(m.sizes))
        for m in params.maps
    ))  # fmt: skip
    boxes = np.zeros(params.candidates, detect.BOX)
    op = CYolo(len(maps), params.classes, params.most, params.candidates, params.iou, ctypes.addressof(cmaps))
    pointers = (ctypes.c_void_p * len(maps))(*map(at, maps))
    count = lib.mcu_yolo_boxes(ctypes.byref(op), pointers, ctypes.c_void_p(at(boxes)), len(boxes))
    want = detect.decode(maps, params)
    assert len(want) > 0
    assert (boxes[:count] == want).all()


@pytest.mark.parametrize("seed", range(6))
def test_yolo_boxes_are_mmdets(seed):
    """What YOLOV3Head finds in the dequantised maps: the same boxes within 0.07 pixel, scores within 1/1000."""
    pytest.importorskip("detection")  # it makes mmdet importable where mmcv has no compiled operators
    meta, outputs, maps = random_detector(np.random.default_rng(seed), 3)
    meta.update(conf_thr=0.2, score_thr=0.2)
    want = mmdet_boxes(meta, outputs, maps)
    got = detect.decode(maps, detect.yolo_params(meta, outputs, candidates=1000))
    corners = np.stack([got[n] for n in ("x1", "y1", "x2", "y2")], 1) / 16
    assert len(want[0]) > 5
    for i, (box, score, label) in enumerate(zip(*want, strict=True)):
        near = (np.abs(corners - box).max(1) <= 0.07) & (got["label"] == label)
        last = i == 99  # of max_per_img: equal scores may trade places there
        assert last or (np.abs(got["score"][near] / 2**15 - score) < 1e-3).any()
    assert len(got) == len(want[0])


def mmdet_boxes(meta, outputs, maps):
    """(boxes (n, 4), scores, labels) that mmdet's head finds in the dequantised maps."""
    import torch
    from mmdet.models.dense_heads import YOLOV3Head
    from mmengine.config import ConfigDict

    n = len(maps)
    head = YOLOV3Head(
        len(meta["classes"]), [1] * n, [1] * n, featmap_strides=meta["strides"],
        anchor_generator=dict(type="YOLOAnchorGenerator", base_sizes=meta["anchors"], strides=meta["strides"]),
    )  # fmt: skip
    preds = [
        torch.from_numpy(((m.astype(np.float32) - o["zero_point"]) * np.float32(o["scale"])).transpose(2, 0, 1)[None])
        for m, o in zip(maps, outputs, strict=True)
    ]
    cfg = ConfigDict({k: meta[k] for k in ("score_thr", "conf_thr", "max_per_img")})
    cfg.update(nms_pre=1000, nms=dict(type="nms", iou_threshold=meta["nms_iou"]))
    found = head.predict_by_feat(preds, [{}], cfg)[0]
    return [found[k].detach().numpy() for k in ("bboxes", "scores", "labels")]


@pytest.mark.skipif(SANITIZED in os.environ, reason="this is the sanitized run")
def test_under_sanitizers():
    """The tests above once more with address and undefined-behaviour sanitizers in the kernels."""
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    env = {**os.environ, SANITIZED: "1", "LD_PRELOAD": asan.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    names = "equals_numpy or in_place or residual or pools"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", names]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("core", list(firmware.MACHINES))
def test_dsp_equals_plain(core, tmp_path):
    """300 random layers on each emulated core: the DSP versions write the same bytes as the plain ones."""
    compiler, elf = firmware.tool("arm-none-eabi-gcc"), tmp_path / "kernels.elf"
    flags = [*firmware.WARNINGS, *firmware.core_flags(core), f"-I{KERNELS}", f"-I{firmware.BOARDS}"]
    sources, names = [KERNELS / "mcu_conv.c", KERNELS / "mcu_dw.c"], ("pw", "dense", "dw")
    plain = ["-U__ARM_FEATURE_DSP", *(f"-Dmcu_conv_{n}=plain_conv_{n}" for n in names)]
    subprocess.run([compiler, *flags, *plain, "-c", *map(str, sources)], check=True, cwd=tmp_path)
    sizes = {"FLASH_BYTES": 2**20, "SRAM_BYTES": 2**20, "STACK_BYTES": 4096}
    flags += [f"-Wl,--defsym={n}={v}" for n, v in sizes.items()] + ["-T", str(firmware.BOARDS / "board.ld")]
    sources += [firmware.BOARDS / "startup.c", firmware.BOARDS / "mps2.c", Path(__file__).parent / "kernels_board.c"]
    objects = [tmp_path / "mcu_conv.o", tmp_path / "mcu_dw.o"]
    subprocess.run([compiler, *flags, *map(str, sources + objects), "-o", str(elf)], check=True)
    done = firmware.run_qemu(elf, firmware.MACHINES[core], timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[0] == {"cases": 300, "wrong": 0}
    assert lines[-1] == {"done": True}


def test_detector_refuses_wrong_data():
    meta, outputs, _ = random_detector(np.random.default_rng(0))
    for change in (
        {"nms": 1},
        {"type": "ssd"},
        {"max_per_img": 0},
        {"strides": [8] * 4},
        {"strides": [999] * len(outputs)},
    ):
        with pytest.raises(UserError, match="detector: "):
            detect.yolo_params({**meta, **change}, outputs)
