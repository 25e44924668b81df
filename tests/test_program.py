"""The lowering as data: every step is a line of the C and a row of a report, and no tile leaves its room."""

import re

import pytest
from cases import case

from nni_mcunet.core.ir.graph import Op
from nni_mcunet.core.plan.kernel_facts import function_of
from nni_mcunet.core.plan.plan import Plan
from nni_mcunet.engine.codegen.sources import generated, model_files
from nni_mcunet.engine.lower.program import IMAGE, Call, Copy, Read, lower, row


def over(found: Plan, op: Op) -> bool:
    """Whether the plan lets the output of an op lie over its input (arena.check holds the distance)."""
    index = found.graph.ops.index(op)
    lives = found.buffers[found.home[op.name]].lives
    return any(life.start == index and life.over == found.home[op.inputs[0]] for life in lives)


@pytest.fixture(scope="module", params=range(12))
def lowered(request):
    found = case(request.param)
    return found, lower(found.plan, found.model)


def test_every_step_is_a_line_of_the_c(lowered):
    found, program = lowered
    steps = [step for loop in program.loops for step in loop.steps]
    files, sites = generated(found.plan, found.model, "cam")
    lines = files[model_files("cam")[1]].split("\n")
    assert [*sites.values()] == [row(step) for step in steps] and steps[0] == next(s for s in steps if row(s) == IMAGE)
    for line, step in zip(sites, steps, strict=True):
        copy = f"mcu_{step.kind}" if isinstance(step, Copy) else None
        name = "read" if isinstance(step, Read) else copy or function_of(found.plan.graph, step.op)
        assert re.search(rf"^ +(if \(.*\) )?{name}\(", lines[line - 1])
    end = lines.index("}", max(sites))  # of mcu_run; mcu_detect has calls of its own
    others = [text for number, text in enumerate(lines[:end], 1) if number not in sites]
    assert not any(re.search(r"^ +.*\b(mcu_(?!axis|edge)\w+|read)\(", text) for text in others)


def test_tiles_lie_in_the_arena_and_do_not_meet(lowered):
    """List what a call reads, writes and uses as scratch; an output lies on an input where the plan says so."""
    found, program = lowered
    tensors, homes = found.plan.graph.tensors, found.plan.home
    for loop in program.loops:
        for call in (step for step in loop.steps if isinstance(step, Call)):
            y, x = call.axes
            c, d = tensors[call.reads[0].tensor].c, call.op.cout
            parts = {call.reads[0].tensor: (call.source, max(a.n_in for a in y) * max(a.n_in for a in x) * c)}
            if call.second is not None:
                c = tensors[call.op.second].c
                parts[call.op.second] = (call.second, max(a.n_res for a in y) * max(a.n_res for a in x) * c)
            parts[call.op.name] = (call.target, max(a.n_dst for a in y) * max(a.n_dst for a in x) * d)
            if call.scratch:
                parts["scratch"] = call.scratch
            assert all(0 <= at <= at + size <= found.plan.arena for at, size in parts.values())
            for one, (at, size) in parts.items():
                for other, (begin, more) in parts.items():
                    shared = one == other or (one in homes and other in homes and homes[one] == homes[other])
                    shared |= {one, other} == {call.op.name, call.reads[0].tensor} and over(found.plan, call.op)
                    assert shared or at + size <= begin or begin + more <= at, (call.op.name, one, other)


def test_a_concat_writes_all_channels_once():
    seen = 0
    for found in map(case, range(1, 200, 11)):
        steps = [step for loop in lower(found.plan, found.model).loops for step in loop.steps]
        for op in (op for op in found.plan.graph.ops if op.kind == "concat"):
            parts = [step for step in steps if isinstance(step, Call) and step.op == op]
            assert [call.part for call in parts] == [*range(len(op.inputs))]
            ends = [call.channels.hi for call in parts]
            assert [call.channels.lo for call in parts] == [0, *ends[:-1]] and ends[-1] == op.cout
            seen += 1
    assert seen > 1
