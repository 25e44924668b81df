"""Hold a search's words on patches against every network, planned one by one."""

from dataclasses import replace
from itertools import product

import pytest
from inprocess import command
from test_report import DEMO, history
from test_search_page import results

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Fit, Limits
from nni_mcunet.search.run.history import best_of
from nni_mcunet.search.run.page import facts
from nni_mcunet.search.run.patch_gain import patch_gain, rows, sentence

__all__ = ["history", "results"]  # fixtures
KB = 1024


def limits(kb):
    return Limits(get_board("f412").with_arena(kb * KB))


def layer_by_layer(candidate):
    return plan(build_graph(DEMO.spec(candidate)))


@pytest.mark.parametrize("kb", [80, 48])
def test_the_gain_is_what_planning_each_network_says(history, kb):
    best, gain = best_of(history), patch_gain(DEMO, limits(kb), history)
    assert best["n"] and gain.best is best
    whole = layer_by_layer(best["candidate"])
    assert (gain.whole.arena, gain.whole.macs) == (whole.arena, whole.macs)
    assert gain.macs_paid == best["macs"] / whole.macs - 1 > 0
    assert gain.obstacle.what == "sram" and gain.obstacle.needed == whole.arena > kb * KB

    fitting = [p for p in history if p["score"] is not None and layer_by_layer(p["candidate"]).arena <= kb * KB]
    if fitting:
        first = max(fitting, key=lambda p: (p["score"], -p["index"]))
        assert gain.judged.line is first and gain.judged.fit.arena == layer_by_layer(first["candidate"]).arena
    else:
        assert gain.judged is None
    assert bool(fitting) == (kb == 80)

    made = []
    for r, less in product(DEMO.genes["r"], range(9)):
        if r <= best["candidate"]["r"]:
            own = best["candidate"]
            widths = {g: c[max(0, c.index(own[g]) - less)] for g, c in DEMO.genes.items() if g.endswith("_w")}
            made.append(layer_by_layer(own | widths | {"r": r}))
    most = max((found.macs for found in made if found.arena <= kb * KB), default=None)
    assert (gain.scaled and gain.scaled.fit.macs) == most
    assert gain.scaled is None or gain.scaled.fit.arena <= kb * KB


def test_the_table_and_the_sentence_have_the_numbers(history):
    gain = patch_gain(DEMO, limits(80), history)
    table = rows(DEMO, gain)
    assert len(table) == 4 and [row[0].split(",")[0] for row in table[:2]] == ["the best", "the same"]
    assert table[1][3] == f"{gain.whole.arena / KB:.1f}" and table[0][3] == f"{gain.best['sram'] / KB:.1f}"
    assert table[2][1] == f"{gain.judged.line['score']:.4f}" and table[3][1] == "not judged"
    said = sentence(gain)
    assert f"{gain.whole.arena:,} bytes of sram needed" in said and f"{gain.macs_paid:.1%} more MACs" in said
    assert f"scores {gain.best['score'] - gain.judged.line['score']:.4f} less" in said
    assert "No network that was judged fits" in sentence(gain._replace(judged=None))
    assert "would fit layer by layer, too" in sentence(gain._replace(obstacle=None))


def test_a_winner_without_patches_has_gained_nothing(history):
    plain = [line | {"n": 0, "p": [1, 1]} for line in history]
    assert patch_gain(DEMO, limits(48), plain) is None and "gained nothing" in sentence(None)


def test_the_other_limits_hold_without_patches_too(history):
    """A network that fits in SRAM layer by layer but not in MACs or flash is none that fits."""
    few = replace(limits(48), max_macs=min(p["macs"] for p in history) // 2)
    gain = patch_gain(DEMO, few, history)
    assert gain.judged is None and gain.obstacle.what == "macs"
    assert gain.scaled is None or isinstance(few.check(DEMO.spec(gain.scaled.candidate)), Fit)


def test_the_report_and_the_page_say_it(results, monkeypatch, capsys, history):
    done = command(monkeypatch, capsys, "search", "report", "--out", results)
    assert done.code == 0 and "report.md" in done.out, done.err
    text = (results / "report.md").read_text()
    gain = patch_gain(DEMO, limits(48), history)
    assert (
        sentence(gain) in text
        and text.count("\n|") == 2 + len(rows(DEMO, gain))
        and "![the winner](winner.png)" in text
    )
    for row in rows(DEMO, gain):
        assert f"| {' | '.join(row)} |" in text
    config = SearchConfig("demo", "stm32f412", "x.pth", "out", max_sram_kb=48)
    head = dict(facts(config, DEMO, history))
    assert head["patches"] == sentence(gain) and f"{gain.whole.arena / KB:.1f} kB" in head["the same, layer by layer"]
    plain = [line | {"n": 0, "p": [1, 1]} for line in history]
    assert "gained nothing" in dict(facts(config, DEMO, plain))["patches"]
