"""A search for a front: NSGA-II's order, several boards at once, resumed after a kill; through the tuner, the strategy
and the report."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from conftest import ROOT
from inprocess import command
from stub_trial import score
from test_report import DEMO, exported, history, write_history
from test_strategy import SMALL, Macs, experiment, limits
from test_strategy import history as history_of
from test_tuner import Manager, mode

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.latency import milliseconds
from nni_mcunet.core.plan.plan import plan as planned
from nni_mcunet.search.config import ConfigError, SearchConfig
from nni_mcunet.search.constraint import Fit, Limits
from nni_mcunet.search.evolution import Evolution, Proposal
from nni_mcunet.search.nni.experiment_file import load_config
from nni_mcunet.search.nni.model_space import MCUNetSpace, StrategyError
from nni_mcunet.search.nni.strategy import EvolutionStrategy
from nni_mcunet.search.objectives import Boards, Objectives, by_front_and_crowding
from nni_mcunet.search.run import export
from nni_mcunet.search.run.front import best_limits, front_of
from nni_mcunet.search.run.run_folder import StateError, begin, restore

__all__ = ["experiment", "exported", "history", "mode"]  # fixtures
needs_pymoo = pytest.mark.skipif(find_spec("pymoo") is None, reason="pip install 'nni-mcunet[front]'")
FOUR = ("stm32f410", "stm32f412", "stm32f746", "stm32h743")
FRONT = dict(board="stm32h743", boards=FOUR[:3], objectives=("board", "macs"), population=6, parents=4, iterations=2)


def config(tmp_path, **changes):
    (tmp_path / "x.pth").touch()
    given = dict(space="demo", board="f412", supernet=str(tmp_path / "x.pth"), out=str(tmp_path / "out"))
    return SearchConfig(**given | changes)


def run(evolution, judge=score):
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            evolution.tell(proposal.index, judge(proposal.candidate))
    return evolution.state_dict()["proposals"]


# --- the order


def fronts(table):
    """Non-dominated fronts by comparing all pairs."""
    left, found = list(range(len(table))), []
    while left:
        beaten = {a for a in left for b in left if (table[b] <= table[a]).all() and (table[b] < table[a]).any()}
        found.append([a for a in left if a not in beaten])
        left = [a for a in left if a in beaten]
    return found


def crowding(table):
    """Deb et al. 2002: per objective the distance between both neighbours, over the front's range."""
    distance = np.zeros(len(table))
    for column in table.T:
        order = np.argsort(column, kind="stable")
        span = column.max() - column.min()
        distance[order[[0, -1]]] = np.inf
        for before, at, after in zip(order, order[1:], order[2:], strict=False):
            distance[at] += (column[after] - column[before]) / span
    return distance


@needs_pymoo
@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_nsga_iis(seed):
    table = np.random.default_rng(seed).normal(size=(60, 2 + seed % 3))
    order, expected = by_front_and_crowding(table, range(60)), fronts(table)
    assert sorted(order) == list(range(60)) and len(expected) > 2
    for front in expected:
        own, order = order[: len(front)], order[len(front) :]
        assert sorted(own) == front
        distance = dict(zip(front, crowding(table[front]), strict=True))
        values = [distance[at] for at in own]
        for (a, x), (b, y) in pairwise(zip(own, values, strict=True)):
            assert x >= y - 1e-9 and (np.isfinite(x) or np.isfinite(y) or a < b)


@needs_pymoo
def test_between_equals_the_earlier_is_first():
    assert by_front_and_crowding(np.zeros((4, 2)), [3, 1, 2, 0]) == [3, 1, 2, 0]


def test_what_a_network_costs():
    boards, places = Boards((Limits(get_board("f412").with_arena(40 * 1024)), Limits(get_board("h743")))), set()
    objectives = Objectives.__new__(Objectives)  # what it costs needs no pymoo
    objectives.space, objectives.boards, objectives._known = DEMO, boards, {}
    for seed in range(8):
        candidate = DEMO.random(np.random.default_rng(seed))
        found = [one.check(DEMO.spec(candidate)) for one in boards.each]
        first = next(at for at, plan in enumerate(found) if isinstance(plan, Fit))
        places.add(first)
        plan = found[first]
        p = Proposal(seed, 0, candidate, list(plan.schedule.p), plan.schedule.n, plan.arena, plan.flash, plan.macs)
        for _ in range(2):
            assert objectives.cost(p, "board") == first and objectives.cost(p, "sram") == plan.arena
            assert objectives.cost(p, "flash") == plan.flash and objectives.cost(p, "macs") == plan.macs
            whole = planned(build_graph(DEMO.spec(candidate)), plan.schedule)
            assert objectives.cost(p, "ms") == milliseconds(whole, boards.each[first].board)
    assert places == {0, 1}


def test_a_network_is_planned_for_the_smallest_board_that_it_fits():
    tight = Limits(get_board("f412").with_arena(40 * 1024))
    boards = Boards((tight, Limits(get_board("f412")), Limits(get_board("h743"))))
    places = set()
    for seed in range(20):
        spec = DEMO.spec(DEMO.random(np.random.default_rng(seed)))
        at, found = boards.first(spec)
        places.add(at)
        assert found == boards.check(spec) == boards.each[at].check(spec)
        assert all(not isinstance(one.check(spec), Fit) for one in boards.each[:at])
    assert places == {0, 1}
    nothing = Boards(tuple(Limits(get_board(name).with_arena(1024)) for name in ("f412", "h743")))
    at, found = nothing.first(DEMO.spec(DEMO.largest()))
    assert at == 1 and found == nothing.each[1].check(DEMO.spec(DEMO.largest())) and found.what == "sram"


# --- the search


@needs_pymoo
@pytest.mark.parametrize("objectives", [("sram",), ("flash", "macs"), ("ms",), ("board", "macs")])
def test_parents_are_the_first_in_the_order(objectives, tmp_path):
    more = {"boards": FOUR[:3], "board": FOUR[3]} if "board" in objectives else {}
    made = config(tmp_path, objectives=objectives, population=8, parents=3, iterations=2, **more)
    seen, evolution = [], made.evolution()
    order = evolution.order
    evolution.order = lambda scored: seen.append((scored, order(scored))) or seen[-1][1]
    run(evolution)
    judge = Objectives(objectives, DEMO, made.every_limit())
    assert [len(scored) for scored, _ in seen] == [0, 8, 16]
    for scored, ordered in seen[1:]:
        table = np.array([[-p.score, *(judge.cost(p, name) for name in objectives)] for p in scored])
        first = {scored[at].index for at in fronts(table)[0]}
        assert {p.index for p in ordered[: len(first)]} == first
        assert [p.index for p in ordered] != [p.index for p in scored]


@pytest.mark.parametrize("parents", [0, 4])
def test_each_board_has_its_share_of_every_generation(parents, tmp_path):
    """Although one draw in six fits the small one."""
    small, large = Limits(get_board("f412").with_arena(20 * 1024)), Limits(get_board("h743"))
    boards, shares = Boards((small, large)), (small.check, large.check)
    drawn = [isinstance(small.check(DEMO.spec(DEMO.random(np.random.default_rng(i)))), Fit) for i in range(60)]
    assert 0 < sum(drawn) < 20
    evolution = Evolution(DEMO, boards.check, 0, 8, parents, 2, shares=shares)
    parents_of, bred = evolution._parents, []
    evolution._parents = lambda fittest, share: bred.append((share, parents_of(fittest, share))) or bred[-1][1]
    lines = run(evolution)
    assert len(lines) == 24
    assert all(isinstance(shares[share](DEMO.spec(one)), Fit) for share, best in bred for one in best)
    for p in lines[::2]:
        assert p["sram"] <= 20 * 1024 and isinstance(small.check(DEMO.spec(p["candidate"])), Fit)
    assert any(p["sram"] > 20 * 1024 for p in lines[1::2])
    again = Evolution(DEMO, boards.check, 0, 8, parents, 2, shares=shares)
    again.load_state_dict({"proposals": lines[:11]})
    assert run(again) == lines


def test_a_board_that_nothing_fits_has_no_share(monkeypatch):
    """The others' is as large as ever."""
    monkeypatch.setattr("nni_mcunet.search.evolution.TRIES", 20)
    nothing, large = Limits(get_board("f412").with_arena(1024)), Limits(get_board("h743"))
    evolution = Evolution(DEMO, large.check, 0, 6, 0, 0, shares=(nothing.check, large.check))
    assert [p["index"] for p in run(evolution)] == [0, 1, 2]


@needs_pymoo
@pytest.mark.parametrize("objectives", [("sram", "flash"), ("ms",)])
def test_cut_anywhere_it_ends_the_same(objectives, tmp_path):
    made = config(tmp_path, objectives=objectives, population=6, parents=4, iterations=2)
    whole, rng = run(made.evolution()), np.random.default_rng(0)
    for length in range(0, len(whole) + 1, 3):
        cut = json.loads(json.dumps(whole[:length]))
        for at in np.flatnonzero(rng.random(length) < rng.choice([0, 0.3, 1])):
            cut[at] |= {"score": None, "told": False}
        again = made.evolution()
        again.load_state_dict({"proposals": cut})
        assert run(again) == whole, f"cut behind {length} lines"


@needs_pymoo
@pytest.mark.parametrize("kill_at", [1, 3, 6])
def test_the_tuner_goes_on_after_a_kill(kill_at, tmp_path):
    given = FRONT | {"max_mmacs": None}
    whole = Manager(tmp_path, out=str(tmp_path / "whole"), **given).to_the_end()
    manager = Manager(tmp_path, **given)
    for _ in range(kill_at):
        id = min(manager.running)
        manager.report(id)
        manager.end(id)
    assert Manager(tmp_path, mode="resume", **given).to_the_end() == whole
    plain = Manager(tmp_path, out=str(tmp_path / "plain"), **given | {"boards": (), "objectives": ()}).to_the_end()
    assert plain.splitlines()[:1] != whole.splitlines()[:1] or plain != whole
    with pytest.raises(StateError, match="its objectives is"):
        Manager(tmp_path, mode="resume", **given | {"objectives": ("board",)})


@needs_pymoo
def test_the_strategy_searches_for_a_front(experiment, tmp_path):
    how = SMALL | {"objectives": ["sram", "ms"]}
    experiment(EvolutionStrategy(tmp_path / "out", **how), Macs(), most=8)
    with pytest.raises(StateError, match="its objectives is"):
        experiment(EvolutionStrategy(tmp_path / "out", **SMALL | {"objectives": ["sram"]}), Macs(), most=1)
    experiment(EvolutionStrategy(tmp_path / "out", **how), Macs())
    order = Objectives(("sram", "ms"), DEMO, Boards((limits(),))).order
    evolution = Evolution(DEMO, limits().check, 0, **SMALL, order=order)
    assert history_of(tmp_path / "out") == run(evolution, lambda c: build_graph(DEMO.spec(c), limits().yolo).macs / 1e6)
    with pytest.raises(StrategyError, match="ms is estimated for a board"):
        experiment(EvolutionStrategy(**how), Macs(), MCUNetSpace(DEMO))


def test_wrong_objectives_are_one_line(tmp_path):
    for words in ("sram", ["x"], ["board"]):
        with pytest.raises(StrategyError, match="expected a list of sram, flash, macs, ms"):
            EvolutionStrategy(objectives=words)
    for changes, message in (
        ({"objectives": ["speed"]}, "objectives is .* expected a list of different words of sram"),
        ({"objectives": ["sram", "sram"]}, "expected a list of different words"),
        ({"objectives": "sram"}, "expected a list of different words"),
        ({"boards": "f412"}, "boards is 'f412': expected a list of boards"),
        ({"boards": ["f412"]}, "these need an objective"),
        ({"objectives": ["board"]}, "counts the boards of boards"),
        ({"boards": ["f410"], "objectives": ["ms", "board"]}, "ms is of one board"),
        ({"boards": ["f410"], "objectives": ["board"], "max_sram_kb": 9}, "are of one board"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(tmp_path, **changes)


def test_without_pymoo_it_is_one_line(tmp_path):
    code = (
        "import sys; sys.modules['pymoo'] = None\n"
        "from nni_mcunet.core.errors import exit_on_user_error\n"
        "from nni_mcunet.search.config import SearchConfig\n"
        "with exit_on_user_error():\n"
        "    made = SearchConfig('demo', 'f412', 'x', 'o')\n"
        "    made.evolution()\n"
        "    SearchConfig('demo', 'f412', 'x', 'o', objectives=['sram']).evolution()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "error: objectives need pymoo: pip install 'nni-mcunet[front]'\n"


def test_a_search_for_one_best_is_described_as_ever(tmp_path):
    """Folders of earlier versions say nothing of objectives, and go on."""
    made = config(tmp_path)
    begin(made, made.evolution())
    described = json.loads((tmp_path / "out/search.json").read_text())
    assert not {"objectives", "boards"} & set(described["settings"])
    restore(made, made.evolution(), begun=True)


@needs_pymoo
def test_the_experiment_for_four_boards_is_ready_to_run():
    loaded = load_config(ROOT / "configs/nni/boards_vww.yml")
    made = SearchConfig.from_dict(loaded["tuner"]["classArgs"], loaded["trialCodeDirectory"])
    assert [limits_.board.name for limits_ in made.every_limit().each] == list(FOUR)
    evolution = replace(made, population=4).evolution(loaded["searchSpace"])
    places = [made.every_limit().first(evolution.space.spec(evolution.ask().candidate))[0] for _ in range(4)]
    assert places[0] == 0 and all(place <= at for at, place in enumerate(places))


# --- the report


@pytest.fixture
def boards(history, tmp_path):
    made = config(tmp_path, **FRONT)
    described = {"experiment": "abc", "settings": json.loads(json.dumps(vars(made))), "space": DEMO.to_dict()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out/search.json").write_text(json.dumps(described))
    write_history(history, tmp_path / "out")
    return made


def test_the_front_of_boards_has_each_board_s_best(boards, history):
    found = {line["board"]: line for line in front_of(boards, DEMO, history)}
    assert list(found) == [name for name in FOUR if name in found] and set(FOUR[1:]) <= set(found)
    for limits_ in boards.every_limit().each:
        plans = {p["index"]: limits_.check(DEMO.spec(p["candidate"])) for p in history if p["score"] is not None}
        fitting = [p for p in history if isinstance(plans.get(p["index"]), Fit)]
        line = found.get(limits_.board.name)
        assert (line is not None) == bool(fitting)
        if line:
            assert line["score"] == max(p["score"] for p in fitting)
            plan = plans[line["index"]]
            assert (line["sram"], line["macs"], line["n"]) == (plan.arena, plan.macs, plan.schedule.n)
    best = max((p for p in history if p["score"] is not None), key=lambda p: p["score"])
    assert isinstance(best_limits(boards, DEMO, history).check(DEMO.spec(best["candidate"])), Fit)


def test_the_report_of_boards_draws_them(boards, monkeypatch, capsys, tmp_path, history):
    done = command(monkeypatch, capsys, "search", "report", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    text = (tmp_path / "out/report.md").read_text()
    assert "## The front of board, macs" in text and "![the front of the objectives](front.png)" in text
    for line in front_of(boards, DEMO, history):
        assert f"| {line['board']} | {line['index']} | {line['score']:.4f} | {line['sram'] / 1024:.1f} |" in text
    assert (tmp_path / "out/front.png").stat().st_size > 10_000


@needs_pymoo
def test_the_front_in_milliseconds(history, tmp_path, monkeypatch, capsys):
    made = config(tmp_path, objectives=("ms", "flash"), board="h743")
    front = front_of(made, DEMO, history)
    judge = Objectives(made.objectives, DEMO, made.every_limit())
    lines = [p for p in history if p["score"] is not None]
    table = np.array([[-p["score"], judge.cost(Proposal(**p), "ms"), p["flash"]] for p in lines])
    assert {p["index"] for p in front} == {lines[at]["index"] for at in fronts(table)[0]}
    assert [p["ms"] for p in front] == sorted(p["ms"] for p in front)


def test_the_networks_of_all_boards_are_exported(exported, boards, history):
    """pareto/00 is the smallest board's, with the schedule that it has there."""
    _, out = exported
    export.export_pareto(boards, out)
    listed = json.loads((out / "pareto.json").read_text())
    assert [line["board"] for line in listed] == [line["board"] for line in front_of(boards, DEMO, history)]
    for at, line in enumerate(listed):
        spec = ArchSpec.load(out / f"pareto/{at:02d}.json")
        assert (spec.schedule.p, spec.schedule.n) == (tuple(line["p"]), line["n"])


def test_every_limit_is_that_of_the_board_in_its_file(tmp_path):
    board = "{name: small, core: cortex-m4, clock_hz: 5000000, sram: 65536, flash: 262144}"
    (tmp_path / "small.yml").write_text(board)
    made = config(tmp_path, **FRONT | {"boards": ["small.yml"]}).at(tmp_path)
    assert [limits_.board.name for limits_ in made.every_limit().each] == ["small", "stm32h743"]
    with pytest.raises(UserError, match="unknown board"):
        config(tmp_path, **FRONT | {"boards": ["f999"]}).every_limit()
