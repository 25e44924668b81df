"""The search: a space that is data, an evolution that is pure, a super-network whose slices are networks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.build import YoloHead, build_graph
from nni_mcunet.core.errors import BoardError, Infeasible, UserError
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.plan import Plan, plan
from nni_mcunet.search.config import ConfigError, SearchConfig
from nni_mcunet.search.constraint import Limits, Violation
from nni_mcunet.search.evolution import Evolution, HistoryError
from nni_mcunet.search.experiment import replacing
from nni_mcunet.search.space import Space, SpaceError, load_space
from nni_mcunet.search.supernet import build_supernet, run_subnet, slice_net, sort_channels
from nni_mcunet.search.training import Recipe, load_supernet, train

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
    with pytest.raises(HistoryError, match="candidate 24 is not"):
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
    fits = [at for at, verdict in enumerate(verdicts) if isinstance(verdict, Plan)]
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
    board = limits(kb=81).board
    assert Limits(board).check(spec).schedule.p == (2, 2)
    assert isinstance(Limits(board, patches=(1,)).check(spec), Violation)
    assert Limits(board, patches=(1, 3)).check(spec).schedule.p == (3, 3)


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
        ({"parents": -1}, "parents is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"max_flash_kb": 4096}, "max_flash_kb is 4096: stm32h743 has 2016 kB"),
        ({"max_latency_ms": 0}, "max_latency_ms is 0"),
        ({"patches": []}, "patches is"),
        ({"patches": [0]}, "patches is"),
        ({"patches": 2}, "patches is 2: a list"),
        ({"data": "digits"}, "data is 'digits': a mapping with a kind"),
        ({"base": 3}, "base is 3"),
        ({"base": "missing.yml"}, "base .*missing.yml: .*No such file"),
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


def test_a_base_gives_what_is_not_said(tmp_path):
    (tmp_path / "deep.yml").write_text(
        "{space: demo, board: f412, seed: 7, max_mmacs: 9, data: {kind: folder, root: d}}"
    )
    (tmp_path / "base.yml").write_text("{base: deep.yml, board: board.yml, supernet: s.pth, seed: 8}")
    (tmp_path / "board.yml").write_text("{name: x, core: cortex-m4, clock_hz: 5000000, sram: 65536, flash: 262144}")
    config = SearchConfig.from_dict({"base": "base.yml", "out": "o", "parents": 0, "max_mmacs": None}, tmp_path)
    assert (config.space, config.seed, config.parents, config.max_mmacs) == ("demo", 8, 0, None)
    assert config.supernet == str(tmp_path / "s.pth") and config.out == str(tmp_path / "o")
    assert config.data == {"kind": "folder", "root": str(tmp_path / "d")}
    assert config.limits().board.name == "x" and config.limits().board.arena_limit == 56 * 1024
    (tmp_path / "deep.yml").write_text("{spaces: demo}")
    with pytest.raises(ConfigError, match=r"deep\.yml has the unknown key 'spaces'"):
        SearchConfig.from_dict({"base": "base.yml", "out": "o"}, tmp_path)
    (tmp_path / "deep.yml").write_text("{base: base.yml}")
    with pytest.raises(ConfigError, match="is its own base"):
        SearchConfig.from_dict({"base": "base.yml", "out": "o"}, tmp_path)


def test_limits_are_those_of_the_settings():
    args = dict(space="demo", board="f412", supernet="x.pth", out="out", max_sram_kb=64, max_flash_kb=100.5)
    found = SearchConfig.from_dict(args | {"max_latency_ms": 300, "max_mmacs": 1.5, "patches": [1, 2]}).limits()
    assert (found.board.arena_limit, found.board.model_limit) == (64 * 1024, 100.5 * 1024)
    assert (found.max_ms, found.max_macs, found.patches) == (300, 1_500_000, (1, 2))


@pytest.mark.parametrize(
    "text, message",
    [
        ("{name: x, core: cortex-m4, clock_hz: 1, sram: 9, flsh: 9}", "unknown field 'flsh'"),
        ("{name: x, core: cortex-m4, clock_hz: 1, sram: 9}", "the field 'flash' is missing"),
        ("[1]", "no mapping"),
        ("{name: x", "b.yml"),
        ("{name: x, core: m, clock_hz: 1, sram: 1e6, flash: 9}", "sram is '1e6'"),
        ("{name: x, core: 4, clock_hz: 1, sram: 9, flash: 9}", "core is 4"),
        ("{name: x, core: m, clock_hz: 1, sram: 65536, flash: 65536, cycles_per_instruction: 0}", "instruction is 0"),
    ],
)
def test_a_malformed_board_is_refused(tmp_path, text, message):
    (tmp_path / "b.yml").write_text(text)
    with pytest.raises(BoardError, match=message):
        get_board(str(tmp_path / "b.yml"))


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


# --- the super-network


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    net = build_supernet(DEMO)
    for layer in net.layers.values():
        for tensor in [] if not hasattr(layer, "bn") else (layer.bn.weight, layer.bn.bias, layer.bn.running_mean):
            torch.nn.init.normal_(tensor)
    return net


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("training", [False, True])
def test_a_slice_is_the_stand_alone_network(supernet, seed, training):
    graph = build_graph(DEMO.spec(DEMO.random(np.random.default_rng(seed))))
    x = torch.rand(2, 3, 64, 64)
    alone = slice_net(supernet, graph).train(training)
    assert torch.equal(run_subnet(supernet.train(training), graph, x), alone(x)[0])


def test_a_slice_trains_the_super_network(supernet):
    supernet.zero_grad()
    graph = build_graph(DEMO.spec(DEMO.smallest()))
    run_subnet(supernet.train(), graph, torch.rand(2, 3, 64, 64)).sum().backward()
    grad = supernet.layers["s1_b0_dw"].conv.weight.grad
    cout = graph.op("s1_b0_dw").cout
    assert grad[:cout, :, 2:5, 2:5].abs().sum() > 0
    assert grad[cout:].abs().sum() == 0 and grad[..., 0, :].abs().sum() == 0


def test_sorting_channels_keeps_the_function(supernet):
    supernet.eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = supernet(x)[0]
        sort_channels(supernet)
        assert torch.allclose(supernet(x)[0], before, atol=1e-4)
    norms = supernet.layers["s1_b0_proj"].conv.weight.abs().sum((0, 2, 3))
    assert bool((norms[:-1] >= norms[1:]).all())


def test_a_foreign_network_is_refused(supernet):
    foreign = load_space("mcunet384")
    with pytest.raises(UserError, match="not of th"):
        slice_net(supernet, build_graph(foreign.spec(foreign.largest())))


def test_training_resumes_exactly(tmp_path):
    space = Space.from_dict(DEMO.to_dict() | {"r": [32]})
    recipe = Recipe(largest=3, shared=2, subnets=2, batch=4)
    whole = train(space, recipe, tmp_path / "whole.pth")

    def killed_after_three(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(space, recipe, tmp_path / "part.pth", save_every=1, progress=killed_after_three)
    with pytest.raises(UserError, match="stopped at step 2"):
        load_supernet(tmp_path / "part.pth")
    resumed = train(space, recipe, tmp_path / "part.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert load_supernet(tmp_path / "part.pth")[0] == space
    with pytest.raises(UserError, match="other settings"):
        train(space, Recipe(seed=1), tmp_path / "part.pth")


def test_a_missing_super_network_says_how_to_train_it(tmp_path):
    with pytest.raises(UserError, match=r"python tools/train_supernet.py --out .*x\.pth"):
        load_supernet(tmp_path / "x.pth")
