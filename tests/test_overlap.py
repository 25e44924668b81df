"""Where an output may lie over its input: stated in the planner, in mcu.h, and asserted in the generated C."""

import subprocess

import numpy as np
import pytest
from nets import random_model
from programs import KERNELS

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan import plan as planner
from nni_mcunet.core.plan.kernel_facts import CORTEX_M
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources


def refused(folder, text: str) -> str:
    """The words of gcc on a C file that it does not take; "" for one that it takes."""
    command = ["gcc", "-std=c11", "-fsyntax-only", "-I", str(KERNELS), "-I", str(folder), "-x", "c", "-"]
    run = subprocess.run(command, input=text, capture_output=True, text=True)
    return run.stderr if run.returncode else ""


def window(rng):
    """A graph of one window, upsampling, padding or 1x1 convolution."""
    image = Tensor("image", *(int(v) for v in rng.integers(3, 14, 2)), int(rng.integers(1, 9)))
    kind, (k, s) = rng.choice(["conv", "maxpool", "upsample", "pad", "pw"]), (int(v) for v in rng.integers(1, 4, 2))
    pad = tuple(int(v) for v in rng.integers(0, k + 1, 4))
    if kind == "pw":
        return image, Op("y", "conv", ("image",), int(rng.integers(1, 12)))
    if kind == "upsample":
        return image, Op("y", "upsample", ("image",), image.c, s=(s, s))
    if kind == "pad":
        return image, Op("y", "pad", ("image",), image.c, pad=pad)
    cout = image.c if kind == "maxpool" else int(rng.integers(1, 12))
    return image, Op("y", str(kind), ("image",), cout, (k, k), (s, s), tuple(min(v, k - 1) for v in pad))


def test_the_header_says_what_the_planner_says(tmp_path):
    rng, lines = np.random.default_rng(0), ['#include "mcu.h"']
    for _ in range(400):
        image, op = window(rng)
        graph = Graph("one", (image,), (op,), ("y",))
        if image.h + op.pad[0] + op.pad[2] < op.k[0] or image.w + op.pad[1] + op.pad[3] < op.k[1]:
            continue
        y = graph.verify().tensors["y"]
        lead, lag = CORTEX_M.shift(graph, op, y.h, y.w)
        if op.is_pointwise:
            lines.append(f'_Static_assert(MCU_BEFORE_PW({y.c}, {image.c}, {y.h * y.w}) == {lead}, "");')
            lines.append(f'_Static_assert(MCU_BEFORE_PW({image.c}, {y.c}, {y.h * y.w}) == {lag}, "");')
        elif op.kind == "upsample":
            macro = f"MCU_BEFORE_UPSAMPLE({y.h}, {image.w * image.c}, {y.w * y.c}, {op.s[0]})"
            lines.append(f'_Static_assert({macro} == {lead}, "");')
        else:
            macro = f"MCU_BEFORE({y.h}, {image.w * image.c}, {y.w * y.c}, {op.s[0]}, {op.pad[0]})"
            lines.append(f'_Static_assert({macro} == {lead}, "");')
    assert len(lines) > 300 and refused(tmp_path, "\n".join(lines)) == ""


@pytest.mark.parametrize("op", [Op("y", "conv", ("x",), 8), Op("y", "conv", ("x",), 6, (3, 3), pad=(1, 1, 1, 1))])
def test_c_that_writes_too_early_does_not_compile(op, tmp_path, monkeypatch):
    """Each place of the output but those that the assertion allows is refused by the compiler."""
    graph = Graph("two", (Tensor("image", 6, 6, 3),), (Op("x", "conv", ("image",), 4), op), ("y",)).verify()
    model, found = random_model(np.random.default_rng(0), graph), plan(graph)
    monkeypatch.setattr(planner, "check", lambda *_: None)
    buffers = found.buffers
    x, y = found.home["x"], found.home["y"]
    life = next(life for life in buffers[y].lives if life.over == x)
    sizes = buffers[x].size, buffers[y].size
    edges = 300 - life.lead, 300 + life.lag, 300 - sizes[1], 300 + sizes[0]
    ends = set()
    for at in sorted({300, *(edge + step for edge in edges for step in (-4, 0, 4))}):
        moved = [b._replace(offset={x: 300, y: at}.get(i, 800)) for i, b in enumerate(buffers)]
        found.__dict__["_placed"] = tuple(moved), 1000
        before = 300 - at
        fine = before >= life.lead or -before >= life.lag or before >= sizes[1] or -before >= sizes[0]
        said = refused(tmp_path, _source(found, model, tmp_path))
        assert ("overlap of mcu_l1_y" in said) is not fine, (at, said)
        ends.add(fine)
    assert ends == {True, False}


def _source(found, model, folder) -> str:
    write_sources(found, model, folder)
    return (folder / "mcu_model.c").read_text()
