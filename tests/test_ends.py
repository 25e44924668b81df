"""Where a network ends: at the outputs that the user names, whatever format the file has."""

import numpy as np
import onnx
import pytest
from inprocess import command, refused
from onnx import helper
from test_onnx_import import assert_imported, constant, small
from tflite_nets import classifier, floats

import nni_mcunet as mcu
from nni_mcunet.core.errors import UserError
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.onnx.ends import ending_at

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)


def weight(name: str, cout: int, cin: int):
    return constant(name, RNG.normal(size=(cout, cin, 1, 1)).astype(np.float32))


def branches(*more) -> onnx.ModelProto:
    """Two convolutions in a row and one beside the second, then an operator that nobody knows."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a/1"], name="/stem/Conv"),
        helper.make_node("Relu", ["a/1"], ["b"], name="/stem/Relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="/left/Conv"),
        helper.make_node("Conv", ["b", "w3"], ["d"], name="/right/Conv"),
        helper.make_node("Sin", ["c"], ["y"], name="/left/Sin"),
        *more,
    ]
    return small(nodes, [weight("w1", 4, 3), weight("w2", 5, 4), weight("w3", 6, 4)])


@pytest.fixture
def file(tmp_path):
    onnx.save(branches(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("names", [["c", "d"], ["/left/Conv", "/right/Conv"], ["left_Conv", "right_Conv"]])
def test_by_the_name_of_a_tensor_or_a_node_or_ours(names, file):
    assert load_model(file, outputs=names).graph.outputs == ("left_Conv", "right_Conv")
    assert load_model(file, outputs=names[::-1]).graph.outputs == ("right_Conv", "left_Conv")


def test_what_stands_before_it_is_computed_as_before(file):
    cut = ending_at(onnx.load(file), "m", ["d", "b"])
    for value in cut.graph.output:
        value.type.CopyFrom(helper.make_tensor_type_proto(1, [1, None, 8, 8]))
    onnx.save(cut, file)
    model = assert_imported(file)
    assert len(model.graph.ops) == 2  # the stem with its Relu, and one convolution: no /left is left


def test_of_a_float_tensor_that_is_rounded_next_its_integers(tmp_path, file):
    proto = mcu.quantize(mcu.load(file, outputs=["d", "c"]), PHOTOS).save(tmp_path / "q.onnx")
    whole = load_model(proto)
    convs = [node for node in onnx.load(proto).graph.node if node.op_type == "Conv"]
    cut = load_model(proto, outputs=[convs[-1].output[0]])
    name = cut.graph.outputs[0]
    assert cut.scales[name] == whole.scales[name] and len(cut.graph.ops) < len(whole.graph.ops)


@pytest.mark.parametrize(
    "names, message",
    [
        (["/left/Con"], "has no layer or tensor '/left/Con' to end at; did you mean /left/Conv"),
        (["lef_Conv"], "did you mean /left/Conv"),
        (["zzzzzzzz"], "has no layer or tensor 'zzzzzzzz' to end at; its last are /left/Conv, /right/Conv, /left/Sin"),
        (["x"], "has no layer or tensor 'x'"),
        (["w1"], "has no layer or tensor 'w1'"),
        (["c", "/left/Conv"], "outputs 'c' and '/left/Conv' are one value"),
        ([], "no output is named"),
        (["d", "y"], "Sin at '/left/Sin': not known"),
    ],
)
def test_names_that_are_none(names, message, file):
    with pytest.raises(UserError, match=message):
        load_model(file, outputs=names)


def test_a_name_of_ours_that_two_nodes_have(tmp_path):
    onnx.save(branches(helper.make_node("Relu", ["d"], ["e"], name="left/Conv")), tmp_path / "m.onnx")
    with pytest.raises(UserError, match="output 'left_Conv' is one of /left/Conv, left/Conv; name it as the file does"):
        load_model(tmp_path / "m.onnx", outputs=["left_Conv"])


@pytest.mark.parametrize("made", [lambda: classifier(np.random.default_rng(3)), floats])
def test_of_a_tflite_file(made, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(made())
    whole = load_model(path)
    name = whole.graph.ops[1].name
    cut = load_model(path, outputs=[name])
    ops = cut.graph.ops  # a PRELU with a slope a channel is several: the last one gives its tensor
    assert cut.graph.outputs == (ops[-1].name,) and ops[-1].name.rstrip("_") == name
    assert ops == whole.graph.ops[: len(ops)]
    with pytest.raises(UserError, match="has no layer or tensor 'none' to end at"):
        load_model(path, outputs=["none"])


def test_a_detector_is_one_no_more_without_its_maps(tmp_path):
    proto = branches()
    proto.graph.node.pop()
    proto.graph.output[0].name = "c"
    helper.set_model_props(proto, {"mcunet": '{"detector": {"type": "yolov3"}, "view": "crop:0.5"}'})
    onnx.save(proto, tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx", outputs=["/left/Conv"]).meta.keys() == {"detector", "view"}
    assert load_model(tmp_path / "m.onnx", outputs=["/right/Conv"]).meta.keys() == {"view"}


def test_api(file):
    assert mcu.load(file, outputs=("c",)).graph.outputs == ("left_Conv",)
    for source in ("mobilenet_v2", mcu.load("mobilenet_v2"), "arch.json", "config.py"):
        with pytest.raises(mcu.UserError, match="outputs cuts a model's file"):
            mcu.load(source, outputs=["c"])
    for wrong in ("c", 3, [1]):
        with pytest.raises(mcu.UserError, match="expected a list of names"):
            mcu.load(file, outputs=wrong)


def test_commands(file, tmp_path, monkeypatch, capsys):
    """Each that reads a model's file ends the network where it is told."""
    np.save(tmp_path / "photos.npy", PHOTOS)

    def run(name: str, *words) -> str:
        found = command(monkeypatch, capsys, name, *map(str, words))
        assert found.code == 0, found
        return found.out

    ends = ("--outputs", "/left/Conv", "d")
    assert "left_Conv " in run("profile", file, *ends)
    run("quantize", file, *ends, "--calib", tmp_path / "photos.npy", "-o", tmp_path / "q.onnx")
    assert "right_Conv" not in run("inspect", tmp_path / "q.onnx", "--outputs", "/left/Conv")
    told = run(
        "inspect",
        tmp_path / "q.onnx",
        "--float",
        file,
        "--calib",
        tmp_path / "photos.npy",
        "--outputs",
        "/right/Conv",
        "/left/Conv",
    )
    assert "left_Conv" in told
    run("generate", tmp_path / "q.onnx", "--board", "stm32f412", "--outputs", "right_Conv", "-o", tmp_path / "fw")
    assert "left_Conv" not in (tmp_path / "fw/mcu_model.c").read_text()
    refused(command(monkeypatch, capsys, "profile", file, "--outputs", "e"), "has no layer or tensor 'e' to end at")
