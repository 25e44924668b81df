"""Published .tflite files, in C on the host and on a board, equal LiteRT's reference kernels in every value; and files
with their channels first."""

import numpy as np
import pytest
from test_tflite import assert_board_equal, assert_c_equal, assert_numpy_equal, pictures
from tflite_files import Layers, Reference

from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.tflite import load_tflite
from nni_mcunet.engine.lower import reference


@pytest.mark.parametrize(
    "file, schedule",
    [("tflite/kws_ref_model", Schedule((2, 2), 2)), ("tflite/vww_96_int8", Schedule((3, 3), 5)),
     pytest.param("mcunet-in3/int8", Schedule((3, 3), 5), marks=pytest.mark.slow)],
)  # fmt: skip
def test_published_files_equal_litert(shared, tmp_path, file, schedule):
    path = shared / "models" / f"{file}.tflite"
    model, run = load_tflite(path), Reference(path.read_bytes())
    assert_numpy_equal(run, model, Schedule(), 1)
    assert_c_equal(run, model, tmp_path / "patched", schedule, 100)


@pytest.mark.slow
@pytest.mark.parametrize("file, n", [("tflite/kws_ref_model", 2), ("tflite/vww_96_int8", 5), ("mcunet-in3/int8", 5)])
def test_a_board_equals_litert_on_100_inputs(shared, tmp_path, file, n):
    path = shared / "models" / f"{file}.tflite"
    for name, schedule in {"whole": Schedule(), "patched": Schedule((2, 2), n)}.items():
        assert_board_equal(Reference(path.read_bytes()), load_tflite(path), tmp_path / name, schedule, 100)


def test_operators_that_only_new_files_number(tmp_path):
    """ai-edge-quantizer leaves the number of old files at 0, which is ADD's."""
    n = Layers(np.random.default_rng(0))
    image = n.map((1, 6, 5, 3), 1 / 255, -128)
    x = n.new("MUL", image, image, fusedActivationFunction=0)
    n.model.operatorCodes[-1].deprecatedBuiltinCode = 0
    path = tmp_path / "net.tflite"
    path.write_bytes(n.write([image.index], [n.conv(x, 4).index]))
    model = load_tflite(path)
    assert [op.kind for op in model.graph.ops] == ["mul", "conv"]
    assert_numpy_equal(Reference(path.read_bytes()), model, Schedule(), 2)


def channels_first(rng) -> bytes:
    """A network that reads and writes NCHW, as ai-edge-torch makes it."""
    n = Layers(rng)
    image = n.map((1, 3, 8, 10), 1 / 255, -128)
    x = n.same("TRANSPOSE", image, (1, 8, 10, 3), n.constant([0, 2, 3, 1]))
    x = n.conv(n.conv(x, 6, (3, 3), (2, 2), act=1), 5)
    return n.write([image.index], [n.same("TRANSPOSE", x, (1, 5, 4, 5), n.constant([0, 3, 1, 2])).index])


def test_channels_first_equal_litert(tmp_path):
    """The engine counts rows, columns and channels of the same picture and the same output."""
    path = tmp_path / "net.tflite"
    path.write_bytes(channels_first(np.random.default_rng(0)))
    model, run = load_tflite(path), Reference(path.read_bytes())
    image = model.graph.inputs[0]
    assert (image.h, image.w, image.c) == (8, 10, 3)
    for picture in pictures(model, 3):
        q = (picture.astype(int) - 128).astype(np.int8)
        (found,) = reference.run(plan(model.graph), model, q).values()
        (want,) = run(q.transpose(2, 0, 1))
        assert np.array_equal(found.transpose(2, 0, 1), want[0])
