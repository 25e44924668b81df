"""The search: a space that is data, an evolution that is pure, a super-network whose slices are networks."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.build import YoloHead, build_graph
from nni_mcunet.core.errors import Infeasible, UserError
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.plan import plan
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Limits, Violation
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.experiment import replacing
from nni_mcunet.search.space import Space, SpaceError, load_space

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


# --- the space


def test_the_papers_space_has_its_size():
    assert f"{load_space('mcunet384').size:.1e}" == "8.6e+23"


@pytest.mark.parametrize("name", ["demo", "mcunet384"])
def test_a_space_survives_json_and_nni(name):
    space = load_space(name)
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.narrowed(json.loads(json.dumps(space.to_nni()))) == space


@pytest.mark.parametrize("name", ["demo", "mcunet384"])
def test_every_network_is_a_part_of_the_largest(name):
    space, rng = load_space(name), np.random.default_rng(0)
    largest = build_graph(space.spec(space.largest()))
    for _ in range(50):
        graph = build_graph(space.spec(space.random(rng)))
        for op in graph.ops:
            whole = largest.op(op.name)
            assert op.cout <= whole.cout and op.k[0] <= whole.k[0] and op.s == whole.s


def test_genes_without_effect_do_not_count():
    a = DEMO.smallest()
    assert DEMO.spec(a | {"s1_b1_k": 7}) == DEMO.spec(a)  # block 1 is skipped
    assert DEMO.spec(a | {"s1_b0_k": 7}) != DEMO.spec(a)


def test_a_narrowed_space_stays_within():
    space = DEMO.narrowed(DEMO.to_nni() | {"r": {"_type": "choice", "_value": [96]}})
    rng = np.random.default_rng(0)
    assert {space.random(rng)["r"] for _ in range(20)} == {96}
    assert Space.from_dict(space.to_dict()) == space
    assert space.size * 2 == DEMO.size


def test_the_demos_search_space_is_the_demos_less_a_resolution():
    narrowed = json.loads((ROOT / "configs/nni/demo_space.json").read_text())
    assert DEMO.narrowed(narrowed).to_nni() == json.loads(json.dumps(DEMO.to_nni())) | {"r": narrowed["r"]} == narrowed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stems": 3}, "unknown key 'stems'"),
        ({"r": []}, "r is"),
        ({"k": [4]}, "block.k is 4"),
        ({"d": [1.5]}, "integers"),
        ({"stages": [{"c": 8}]}, "stage 1 lacks the key 's'"),
        ({"stages": [{"c": 8, "s": 1, "t": 2}]}, "unknown key 't'"),
        ({"stages": [{"c": "16", "s": 2}]}, "stage 1: c is '16'"),
        ({"stages": [{"c": 0, "s": 2}]}, "stage 1: c is 0"),
        ({"stages": [{"c": 8, "s": "2"}]}, "stage 1: s is '2'"),
        ({"stem": "8"}, "stem is '8'"),
        ({"first": 8.5}, "first is 8.5"),
        ({"head": "8"}, "head is '8'"),
        ({"k": [3, 4, 5]}, "block.k is 4"),
        ({"d": 10**9}, "stage 1: d is 1000000000"),
        ({"w": [float("inf")]}, "w is"),
        ({"r": [1, 32]}, "resolution is 1"),
        ({"only": 5}, "only is 5"),
        ({"only": [["s9_d", [1]]]}, "no gene 's9_d'"),
    ],
)
def test_a_malformed_space_is_refused(tmp_path, change, message):
    good = dict(name="x", r=[32], stem=8, first=8, k=[3], e=[3], d=[1], w=[1.0], stages=[{"c": 8, "s": 2}])
    path = tmp_path / "x.json"
    path.write_text(json.dumps(good | change))
    with pytest.raises(SpaceError, match=message) as error:
        load_space(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "search_space, message",
    [
        (["a"], "an object of genes"),
        ({"r": 96}, "r must be"),
        ({"r": {"_type": "choice", "_value": 96}}, "r must be"),
        ({"r": {"_type": "choice", "_value": ["96"]}}, "r offers '96'"),
    ],
)
def test_a_malformed_nni_search_space_is_refused(search_space, message):
    with pytest.raises(SpaceError, match=message):
        DEMO.narrowed(search_space)


def test_an_unknown_space_names_the_known():
    with pytest.raises(SpaceError, match="demo, mcunet384"):
        load_space("demoo")


# --- the constraint and the evolution


def test_a_violation_says_what_and_by_how_much():
    verdict = limits(kb=96, mmacs=1).check(DEMO.spec(DEMO.largest()))
    assert isinstance(verdict, Violation) and verdict.what == "macs" and verdict.needed > verdict.limit == 1_000_000
    verdict = limits(kb=8, mmacs=100).check(DEMO.spec(DEMO.largest()))
    assert isinstance(verdict, Violation) and verdict.what == "sram" and verdict.limit == 8 * 1024


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


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boards": 1}, "unknown key 'boards'"),
        ({"board": "stm32x"}, "unknown board 'stm32x'"),
        ({"population": 0}, "population is 0"),
        ({"max_sram_kb": 9999}, "504 kB"),
        ({"detector": {"classes": 10, "taps": [9]}}, "taps"),
        ({"detector": {"class": 10}}, "unknown key 'class'"),
        ({"detector": 3}, "detector is 3: a mapping"),
        ({"detector": {"classes": 10, "taps": 3}}, "detector.taps is 3"),
        ({"detector": {"classes": 10, "taps": ["2"]}}, "detector.taps is '2'"),
        ({"detector": {"classes": 10, "taps": [2], "width": "48"}}, "detector.width is '48'"),
        ({"detector": {"classes": 10, "taps": [2], "width": 0}}, "detector.width is 0"),
        ({"detector": {"classes": None, "taps": [2]}}, "detector.classes is None"),
        ({"detector": {"classes": 10, "taps": [2], "anchors": 0}}, "detector.anchors is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"batch": True}, "batch is True"),
        ({"mutation": 5}, "mutation is 5"),
        ({"mutation": "0,1"}, "mutation is '0,1'"),
        ({"mutation": float("nan")}, "mutation is nan"),
        ({"max_sram_kb": float("nan")}, "max_sram_kb is nan"),
        ({"max_mmacs": float("inf")}, "max_mmacs is inf"),
        ({"max_mmacs": "18"}, "max_mmacs is '18'"),
        ({"space": 5}, "space is 5"),
        ({"supernet": 5}, "supernet is 5"),
        ({"out": None}, "out is None"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    args = dict(space="demo", board="h743", supernet="x.pth", out="out")
    with pytest.raises(UserError, match=message):
        SearchConfig.from_dict(args | change).evolution()


def test_results_are_replaced_by_a_search_that_ended_well_only(tmp_path):
    out = tmp_path / "out"
    (out / "running").mkdir(parents=True)
    for name in ("best.json", "done.json", "running/done.json", "running/history.jsonl"):
        (out / name).write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(out) as fresh:
        assert not fresh.exists() or not list(fresh.iterdir())  # nothing stale for the tuner or who waits for it
        write_atomic(fresh / "best.json", "half")
        raise KeyboardInterrupt
    assert {p.name: p.read_text() for p in out.glob("*.*")} == {"best.json": "old", "done.json": "old"}
    with replacing(out) as fresh:
        write_atomic(fresh / "best.json", "new")
        write_atomic(fresh / "history.jsonl", "new")
    assert {p.name: p.read_text() for p in out.iterdir()} == {"best.json": "new", "history.jsonl": "new"}


def test_results_cannot_go_where_a_file_is(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="is a file: name another folder"), replacing(tmp_path / "out" / "deep"):
        pass
