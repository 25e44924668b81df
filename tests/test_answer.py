"""Answer in real numbers and names: of every output, on the command line and as JSON."""

from dataclasses import replace

import numpy as np
import pytest
from nets import block_graph, random_model

import nni_mcunet as mcu
from nni_mcunet.api.answer import answer
from nni_mcunet.api.networks import load
from nni_mcunet.core.ir.graph import Op
from nni_mcunet.engine.run.generated import OutputMap, input_shape, output_maps

LOGITS = OutputMap("logits", (1, 1, 6), 0.5, -3)
MAP = OutputMap("mask 2x2x2, real = 9 * (q - 9) */", (2, 2, 2), 0.25, 4)
ONE = OutputMap("how many", (1, 1, 1), 0.1, 0)
Q = np.array([5, -128, 5, 127, 0, 1], np.int8)
ODD = 'a "b" 3x3x3, real = 1 * (q - 1) */ \n\x1b??/ ü'
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


def test_a_classifier_s_classes_have_values_and_names():
    found = answer({}, {"outputs": [Q]}, [LOGITS], NAMES)
    assert found.top[:2] == [{"class": 3, "score": 127, "value": 65.0, "name": "dog"},
                             {"class": 0, "score": 5, "value": 4.0, "name": "ant"}]  # fmt: skip
    assert str(found).startswith("class 3 dog: logit 65 (int8 127)  class 0 ant: logit 4 (int8 5)  class 2")
    shares = replace(LOGITS, scale=1 / 256, zero_point=-128)
    assert str(answer({}, {"outputs": [Q]}, [shares], NAMES)).startswith("class 3 dog: 0.9961 (int8 127)")
    assert "name" not in answer({}, {"outputs": [Q]}, [LOGITS]).top[0]
    row = {"name": "logits", "shape": [1, 1, 6], "scale": 0.5, "zero_point": -3, "least": -62.5, "most": 65.0}
    assert found.to_dict()["outputs"] == [row] and found.to_dict()["top"] == found.top


def test_every_output_of_several_is_said():
    grid = np.arange(-4, 4, dtype=np.int8)
    found = answer({}, {"outputs": [Q, grid, np.array([-7], np.int8)]}, [LOGITS, MAP, ONE])
    first, second, third = str(found).splitlines()
    assert first.startswith("output 0 'logits' 1x1x6  class 3: 65 (int8 127)")
    assert second == f"output 1 {MAP.name!r} 2x2x2  -2 to -0.25 (int8 -4 to 3)"
    assert third == "output 2 'how many' 1x1x1  -0.7 (int8 -7)"
    assert found.top == [] and [row["most"] for row in found.to_dict()["outputs"]] == [65.0, -0.25, -0.7000000000000001]
    assert found.values[1].shape == (2, 2, 2) and found.values[1][1, 0, 1] == 0.25 * (grid[5] - 4)


def test_a_detector_says_its_boxes_only():
    said = {"outputs": [Q], "boxes": np.zeros(0), "names": []}
    assert str(answer({}, said, [LOGITS])) == "" and answer({}, said, [LOGITS]).top == []


def test_a_library_of_another_board_is_said():
    said = {"outputs": [Q]}
    there = answer({"board": "stm32h743", "made_for": "stm32f412"}, said, [LOGITS])
    assert str(there).startswith("generated for stm32f412, run on stm32h743: ")
    here = answer({"board": "stm32h743", "made_for": "stm32h743"}, said, [LOGITS])
    assert str(here).startswith("class 3")


@pytest.fixture(scope="module")
def two_outputs(tmp_path_factory):
    """C of a network with a map and a vector of 5 as outputs, and its model."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("answer")
    graph = block_graph(rng, (12, 12), 2)
    last = Op("fc", "conv", (graph.outputs[0],), 5, block=graph.ops[-1].block + 1)
    mean = Op("pool", "gap", (last.name,), 5, block=last.block)
    first = replace(graph.ops[0], name=ODD)
    others = [replace(op, inputs=tuple(ODD if n == graph.ops[0].name else n for n in op.inputs),
                      residual=ODD if op.residual == graph.ops[0].name else op.residual)
              for op in graph.ops[1:]]  # fmt: skip
    graph = replace(graph, ops=(first, *others, last, mean), outputs=(first.name, "pool")).verify()
    model = random_model(rng, graph)
    return mcu.compile(load(model), "stm32f412", folder / "fw", keep_dead_channels=True), model


def test_generated_c_in_real_numbers(two_outputs):
    """The scales of the header, which mcunet run reads back, are the model's."""
    firmware, model = two_outputs
    picture = np.random.default_rng(1).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    found = firmware.run(picture)
    for name, q, real, m in zip(model.graph.outputs, found.outputs, found.values, found.maps, strict=True):
        scale = model.scales[name]
        assert (m.name, m.zero_point) == (name, scale.zero_point) and m.scale == pytest.approx(scale.scale, rel=1e-8)
        assert np.allclose(real.reshape(-1), scale.scale * (q.astype(float) - scale.zero_point), rtol=1e-6)
    with pytest.raises(mcu.UserError, match="classes names classes, and this model is no classifier of one output"):
        firmware.run(picture, classes=["a"])


def test_names_that_do_not_fit(tmp_path):
    from nni_mcunet.api.answer import class_names

    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8-sig")
    assert class_names(tmp_path / "names.txt", [LOGITS]) == NAMES == class_names(tuple(NAMES), [LOGITS])
    assert class_names(None, [MAP, ONE]) is None
    with pytest.raises(mcu.UserError, match="classes names 2 classes, and the output 'logits' has 6"):
        class_names(["a", "b"], [LOGITS])
    with pytest.raises(mcu.UserError, match=r"classes is \[3\]: expected a list of names, or a text file"):
        class_names([3], [LOGITS])


def test_a_header_without_scales_is_refused(two_outputs, tmp_path):
    text = (two_outputs[0].folder / "mcu_model.h").read_text()
    first = output_maps(two_outputs[0].folder)[0]
    damages = (("real = ", ""), (f"{first.scale:.9g}", "..e-"), ('0: "', '0: "\\x'), ("_OUTPUTS 2", "_OUTPUTS 3"))
    for old, new in damages:
        assert old in text
        (tmp_path / "mcu_model.h").write_text(text.replace(old, new))
        with pytest.raises(mcu.UserError, match=r"mcu_model\.h does not say the outputs' scales: run mcunet generate"):
            output_maps(tmp_path)
    (tmp_path / "mcu_model.h").write_text(text.replace("_INPUT_H 12", "_INPUT_H 99999999"))
    with pytest.raises(mcu.UserError, match=r"mcu_model\.h is damaged, its input is \(99999999, 12, 3\)"):
        input_shape(tmp_path)
    with pytest.raises(mcu.UserError, match="the header's outputs are not those that the C gives"):
        answer({}, {"outputs": [Q]}, [MAP])
