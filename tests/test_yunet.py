"""A detector of other people, from its float ONNX file to C: YuNet (Wu et al. 2023), trained on WIDER FACE."""

import numpy as np
import onnx
import pytest
from programs import run_host
from test_onnx_import import counted_our_way
from theirs import run

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.plan.plan import best_schedule, plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.fuse import of_pixels
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.run.pictures import load_picture

SIDE = 320


def pictures(shared, part: str, count: int) -> list[np.ndarray]:
    found = sorted((shared / f"data/widerface_mini/WIDER_{part}").rglob("*.jpg"))
    return [load_picture(path, (SIDE, SIDE)) for path in found[:: len(found) // count][:count]]


@pytest.fixture(scope="module")
def yunet(shared):
    """(file, float model on RGB / 255, int8 model)"""
    path = shared / f"models/yunet/yunet_n_{SIDE}_{SIDE}.onnx"
    model = of_pixels(load_onnx(path), mean=(0, 0, 0), std=(1, 1, 1), bgr=True)
    return path, model, calibrated(model, pictures(shared, "train", 60))


def test_import(shared, yunet):
    path, model, _ = yunet
    assert model.graph.macs == 135_598_400
    kinds = [op.kind for op in model.graph.ops]
    assert {k: kinds.count(k) for k in set(kinds)} == {"conv": 59, "maxpool": 4, "act": 6, "upsample": 2, "add": 2}
    (picture,) = pictures(shared, "val", 1)
    for name in ("yunet_n_320_320", "yunet_s_320_320", "yunet_n_dynamic"):
        path = shared / f"models/yunet/{name}.onnx"
        graph = load_onnx(path, (SIDE, SIDE) if "dynamic" in name else None).graph
        theirs = run(onnx.load(path), bgr(picture))
        assert [graph.tensors[n].size for n in graph.outputs] == [value.size for value in theirs]


def bgr(picture) -> np.ndarray:
    return np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)[None], np.float32)


def test_int8_is_close_to_onnxruntimes_float(shared, yunet):
    """dB of each map on faces that had no part in the calibration."""
    path, _, model = yunet
    proto, whole = onnx.load(path), plan(model.graph)
    signal, noise = np.zeros(12), np.zeros(12)
    for picture in pictures(shared, "val", 4):
        found = reference.run(whole, model, (picture.astype(np.int16) - 128).astype(np.int8))
        for i, (name, value) in enumerate(zip(model.graph.outputs, run(proto, bgr(picture)), strict=True)):
            real, ours = counted_our_way(value), model.scales[name].dequantize(found[name]).ravel()
            signal[i] += (real**2).sum()
            noise[i] += ((real - ours) ** 2).sum()
    names = [output.name for output in proto.graph.output]
    decibels = dict(zip(names, 10 * np.log10(signal / noise), strict=True))
    assert not {name: value for name, value in decibels.items() if value < 20}


def test_it_fits_the_f412_in_patches_and_computes_the_same(shared, yunet, tmp_path):
    """403 kB layer by layer."""
    _, _, model = yunet
    whole, patched = plan(model.graph), best_schedule(model.graph, get_board("f412"))
    assert whole.arena >= 403 * 1024 and patched.arena <= get_board("f412").arena_limit
    (picture,) = pictures(shared, "val", 1)
    found = reference.run(whole, model, (picture.astype(np.int16) - 128).astype(np.int8))
    for i, schedule in enumerate((whole, patched)):
        report = run_host(write_sources(schedule, model, tmp_path / str(i)), picture)
        for name, value in zip(model.graph.outputs, report["outputs"], strict=True):
            assert np.array_equal(found[name].ravel(), value), name
