"""The search: a space that is data, an evolution that is pure, a super-network whose slices are networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.constraint import Fit, Limits, Violation
from nni_mcunet.search.evolution import Evolution, HistoryError
from nni_mcunet.search.space import Space, load_space

DEMO = load_space("demo")
YOLO = YoloHead(classes=10, taps=(2, 4), width=48)


def limits(kb=96, mmacs=12):
    board = get_board("h743")
    return Limits(replace(board, reserved_sram=board.sram - kb * 1024), int(mmacs * 1e6), YOLO)


def run(evolution, order=1):
    """The search to its end with MACs as the score, told in the order asked or (-1) backwards."""
    while not evolution.done:
        asked = []
        while (proposal := evolution.ask()) is not None:
            asked.append(proposal)
        for proposal in asked[::order]:
            evolution.tell(proposal.index, proposal.macs / 1e6)
    return evolution


def small_evolution(seed=0):
    return Evolution(DEMO, limits().check, seed, population=8, parents=4, iterations=3)


# --- the constraint and the evolution


def test_a_violation_says_what_and_by_how_much():
    verdict = limits(kb=96, mmacs=1).check(DEMO.spec(DEMO.largest()))
    assert isinstance(verdict, Violation) and verdict.what == "macs" and verdict.needed > verdict.limit == 1_000_000
    verdict = limits(kb=8, mmacs=100).check(DEMO.spec(DEMO.largest()))
    assert isinstance(verdict, Violation) and verdict.what == "sram" and verdict.limit == 8 * 1024


def test_of_several_limits_the_one_exceeded_most_is_named():
    spec, board = DEMO.spec(DEMO.largest()), get_board("h743")
    needed = build_graph(spec).macs
    for kb, share, what in ((1, 0.5, "flash"), (64, 0.001, "macs")):
        small = replace(board, reserved_flash=board.flash - kb * 1024)
        verdict = Limits(small, int(needed * share)).check(spec)
        assert verdict.what == what and Limits(small).check(spec).what == "flash"


def test_every_proposal_fits_by_plan_and_is_new():
    evolution = run(small_evolution())
    assert len(evolution.proposals) == 32
    specs = set()
    for p in evolution.proposals:
        spec = DEMO.spec(p.candidate)
        planned = plan(build_graph(spec, YOLO), type(spec.schedule)(p.p, p.n))
        assert planned.arena == p.sram <= 96 * 1024 and planned.macs == p.macs <= 12_000_000
        specs.add(spec)
    assert len(specs) == 32


def test_half_a_generation_are_children_of_two_of_the_best_and_half_mutants_of_one(monkeypatch):
    last, accepted = [], []
    for name in ("crossover", "mutate"):
        move = getattr(Space, name)
        monkeypatch.setattr(Space, name, lambda *args, n=name, m=move: last.append((n, *args[1:])) or m(*args))
    evolution = small_evolution()
    judge = evolution.check

    def check(spec):
        verdict = judge(spec)
        if isinstance(verdict, Fit) and last:
            accepted.append(last[-1])
        return verdict

    evolution.check = check
    for _ in range(4):
        accepted.clear()
        best = [p.candidate for p in evolution.ranked()[:4]]  # of all generations so far
        for proposal in [evolution.ask() for _ in range(8)]:
            evolution.tell(proposal.index, proposal.macs / 1e6)
        if best:
            assert [name for name, *_ in accepted] == ["crossover"] * 4 + ["mutate"] * 4
            assert all(a in best and b in best for name, a, b, _ in accepted[:4])
            assert all(a in best and rate == 0.1 for name, a, _, rate in accepted[4:])


def test_it_finds_better_networks():
    generations = [[], [], [], []]
    for p in run(small_evolution()).proposals:
        generations[p.generation].append(p.score)
    assert np.mean(generations[-1]) > np.mean(generations[0])


def test_seeded_and_indifferent_to_the_order_of_scores():
    a, b, c = run(small_evolution()), run(small_evolution(), order=-1), run(small_evolution(seed=1))
    assert a.state_dict() == b.state_dict() != c.state_dict()


def test_restored_anywhere_it_ends_the_same():
    whole = run(small_evolution()).state_dict()
    first = small_evolution()
    for _ in range(12):
        if (proposal := first.ask()) is not None and proposal.index != 5:
            first.tell(proposal.index, proposal.macs / 1e6)
    second = small_evolution()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(second).state_dict() == whole


@pytest.mark.parametrize("kind", ["evolution", "random", "exhausted", "exhausted random"])
def test_a_history_cut_anywhere_ends_the_same(kind):
    tiny = dict(name="tiny", r=[32], stem=8, first=8, k=[3, 5], e=[3, 4], d=[1], w=[1.0], stages=[{"c": 8, "s": 2}])
    space, check = DEMO, limits().check
    if "exhausted" in kind:
        space, check = Space.from_dict(tiny), Limits(get_board("h743")).check
    size = {"population": 6, "parents": 0 if "random" in kind else 2, "iterations": 2}

    def fresh():
        return Evolution(space, check, 3, **size)

    whole = run(fresh()).state_dict()["proposals"]
    assert len(whole) == (4 if "exhausted" in kind else 18)
    rng = np.random.default_rng(0)
    for length in range(len(whole) + 1):
        cut = json.loads(json.dumps(whole[:length]))
        for at in np.flatnonzero(rng.random(length) < rng.choice([0, 0.2, 1])):
            cut[at] |= {"score": None, "told": False}
        restored = fresh()
        restored.load_state_dict({"proposals": cut})
        order = int(rng.choice([-1, 1]))
        assert run(restored, order).state_dict()["proposals"] == whole, f"cut behind {length} lines"


def test_a_finished_history_is_done_without_more():
    finished, again = run(small_evolution()), small_evolution()
    again.load_state_dict(finished.state_dict())
    assert again.done and again.ask() is None


def test_a_history_of_another_search_is_refused():
    proposals = run(small_evolution()).state_dict()["proposals"]
    with pytest.raises(HistoryError, match="candidate 0 is not what this seed"):
        small_evolution(seed=1).load_state_dict({"proposals": proposals[:6]})
    with pytest.raises(HistoryError, match=r"candidate 24 needs .* by these limits"):
        Evolution(DEMO, limits(kb=64).check, 0, 8, 4, 3).load_state_dict({"proposals": proposals})


def test_without_parents_every_generation_is_random():
    evolution = run(Evolution(DEMO, limits().check, 0, population=4, parents=0, iterations=2))
    scores = [p.score for p in evolution.proposals]
    other = Evolution(DEMO, limits().check, 0, population=4, parents=0, iterations=2)
    while not other.done:  # what is told changes nothing
        while (proposal := other.ask()) is not None:
            other.tell(proposal.index, -proposal.macs / 1e6)
    assert [-p.score for p in other.proposals] == scores and len(scores) == 12


def test_rare_networks_fill_the_first_generation(monkeypatch):
    """One draw in twenty fits: what one proposal leaves of its share of the draws, another takes."""
    monkeypatch.setattr("nni_mcunet.search.evolution.TRIES", 20)
    verdicts, scarce = [], limits(mmacs=6)

    def check(spec):
        verdicts.append(scarce.check(spec))
        return verdicts[-1]

    evolution = Evolution(DEMO, check, population=8)
    evolution.ask()
    assert len(evolution.proposals) == 8
    fits = [at for at, verdict in enumerate(verdicts) if isinstance(verdict, Fit)]
    assert max(np.diff(fits)) > 20


def test_what_limits_a_search_is_named_with_the_smallest_network():
    smallest = build_graph(DEMO.spec(DEMO.smallest()))
    tight = Limits(get_board("h743"), smallest.macs)  # the smallest fits, hardly any random one does
    with pytest.raises(Infeasible, match=r"none of [\d,]+ random networks .* limit of macs \(.* over macs\)") as error:
        Evolution(DEMO, tight.check, population=1).ask()
    assert "only the smallest network of the space is known to fit, with" in str(error.value)
    assert f"{smallest.macs:,} MACs" in str(error.value)
    assert error.value.needed > error.value.limit == smallest.macs
    with pytest.raises(Infeasible, match=r"none of [\d,]+ .*the smallest network .* ms needed, 0.5 allowed"):
        Evolution(DEMO, Limits(get_board("h743"), max_ms=0.5).check, population=100).ask()


def test_only_the_patches_allowed_are_tried():
    spec = DEMO.spec(DEMO.largest())
    board = limits(kb=82).board
    assert Limits(board).check(spec).schedule.p == (2, 2)
    assert isinstance(Limits(board, patches=(1,)).check(spec), Violation)
    assert Limits(board, patches=(1, 3)).check(spec).schedule.p == (3, 3)


def test_a_cached_halo():
    """Kept instead of computed again it costs no MACs; history, architecture and a restored search carry it."""
    cached = replace(limits(kb=36), halos=("clip", "cache"))
    evolution = run(Evolution(DEMO, cached.check, 0, 8, 2, 3, 0.1))
    patched = [p for p in evolution.proposals if p.n]
    assert patched and {p.halo for p in patched} == {"cache"}
    for p in patched:
        planned = plan(build_graph(DEMO.spec(p.candidate, p.schedule), YOLO), p.schedule)
        assert (planned.halo, planned.arena, planned.macs) == ("cache", p.sram, planned.graph.macs)
    again = Evolution(DEMO, cached.check, 0, 8, 2, 3, 0.1)
    again.load_state_dict(json.loads(json.dumps(evolution.state_dict())))
    assert again.state_dict() == evolution.state_dict() and again.done


def test_a_history_without_halos():
    """As it was written before there was a choice."""
    evolution = run(small_evolution())
    old = [{k: v for k, v in p.items() if k != "halo"} for p in evolution.state_dict()["proposals"]]
    again = small_evolution()
    again.load_state_dict({"proposals": old})
    assert again.done and again.state_dict() == evolution.state_dict()


def test_a_barrier_and_failed_evaluations():
    evolution = small_evolution()
    asked = [evolution.ask() for _ in range(8)]
    assert evolution.ask() is None and not evolution.done
    for proposal in asked:
        evolution.tell(proposal.index, None if proposal.index else 1.0)
    assert evolution.ask().generation == 1
    assert [p.index for p in evolution.ranked()] == [0]


def test_an_exhausted_space_ends():
    tiny = Space.from_dict(
        dict(name="tiny", r=[32], stem=8, first=8, k=[3, 5], e=[3], d=[1], w=[1.0], stages=[{"c": 8, "s": 2}])
    )
    evolution = run(Evolution(tiny, Limits(get_board("h743")).check, population=10, parents=2, iterations=5))
    assert len(evolution.proposals) == 2


def test_an_impossible_limit_is_named():
    with pytest.raises(Infeasible, match=r"limit of macs.*needed, 100,000 allowed") as error:
        Evolution(DEMO, limits(mmacs=0.1).check, population=8).ask()
    assert error.value.what == "macs" and error.value.limit == 100_000
    assert error.value.needed == build_graph(DEMO.spec(DEMO.smallest()), YOLO).macs
