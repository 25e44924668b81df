"""Generated C equals the reference on random networks and schedules (prove.py), and a proof that can fail."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import LEAST, case, features
from prove import KERNELS, lacking, outcome, prove, summary

from nni_mcunet.core.plan import tiles
from nni_mcunet.engine.ops import OPERATORS


def failures(found):
    return [(said["case"], said["error"]) for said in found if said["outcome"] == "failed"]


def test_twelve_and_two_on_boards():
    assert not failures(prove(range(10), boards=False)) and not failures(prove([10, 11], boards=True))


@pytest.mark.slow
def test_three_hundred():
    found = list(prove(range(1300, 1600)))
    counts = summary(found)
    print(json.dumps(counts))
    assert not failures(found) and not lacking(counts)
    assert counts["boards"]["cortex-m4"]["cases"] == counts["boards"]["cortex-m7"]["cases"] == 100


def test_a_case_is_its_number():
    """And as many of them exercise each feature as the proof of a thousand asserts."""
    first, again = case(7), case(7)
    assert first.plan == again.plan and np.array_equal(first.picture, again.picture)
    counts = Counter(name for number in range(200) for name in features(case(number)))
    assert set(LEAST) <= set(counts) and not lacking(
        {"cases": 200, "features": counts, "boards": {}, "features on boards": {}}
    )


WRONG, OUTSIDE = "are not the reference's", "AddressSanitizer: use-after-poison"
BREAKS = {  # (file, what stands there) -> what breaks it, a word of the failure
    ("mcu_dw.c", "(y->dst + i) * x->n_dst + x->dst) * step + c;"): (
        "(y->dst + i) * x->n_dst + x->dst) * step + c + 1;",
        OUTSIDE,
    ),
    ("mcu_eltwise.c", "(sum >> o.bits)"): ("(sum >> (o.bits + 33))", "runtime error: shift exponent"),
    ("mcu_halo.c", "line - old, y->keep);"): ("line - old, y->keep - 1);", WRONG),
}


@pytest.mark.parametrize("file, sound", BREAKS)
def test_a_broken_kernel_is_found(file, sound, tmp_path):
    """One reads or writes a byte beyond its map, which lies well inside the arena."""
    kernels, (broken, word) = tmp_path / "kernels", BREAKS[file, sound]
    shutil.copytree(KERNELS, kernels)
    text = (kernels / file).read_text()
    assert sound in text
    (kernels / file).write_text(text.replace(sound, broken))
    assert word in str(failures(prove(range(24), False, kernels)))


@pytest.mark.slow
def test_a_broken_dsp_version_is_found(tmp_path):
    """It writes behind its output, which does no harm to these networks."""
    kernels = tmp_path / "kernels"
    shutil.copytree(KERNELS, kernels)
    text, sound = (
        (kernels / "mcu_pool.c").read_text(),
        "out[c + i] = mean(op, op->mean, sums[i]);\n",
    )
    assert sound in text
    (kernels / "mcu_pool.c").write_text(
        text.replace(sound, sound + "#if defined(__ARM_FEATURE_DSP)\nout[op->c] = 0;\n#endif\n")
    )
    assert '"outside": true' in str(failures(prove([3, 14, 25], True, kernels)))


def test_a_fault_of_the_plan_is_found(monkeypatch):
    """The reference and C follow it both."""
    sound = tiles.readings

    def blind(op, out, axis):
        return [(name, out if name == op.residual else need) for name, need in sound(op, out, axis)]

    monkeypatch.setattr(tiles, "readings", blind)
    said = [outcome(number, boards=False) for number in range(10, 120, 11)]
    assert "are not those of layer by layer" in str(failures(said))


def test_a_fault_of_the_integers_is_found(monkeypatch):
    """The reference and C compute with the same ones. Here a sum forgets its second zero point."""
    sound = OPERATORS["add"]

    def shifted(model, op):
        p = sound.integers(model, op)
        return replace(p, bias=p.bias + model.scales[op.inputs[1]].zero_point * p.mult_b)

    monkeypatch.setitem(OPERATORS, "add", sound._replace(integers=shifted))
    said = [outcome(number, boards=False) for number in range(10, 120, 11)]
    assert "steps from onnxruntime's" in str(failures(said))


def test_every_kernel_is_guarded():
    kernels = re.findall(r"^void (mcu_\w+)\(", (KERNELS / "mcu.h").read_text(), re.MULTILINE)
    guarded = re.findall(r"^#define (mcu_\w+)\(", (Path(__file__).parent / "guarded.h").read_text(), re.MULTILINE)
    assert sorted(kernels) == sorted(guarded) and len(kernels) > 12
