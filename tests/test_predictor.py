"""The sieve of a search: what the predictor reads, what it keeps, and that a search with it goes on after a kill."""

import json
import runpy

import numpy as np
import pytest
from conftest import ROOT
from stub_trial import score
from test_objectives import config, run
from test_strategy import SMALL, Macs, experiment, limits
from test_strategy import history as history_of
from test_tuner import Manager, mode

from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.search.config import ConfigError
from nni_mcunet.search.evolution import FEWEST, Evolution
from nni_mcunet.search.nni.strategy import EvolutionStrategy, StrategyError
from nni_mcunet.search.predictor import Predictor, is_there
from nni_mcunet.search.run.run_folder import StateError, begin
from nni_mcunet.search.space import load_space

__all__ = ["experiment", "mode"]  # fixtures
DEMO = load_space("demo")
SIEVED = dict(population=20, parents=12, iterations=2, sieve=3)


def additive(seed):
    """A score that each gene of a block that is there adds to."""
    rng = np.random.default_rng(seed)
    worth = {(gene, c): rng.normal() for gene, choices in DEMO.genes.items() for c in choices}
    return lambda candidate: sum(worth[gene, c] for gene, c in candidate.items() if is_there(gene, candidate))


def draws(count, seed=0):
    rng = np.random.default_rng(seed)
    return [DEMO.random(rng) for _ in range(count)]


def test_the_features_are_those_of_the_network():
    """Two candidates of one network have the same, two networks have others."""
    predictor = Predictor(DEMO, some := draws(60), range(60))
    found = predictor.features(some)
    assert set(np.unique(found)) == {0.0, 1.0} and found.shape == (60, sum(map(len, DEMO.genes.values())))
    assert list(found.sum(1)) == [sum(is_there(gene, candidate) for gene in DEMO.genes) for candidate in some]
    shallow = some[0] | {"s2_d": 1}
    others = [shallow | {"s2_b1_k": k, "s2_b1_e": e} for k in (3, 5, 7) for e in (3, 4)]
    assert len({row.tobytes() for row in predictor.features(others)}) == 1
    assert len({DEMO.spec(candidate) for candidate in others}) == 1
    pairs = {row.tobytes(): DEMO.spec(candidate) for row, candidate in zip(found, some, strict=True)}
    assert len(pairs) == len(set(pairs.values())) == len({DEMO.spec(candidate) for candidate in some})


@pytest.mark.parametrize("seed", range(3))
def test_what_genes_add_is_found_in_noise(seed):
    truth, rng = additive(seed), np.random.default_rng(seed)
    known, asked = draws(200, seed), draws(100, seed + 10)
    scores = [truth(candidate) + rng.normal(0, 0.3) for candidate in known]
    found = Predictor(DEMO, known, scores).predict(asked)
    assert np.corrcoef(found, [truth(candidate) for candidate in asked])[0, 1] > 0.97
    assert (found == np.round(found, 9)).all()


def test_a_generation_keeps_what_is_predicted_best(monkeypatch):
    """The first generation is judged as it is drawn. Half of each later one is its own, half the best of three rounds,
    bred from the best by what the scores before teach."""
    made, asked, init, predict = [], [], Predictor.__init__, Predictor.predict

    def watched(self, space, known, scores):
        init(self, space, known, scores)
        made.append((known, scores))
        asked.append([])

    def predicted(self, candidates):
        asked[-1].append((candidates, predict(self, candidates)))
        return asked[-1][-1][1]

    monkeypatch.setattr(Predictor, "__init__", watched)
    monkeypatch.setattr(Predictor, "predict", predicted)
    lines = run(Evolution(DEMO, limits().check, 0, **SIEVED), additive(0))
    assert len(made) == 2 and len(lines) == 60 and [p["index"] for p in lines] == list(range(60))
    for generation, ((known, scores), calls) in enumerate(zip(made, asked, strict=True), 1):
        before = [p for p in lines if p["generation"] < generation]
        assert known == [p["candidate"] for p in before] and scores == [p["score"] for p in before]
        sizes = [len(candidates) - len(before) for candidates, _ in calls[:2]] + [len(calls[2][0])]
        assert len(calls) == 3 and sizes == sorted(sizes) and sizes[0] <= 20 < sizes[-1] <= 50
        candidates, expected = calls[-1]  # without the half that is kept anyway
        kept = [p["candidate"] for p in lines if p["generation"] == generation]
        best = sorted(range(len(candidates)), key=lambda at: (-expected[at], at))[:10]
        assert kept[10:] == [candidates[at] for at in sorted(best)]
        assert kept[:10] == calls[0][0][len(before) :][:10] and not any(one in candidates for one in kept[:10])
    assert len({DEMO.spec(p["candidate"]) for p in lines}) == 60


def test_it_waits_for_scores(monkeypatch):
    """A line through five points says nothing."""
    monkeypatch.setattr(Predictor, "__init__", lambda *_: pytest.fail("too early"))
    assert len(run(Evolution(DEMO, limits().check, 0, FEWEST - 1, 3, 1, sieve=4), additive(0))) == 2 * (FEWEST - 1)


def test_it_finds_better_networks_with_as_many_evaluations():
    """Two seeds: 120 evaluations with the sieve are as good as 300 without."""
    found = []
    for seed in range(2):
        ways = {"few": (3, 1), "many": (9, 1), "sifted": (3, 4)}
        lines = {way: run(Evolution(DEMO, limits().check, seed, 30, 10, generations, sieve=sieve), additive(seed))
                 for way, (generations, sieve) in ways.items()}  # fmt: skip
        found.append({way: max(p["score"] for p in own) for way, own in lines.items()})
        assert len(lines["sifted"]) == len(lines["few"]) == 120 and found[-1]["sifted"] > found[-1]["few"]
    assert sum(one["sifted"] for one in found) > 0.97 * sum(one["many"] for one in found)


def test_cut_anywhere_it_ends_the_same():
    def fresh():
        return Evolution(DEMO, limits().check, 1, **SIEVED)

    whole, rng = run(fresh(), additive(1)), np.random.default_rng(0)
    for length in (0, 13, 20, 31, 41, 60):
        cut = json.loads(json.dumps(whole[:length]))
        for at in np.flatnonzero(rng.random(length) < rng.choice([0, 0.3, 1])):
            cut[at] |= {"score": None, "told": False}
        again = fresh()
        again.load_state_dict({"proposals": cut})
        assert run(again, additive(1)) == whole, f"cut behind {length} lines"


def test_a_candidate_that_failed_is_not_learnt_from():
    evolution = Evolution(DEMO, limits().check, 0, **SIEVED)
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            evolution.tell(proposal.index, None if proposal.index % 9 == 0 else score(proposal.candidate))
    assert len(evolution.proposals) == 60


def test_the_tuner_and_the_strategy_have_it(experiment, tmp_path):
    given = dict(population=20, parents=5, iterations=1, batch=20, sieve=3)
    whole = Manager(tmp_path, slots=1, out=str(tmp_path / "whole"), **given).to_the_end()
    manager = Manager(tmp_path, slots=1, **given)
    manager.report(0)
    assert Manager(tmp_path, slots=1, mode="resume", **given).to_the_end() == whole
    plain = Manager(tmp_path, slots=1, out=str(tmp_path / "plain"), **given | {"sieve": 1}).to_the_end()
    assert plain.splitlines()[:20] == whole.splitlines()[:20] and plain != whole
    with pytest.raises(StateError, match="its sieve is 3, not null"):
        Manager(tmp_path, slots=1, mode="resume", **given | {"sieve": 1})
    how = SMALL | {"population": 20, "sieve": 3}
    experiment(EvolutionStrategy(tmp_path / "nas", **how), Macs())
    by_hand = run(
        Evolution(DEMO, limits().check, 0, **how), lambda c: build_graph(DEMO.spec(c), limits().yolo).macs / 1e6
    )
    assert history_of(tmp_path / "nas") == by_hand


def test_wrong_words_are_one_line(tmp_path):
    for sieve in (0, 1.5, "2", 2000):
        with pytest.raises(ConfigError, match=f"sieve is {sieve!r}: expected an integer from 1"):
            config(tmp_path, sieve=sieve)
        with pytest.raises(StrategyError, match=f"sieve is {sieve!r}: expected an integer from 1"):
            EvolutionStrategy(sieve=sieve)
    for make in (lambda: config(tmp_path, sieve=2, objectives=["sram"]),
                 lambda: EvolutionStrategy(sieve=2, objectives=["sram"])):  # fmt: skip
        with pytest.raises((ConfigError, StrategyError), match="leave it or objectives out"):
            make()
    with pytest.raises(ConfigError, match="objectives is"):
        config(tmp_path, objectives=[["sram"]])
    made = config(tmp_path)
    begin(made, made.evolution())
    assert "sieve" not in json.loads((tmp_path / "out/search.json").read_text())["settings"]


@pytest.mark.parametrize(
    "name, sizes, way",
    [
        ("search_predictor", ("--most", 200, "--sieved", 60), "sieve of 8, 40 a generation"),
        ("search_front", ("--population", 8, "--iterations", 1, "--parents", 4), "one search, random"),
    ],
)
def test_what_the_pages_say_of_it_can_be_counted_again(name, sizes, way, tmp_path, monkeypatch):
    """The two programs of docs/results on the synthetic score, at a small size."""
    out, program = tmp_path / "found.json", str(ROOT / f"benchmarks/{name}.py")
    monkeypatch.setattr("sys.argv", [program, "--seeds", "1", *map(str, sizes), "--out", str(out)])
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    runpy.run_path(program, run_name="__main__")
    assert way in json.loads(out.read_text())["results"]["0"] and f"| {way} |" in out.with_suffix(".md").read_text()
