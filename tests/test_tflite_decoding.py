"""A .tflite file that decodes boxes or chooses classes ends at its last maps and says so; others stay refused."""

import warnings

import numpy as np
import pytest
from tflite_files import Layers, Reference

from nni_mcunet.core.errors import CutWarning, UnsupportedOp
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.lower import reference


def written(tmp_path, n: Layers, *outputs: int):
    path = tmp_path / "net.tflite"
    path.write_bytes(n.write([0], outputs))
    return path


def name(n: Layers, x) -> str:
    return n.graph.tensors[x.index].name


def rows(n: Layers, x, values: int):
    """A head on a map, as rows of positions."""
    _, h, w, _ = x.shape
    head = n.conv(x, 2 * values, (3, 3))
    return head, n.same("RESHAPE", head, (1, h * w * 2, values), n.constant([1, -1, values]))


@pytest.fixture
def heads():
    """The layers of two maps with a head each, in one scale."""
    n = Layers(np.random.default_rng(0))
    fine = n.conv(n.map((1, 8, 8, 3), 1 / 255, -128), 4, (3, 3), (2, 2), act=1)
    coarse = n.conv(fine, 4, (3, 3), (2, 2), act=1)
    first, a = rows(n, fine, 3)
    second, b = rows(n, coarse, 3)
    same = n.new("QUANTIZE", b, scale=a.scale, zero=a.zero)
    joined = n.same("CONCATENATION", a, (1, 40, 3), same.index, axis=1, fusedActivationFunction=0)
    return n, first, second, joined


def test_joined_positions_end_at_the_maps(heads, tmp_path):
    n, first, second, joined = heads
    y = n.new("LOGISTIC", joined, scale=1 / 256, zero=-128)
    path = written(tmp_path, n, y.index)
    with pytest.warns(
        CutWarning,
        match=f"ends at the maps {name(n, first)}, {name(n, second)}: operator 7, CONCATENATION at '{name(n, joined)}' "
        "and what follows arrange positions in rows and have no",
    ):
        model = load_model(path)
    q = np.random.default_rng(1).integers(-128, 128, (8, 8, 3)).astype(np.int8)
    (run := Reference(path.read_bytes()))(q)
    ours = reference.run(plan(model.graph), model, q)
    for output, map_ in zip(model.graph.outputs, (first, second), strict=True):
        assert np.array_equal(ours[output], run.tensor(map_.index)[0])


def test_a_post_processing_of_boxes(heads, tmp_path):
    n, first, second, joined = heads
    found = n.tensor("boxes", (1, 10, 4), "float32")
    n.op("CUSTOM", [joined.index], [found])
    n.model.operatorCodes[-1].customCode = b"TFLite_Detection_PostProcess"
    with pytest.warns(CutWarning, match="what follows decode boxes .* --outputs NAME ... ends it elsewhere"):
        assert load_model(written(tmp_path, n, found)).graph.outputs == (name(n, first), name(n, second))


@pytest.mark.parametrize("kind", ["ARG_MAX", "TOPK_V2", "LOG_SOFTMAX"])
def test_the_name_of_a_class_is_left_to_the_program(tmp_path, kind):
    n = Layers(np.random.default_rng(0))
    x = n.connected(n.conv(n.map((1, 8, 8, 3), 1 / 255, -128), 4, (3, 3)), 5)
    x = n.new("SOFTMAX", x, scale=1 / 256, zero=-128, beta=1.0)
    y = n.tensor("class", (1,), "int32")
    n.op(kind, [x.index, n.constant([1])], [y])
    path = written(tmp_path, n, y)
    words = f"ends at the maps {name(n, x)}: operator 3, {kind} at 'class' and what follows score or choose"
    with pytest.warns(CutWarning, match=words):
        assert load_model(path).graph.ops[-1].kind == "softmax"


def test_what_is_no_decoding_stays_refused(heads, tmp_path):
    n, first, second, joined = heads
    y = n.connected(joined, 4)  # weights behind the joined positions
    path = written(tmp_path, n, y.index)
    with warnings.catch_warnings(), pytest.raises(UnsupportedOp, match="joins maps along another axis"):
        warnings.simplefilter("error")
        load_model(path)
    with pytest.raises(UnsupportedOp, match="joins maps along another axis"):
        load_model(path, outputs=[name(n, joined)])
    maps = name(n, second), name(n, first)
    assert load_model(path, outputs=maps).graph.outputs == maps
