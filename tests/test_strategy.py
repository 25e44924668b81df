"""The search through NNI's NAS API: the space as NNI's, our evolution as a strategy, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from conftest import ROOT
from tiny import contents

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.plan.cut_points import schedules
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.constraint import Fit, Limits
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.nni.model_space import MCUNetSpace, StrategyError, from_sample, to_sample
from nni_mcunet.search.nni.strategy import EvolutionStrategy, SupernetEvaluator
from nni_mcunet.search.run.run_folder import StateError, finished
from nni_mcunet.search.space import Space, load_space

# ruff: isort: split
import nni
from nni.mutable import SampleValidationError
from nni.nas import strategy as strategies
from nni.nas.evaluator import Evaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import TPE, GridSearch, Random, RegularizedEvolution

DEMO = load_space("demo")
PRESETS = sorted(path.stem for path in (ROOT / "nni_mcunet/search/spaces").glob("*.yml"))
SMALL = dict(population=6, parents=3, iterations=2)


def limits(kb=96, mmacs=12, yolo=None):
    board = get_board("h743")
    return Limits(replace(board, reserved_sram=board.sram - kb * 1024), int(mmacs * 1e6), yolo)


def macs_of(sample):
    return build_graph(DEMO.spec(from_sample(sample)[0])).macs / 1e6


class Macs(Evaluator):
    """Millions of MACs as the score: quick, and every network its own. Keeps the samples it was given."""

    def __init__(self, fail=(), score=macs_of):
        self.samples, self.fail, self.score = [], fail, score

    def _execute(self, model):
        self.samples.append(model.sample)
        if len(self.samples) in self.fail:
            raise RuntimeError("no luck")
        nni.report_final_result(self.score(model.sample))


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A NasExperiment run in this process, its files in a folder of its own, stopped at the end."""
    monkeypatch.setenv("HOME", str(tmp_path))
    running = []

    def run(strategy, evaluator, space=None, most=None, resume=None, **engine):
        config = NasExperimentConfig("sequential", "simplified", max_trial_number=most)
        config.experiment_working_directory = str(tmp_path / "nni")
        for name, value in engine.items():
            setattr(config.execution_engine, name, value)
        made = NasExperiment(space or MCUNetSpace(DEMO, limits()), evaluator, strategy, config, id=resume)
        running.append(made)
        (made.resume if resume else made.run)()
        return made

    yield run
    for made in running:
        made.stop()


# --- the space


@pytest.mark.parametrize("width", ["stage", "block", "net"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_candidate_survives_every_form(name, width):
    """Genes -> ArchSpec -> JSON -> ArchSpec -> genes -> NNI search space -> NNI sample -> genes: one network with one
    schedule. 150 of each of 21 spaces."""
    space, rng = Space.from_dict(load_space(name).to_dict() | {"width": width}), np.random.default_rng(2)
    model_space = MCUNetSpace(space)
    search_space = json.loads(json.dumps(space.to_nni()))
    shown = {label: m.as_legacy_dict() for label, m in model_space.simplify().items() if label != "fits"}
    assert json.loads(json.dumps({gene: shown[gene] for gene in space.genes})) == search_space
    assert set(shown) - set(space.genes) == {"p", "n"}
    for _ in range(150):
        candidate = space.random(rng)
        possible = schedules(build_graph(space.spec(candidate)))
        spec = space.spec(candidate, possible[int(rng.integers(len(possible)))])
        read = ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        genes = space.candidate(read)
        assert all(genes[gene] in entry["_value"] for gene, entry in search_space.items())
        sample = json.loads(json.dumps(to_sample(genes, read.schedule)))
        assert model_space.contains(sample)
        again, schedule = from_sample(sample)
        assert again == genes == space.candidate(spec)
        assert space.spec(again, schedule) == spec == read


def test_a_frozen_space_is_the_network():
    head = YoloHead(10, (2, 4))
    space, sample = MCUNetSpace(DEMO, limits(96, 12, head)), {}
    net = space.robust_default(sample)
    candidate, schedule = from_sample(sample)
    assert candidate == DEMO.smallest()
    assert net.spec == DEMO.spec(candidate, schedule)
    assert net.graph == build_graph(net.spec, head)
    h, w = net.spec.resolution
    assert len(net.eval()(torch.zeros(1, 3, h, w))) == 2


def test_samples_that_do_not_fit_are_vetoed():
    space = MCUNetSpace(DEMO, limits())
    small, large = DEMO.smallest(), DEMO.largest()
    per_layer = plan(build_graph(DEMO.spec(small)), Schedule())
    assert per_layer.arena <= 96 * 1024
    assert space.contains(to_sample(small, Schedule()))
    for sample, message in [
        (to_sample(large, Schedule()), "bytes of sram"),
        (to_sample(small, Schedule()) | {"n": 2}, "per layer is p = 1 and n = 0"),
        (to_sample(small, Schedule()) | {"p": 2}, "per layer is p = 1 and n = 0"),
        (to_sample(small, Schedule((2, 2), 11)), "n = 11"),
        (to_sample(small, Schedule()) | {"r": 97}, "97 not found"),
        ({k: v for k, v in to_sample(small, Schedule()).items() if k != "n"}, "Label n is missing"),
    ]:
        with pytest.raises(SampleValidationError, match=message):
            space.freeze(sample)
    few = MCUNetSpace(DEMO, limits(kb=300, mmacs=4))
    with pytest.raises(SampleValidationError, match="MACs needed, 4,000,000 allowed"):
        few.freeze(to_sample(small | {"r": 128}, Schedule((4, 4), 5)))


def test_limits_that_nothing_meets_are_said_at_once():
    with pytest.raises(StrategyError, match=r"smallest network of space demo.*MACs needed, 100,000 allowed"):
        MCUNetSpace(DEMO, limits(mmacs=0.1))


def test_samples_with_a_choice_of_halo():
    """A knob where there is a choice; per layer is only clip, and what the limits do not allow is vetoed."""
    space, rng = MCUNetSpace(DEMO, replace(limits(kb=60, mmacs=1000), halos=("cache",))), np.random.default_rng(0)
    samples = []
    for _ in range(6):
        sample = {}
        space.fits.random(sample, rng)
        samples.append(sample)
        assert space.freeze(sample).spec.schedule.halo == sample["halo"] == ("cache" if sample["n"] else "clip")
    sample = next(s for s in samples if s["n"])
    with pytest.raises(SampleValidationError, match="halo = clip: allowed are cache"):
        space.freeze(sample | {"halo": "clip"})
    assert "halo" not in MCUNetSpace(DEMO, limits()).fits.schedule


@pytest.mark.parametrize(
    "strategy",
    [
        Random(seed=0),
        RegularizedEvolution(population_size=6, sample_size=3, seed=0),
        GridSearch(seed=0),
        GridSearch(shuffle=False),
    ],
    ids=lambda strategy: repr(strategy)[:22],
)
def test_nnis_own_strategies_search_the_space(experiment, strategy):
    evaluator = Macs()
    done = experiment(strategy, evaluator, most=20)
    assert len(evaluator.samples) == 20
    if not isinstance(strategy, GridSearch):  # which begins with the smallest networks
        assert {sample["p"] for sample in evaluator.samples} > {1}
    for sample in evaluator.samples:
        candidate, schedule = from_sample(sample)
        found = plan(build_graph(DEMO.spec(candidate)), schedule)
        assert found.arena <= 96 * 1024 and found.macs <= 12_000_000
        if isinstance(strategy, (Random, GridSearch)):  # p and n are not drawn, but the scheduler's
            assert limits().check(DEMO.spec(candidate)).schedule == schedule
    (best,) = done.export_top_models(1, formatter="instance")
    assert best.graph.macs / 1e6 == max(map(macs_of, evaluator.samples))


def test_the_grid_is_every_network_that_fits(experiment):
    """With the scheduler's p and n, each network once."""
    stages = [dict(stage, k=[3, 7], e=[3, 4], d=[1], w=[1.0]) for stage in DEMO.to_dict()["stages"][:3]]
    space, evaluator = Space.from_dict(DEMO.to_dict() | {"name": "few", "stages": stages}), Macs(score=lambda _: 1)
    experiment(GridSearch(), evaluator, MCUNetSpace(space, limits(kb=40)))
    expected = []
    for values in product(*space.genes.values()):
        candidate = dict(zip(space.genes, values, strict=True))
        if isinstance(best := limits(kb=40).check(space.spec(candidate)), Fit):
            expected.append(to_sample(candidate, best.schedule))
    assert 0 < len(expected) < len(list(product(*space.genes.values())))
    assert len({sample["p"] for sample in expected}) > 1
    assert sorted(evaluator.samples, key=repr) == sorted(expected, key=repr)


def test_tpe_is_refused_by_name(experiment):
    """It would draw p and n by themselves."""
    with pytest.raises(StrategyError, match="TPE draws every knob by itself"):
        experiment(TPE(), Macs(), most=3)


def test_every_strategy_of_nni_is_known():
    """Three run, TPE is refused, and the others name the library that they need."""
    run = {"Random", "RegularizedEvolution", "GridSearch"}
    need = {"PolicyBasedRL": "tianshou"}
    need |= dict.fromkeys(("DARTS", "ENAS", "GumbelDARTS", "Proxyless", "RandomOneShot"), "pytorch_lightning")
    assert {"Strategy", "TPE", "TPEStrategy", *run, *need} == {name for name in vars(strategies) if name[0].isupper()}
    for name in (name for name, library in need.items() if not find_spec(library)):
        with pytest.raises(ImportError, match=need[name]):
            getattr(strategies, name)().run()


# --- the strategy


def history(out):
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def told_by_hand(seed=0, **changes):
    """The same search without NNI."""
    evolution = Evolution(DEMO, limits().check, seed, **SMALL | changes)
    while not evolution.done:
        if (proposal := evolution.ask()) is not None:
            evolution.tell(proposal.index, build_graph(DEMO.spec(proposal.candidate)).macs / 1e6)
    return evolution.state_dict()["proposals"]


def test_the_evolution_as_a_strategy(experiment, tmp_path):
    evaluator, out = Macs(), tmp_path / "out"
    done = experiment(EvolutionStrategy(out, **SMALL), evaluator)
    assert history(out) == told_by_hand()
    assert len(evaluator.samples) == 18 == len({DEMO.spec(from_sample(s)[0]) for s in evaluator.samples})
    for proposal, sample in zip(history(out), evaluator.samples, strict=True):
        assert from_sample(sample) == (proposal["candidate"], Schedule(tuple(proposal["p"]), proposal["n"]))
        assert limits().check(DEMO.spec(proposal["candidate"])).schedule == from_sample(sample)[1]
    best = max(history(out), key=lambda p: p["score"])
    spec = DEMO.spec(best["candidate"], Schedule(tuple(best["p"]), best["n"]))
    assert ArchSpec.load(out / "best.json") == spec
    top = done.export_top_models(3)
    assert [model.metric for model in top] == sorted((p["score"] for p in history(out)), reverse=True)[:3]
    assert top[0].executable_model().spec == spec


def test_of_equal_networks_the_cheapest_is_the_first_model(experiment, tmp_path):
    done = experiment(EvolutionStrategy(tmp_path, population=6, iterations=0), Macs(score=lambda _: 0.5))
    best = min(history(tmp_path), key=lambda p: p["macs"])
    (top,) = done.export_top_models(1)
    assert best["index"] and from_sample(top.sample)[0] == best["candidate"]


def test_random_search_is_the_evolution_without_parents(experiment, tmp_path):
    experiment(EvolutionStrategy(tmp_path, parents=0, population=6, iterations=1), Macs())
    assert history(tmp_path) == told_by_hand(parents=0, iterations=1)


def test_a_budget_cuts_the_search_short_and_another_goes_on(experiment, tmp_path, capsys):
    experiment(EvolutionStrategy(tmp_path, **SMALL), first := Macs(), most=8)
    assert len(first.samples) == 8 and [p["told"] for p in history(tmp_path)].count(True) == 8
    assert "was cut short after 8 candidates: a limit of NNI's (max_trial_number" in capsys.readouterr().err
    assert not (tmp_path / "done.json").exists()
    experiment(EvolutionStrategy(tmp_path, **SMALL), second := Macs())
    assert len(second.samples) == 10 and history(tmp_path) == told_by_hand()
    assert finished(tmp_path) and "cut short" not in capsys.readouterr().err


def test_a_new_search_moves_one_that_has_ended_to_previous(experiment, tmp_path):
    experiment(EvolutionStrategy(tmp_path / "out", **SMALL), Macs())
    (tmp_path / "out/notes.txt").write_text("mine")
    first = contents(tmp_path / "out")
    experiment(EvolutionStrategy(tmp_path / "out", **SMALL), evaluator := Macs())
    assert evaluator.samples == [] and contents(tmp_path / "out") == first  # the same search: nothing is left to do
    experiment(EvolutionStrategy(tmp_path / "out", seed=1, **SMALL), Macs())
    assert contents(tmp_path / "out/previous") | {"notes.txt": b"mine"} == first
    assert history(tmp_path / "out") == told_by_hand(seed=1) and finished(tmp_path / "out")
    assert (tmp_path / "out/notes.txt").exists()


def test_a_folder_of_other_files_is_refused(experiment, tmp_path):
    (tmp_path / "best.json").write_text("mine")
    with pytest.raises(UserError, match=r"holds best\.json but no search\.json"):
        experiment(EvolutionStrategy(tmp_path, **SMALL), Macs())
    assert (tmp_path / "best.json").read_text() == "mine"


def test_an_interruption_loses_the_candidate_being_evaluated_only(experiment, tmp_path, capsys):
    class Interrupted(Macs):
        def _execute(self, model):
            if len(self.samples) == 7:
                raise KeyboardInterrupt
            super()._execute(model)

    experiment(EvolutionStrategy(tmp_path, **SMALL), Interrupted())  # NNI's: Ctrl-C stops an experiment quietly
    assert [p["told"] for p in history(tmp_path)].count(True) == 7 and not finished(tmp_path)
    assert "was cut short after 7 candidates: Ctrl-C; run it again to go on" in capsys.readouterr().err
    experiment(EvolutionStrategy(tmp_path, **SMALL), Macs())
    assert history(tmp_path) == told_by_hand()


def test_an_error_that_ends_the_experiment_is_no_score(experiment, tmp_path):
    with pytest.raises(RuntimeError, match="no luck"):
        experiment(EvolutionStrategy(tmp_path, **SMALL), Macs(fail=[5]))
    assert [p["told"] for p in history(tmp_path)].count(True) == 4
    experiment(EvolutionStrategy(tmp_path, **SMALL), Macs())
    assert history(tmp_path) == told_by_hand()


def test_an_error_that_nni_goes_on_after_is_a_candidate_without_a_score(experiment, tmp_path):
    experiment(EvolutionStrategy(tmp_path, **SMALL), Macs(fail=[5]), continue_on_failure=True)
    assert len(history(tmp_path)) == 18
    assert [p["index"] for p in history(tmp_path) if p["score"] is None] == [4]


def test_a_search_in_which_everything_fails_says_so(experiment, tmp_path):
    with pytest.raises(StrategyError, match="every evaluation has failed"):
        experiment(EvolutionStrategy(tmp_path, **SMALL), Macs(fail=range(99)), continue_on_failure=True)


def test_nni_saves_the_strategy_and_resumes_it(experiment):
    first = experiment(EvolutionStrategy(**SMALL), Macs(), most=8)
    first.stop()
    again, evaluator = EvolutionStrategy(**SMALL), Macs()
    experiment(again, evaluator, most=99, resume=first.id)
    assert len(evaluator.samples) == 10
    assert again.evolution.state_dict()["proposals"] == told_by_hand()
    assert len(list(again.list_models(sort=False))) == 18  # those of before too

    def plain(value):
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(again.state_dict())


def test_an_older_state_does_not_undo_the_folders(experiment, tmp_path):
    done = experiment(EvolutionStrategy(tmp_path, **SMALL), Macs(), most=8)
    old = done.strategy.state_dict()
    again = EvolutionStrategy(tmp_path, **SMALL)
    experiment(again, Macs())
    again.load_state_dict(json.loads(json.dumps(old)))
    assert len(again.state_dict()["proposals"]) == 18


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda out: (EvolutionStrategy(out, **SMALL | {"population": 7}), None), "its population is"),
        (lambda out: (EvolutionStrategy(out, seed=1, **SMALL), None), "its seed is"),
        (
            lambda out: (EvolutionStrategy(out, **SMALL), MCUNetSpace(DEMO, limits(kb=80))),
            "its limits is",
        ),
        (
            lambda out: (EvolutionStrategy(out, **SMALL), MCUNetSpace(replace(DEMO, name="x"), limits())),
            "its space is",
        ),
    ],
)
def test_a_folder_of_another_search_is_refused(experiment, tmp_path, make, message):
    experiment(EvolutionStrategy(tmp_path / "out", **SMALL), Macs(), most=2)
    before = history(tmp_path / "out")
    strategy, space = make(tmp_path / "out")
    with pytest.raises(StateError, match=message):
        experiment(strategy, Macs(), space)
    assert history(tmp_path / "out") == before
    (tmp_path / "out/search.json").unlink()
    with pytest.raises(UserError, match=r"no search\.json"):
        experiment(EvolutionStrategy(tmp_path / "out", **SMALL), Macs())


def test_no_other_space_is_searched(experiment):
    from nni.nas.nn.pytorch import ModelSpace

    class Other(ModelSpace):
        pass

    with pytest.raises(StrategyError, match="no MCUNetSpace"):
        experiment(EvolutionStrategy(**SMALL), Macs(), Other())


# --- killed


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_strategy import *

class Slow(Macs):
    def _execute(self, model):
        time.sleep(0.05)
        super()._execute(model)

config = NasExperimentConfig("sequential", "simplified", experiment_working_directory=sys.argv[2] + "/nni")
strategy = EvolutionStrategy(sys.argv[2] + "/out", **SMALL)
NasExperiment(MCUNetSpace(DEMO, limits()), Slow(), strategy, config).run()
"""


def test_killed_at_any_moment_it_ends_with_the_same_history(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), str(tmp_path)]
    env = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    path = tmp_path / "out/history.jsonl"
    for wanted in (3, 9):  # in the first generation, and in the second
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and (not path.exists() or path.read_text().count('"told": true') < wanted):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert wanted <= path.read_text().count('"told": true') < 18
    last = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert last.returncode == 0, last.stderr
    assert history(tmp_path / "out") == told_by_hand()


# --- the super-network as an evaluator


def train_tiny(path, seed=0):
    """A super-network of two steps; returns its space and data."""
    torch.set_num_threads(1)  # on a machine that is shared two threads wait for each other
    from nni_mcunet.search.data import open_data
    from nni_mcunet.search.supernet.training import Recipe, train

    space = Space.from_dict(DEMO.to_dict() | {"name": "tiny", "r": [32]})
    data = open_data({"kind": "digits", "held_out": 20, "test": 10, "calibration": [1, 8]})
    train(space, Recipe(largest=1, shared=1, batch=4, seed=seed), path, data)
    return space, data


def test_a_search_scored_by_a_super_network(experiment, tmp_path):
    from nni_mcunet.search.supernet.training import evaluate, load_supernet

    space, data = train_tiny(tmp_path / "supernet.pth")
    strategy = EvolutionStrategy(tmp_path / "out", population=2, parents=1, iterations=1)
    experiment(strategy, SupernetEvaluator(tmp_path / "supernet.pth", data), MCUNetSpace(space))
    for proposal in history(tmp_path / "out"):
        assert proposal["score"] == evaluate(*load_supernet(tmp_path / "supernet.pth"), proposal["candidate"], data)
    evaluator = SupernetEvaluator(tmp_path / "supernet.pth", data)
    with pytest.raises(StrategyError, match="of another space tiny than this demo"):
        experiment(Random(seed=0), evaluator, most=1)


def test_a_super_network_that_was_trained_again_is_not_gone_on_with(experiment, tmp_path):
    """Half of the scores would be another's."""
    path, small = tmp_path / "supernet.pth", dict(population=2, parents=1, iterations=1)
    space, data = train_tiny(path)
    experiment(EvolutionStrategy(tmp_path / "out", **small), SupernetEvaluator(path, data), MCUNetSpace(space), most=1)
    path.unlink()
    train_tiny(path, seed=1)
    with pytest.raises(StateError, match="its super-network is"):
        experiment(EvolutionStrategy(tmp_path / "out", **small), SupernetEvaluator(path, data), MCUNetSpace(space))
    described = json.loads((tmp_path / "out/search.json").read_text())
    del described["weights"]  # as an earlier version wrote it
    (tmp_path / "out/search.json").write_text(json.dumps(described))
    experiment(EvolutionStrategy(tmp_path / "out", **small), SupernetEvaluator(path, data), MCUNetSpace(space))
    assert finished(tmp_path / "out")


def test_an_evaluator_that_is_to_be_sent_away_names_the_engine(tmp_path):
    evaluator = object.__new__(SupernetEvaluator)
    with pytest.raises(StrategyError, match="NasExperimentConfig\\('sequential', 'simplified'\\)"):
        evaluator._dump()


def test_results_cannot_go_where_a_file_is(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="is a file: name another folder"):
        EvolutionStrategy(out=tmp_path / "out")
