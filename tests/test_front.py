"""The front of memory against computation: what it holds, which of it fits a board, where its knee is."""

from dataclasses import replace
from itertools import pairwise

import pytest
from conftest import ROOT

import nni_mcunet as mcu
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible, UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.board_plan import front_for_board, knee, plan_for_board
from nni_mcunet.core.plan.latency import instructions
from nni_mcunet.core.plan.plan import plan


def test_the_knee_is_a_sane_exchange():
    """The smallest arena of mcunet-in1 costs a larger share of the time than it saves of the memory."""
    front = front_for_board(build_graph(ArchSpec.load(ROOT / "configs/arch/mcunet_in1.json")).folded(), segments=2)
    assert [p.arena for p in front] == sorted({p.arena for p in front}, reverse=True)
    assert all(a.macs < b.macs for a, b in pairwise(front))
    found = knee(front)
    assert all(p.arena * instructions(p) >= found.arena * instructions(found) for p in front)
    assert found.arena < 0.4 * plan(found.graph).arena and found.macs < front[-1].macs


def test_what_fits_a_board():
    graph = build_graph(ArchSpec.load(ROOT / "configs/arch/mcunet_in1.json")).folded()
    few = {"p_choices": [(1, 3), (3, 3), (6, 6)], "segments": 3}
    every, board = front_for_board(graph, **few), replace(get_board("H743"), flash=1 << 30)
    middle = every[len(every) // 2].arena
    assert front_for_board(graph, board.with_arena(middle), **few) == every[len(every) // 2 :]
    with pytest.raises(Infeasible) as error:
        front_for_board(graph, board.with_arena(every[-1].arena - 1), **few)
    assert error.value.needed == every[-1].arena
    least = plan_for_board(graph, board, objective="sram", **few)
    assert (least.arena, least.macs) == (every[-1].arena, every[-1].macs)


def test_mistakes():
    for wrong, words in (
        ({"halo": "full"}, "expected one of clip, cache, narrow"),
        ({"segments": 0}, "0 patched segments"),
        ({"max_p": 0}, "expected 1 or more"),
        ({"board": "F412", "arena_kb": 2}, "bytes of sram"),
    ):
        with pytest.raises(UserError, match=words):
            mcu.front("mcunet_in0", **{"max_p": 2, **wrong})
