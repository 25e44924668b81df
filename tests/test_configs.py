"""Every experiment in configs/nni: it loads, its tuner's settings are right, and its limits leave networks to find."""

import json

import pytest
from conftest import ROOT

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.latency import milliseconds
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Limits
from nni_mcunet.search.nni.experiment_file import load_config
from nni_mcunet.search.space import load_space

CONFIGS = ROOT / "configs" / "nni"
PAPER = sorted(p.stem for p in [*CONFIGS.glob("imagenet_*.yml"), *CONFIGS.glob("vww_*.yml")])


def settings(name):
    config = load_config(CONFIGS / f"{name}.yml")
    return config, SearchConfig.from_dict(config["tuner"]["classArgs"], config["trialCodeDirectory"])


def test_what_deviates_from_the_paper_is_said_where_it_is_used():
    flash = get_board("stm32f412").model_limit // 1024
    assert f"{flash} kB of the flash are the network's" in (ROOT / "configs/nni/imagenet_f412.yml").read_text()
    for name in ("mcunet384", "mcunet1280"):
        assert load_space(name).width == "stage"
    assert "in the paper for each" in (ROOT / "nni_mcunet/search/spaces/mcunet384.yml").read_text()


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_experiment_is_ready_to_run(name):
    config, search = settings(name)
    assert config["experimentName"] == name and search.out == str(ROOT / "out" / "search" / name)
    assert search.trials == 62
    assert (search.population, search.iterations, search.batch, search.mutation) == (100, 30, 50, 0.1)
    assert search.parents == (0 if name.endswith("random") else 20)
    assert search.data["calibration"] == [20, 64] and search.data["root"].startswith(str(ROOT / "data"))
    limits, evolution = search.limits(), search.evolution(config["searchSpace"])
    evolution.population = 3
    for _ in range(3):
        proposal = evolution.ask()
        graph = build_graph(evolution.space.spec(proposal.candidate))
        found = plan(graph, Schedule(proposal.p, proposal.n))
        assert found.arena == proposal.sram <= limits.board.arena_limit
        assert found.flash == proposal.flash <= limits.board.model_limit
        assert search.patches != (1,) or proposal.p == [1, 1]
        assert search.max_latency_ms is None or milliseconds(found, limits.board) <= search.max_latency_ms


def test_an_ablation_differs_in_what_it_is_about():
    assert settings("imagenet_f412_per_layer")[1].patches == settings("vww_f412_per_layer")[1].patches == (1,)
    whole, each = settings("imagenet_f412")[1], settings("imagenet_f412_per_layer")[1]
    assert whole.limits().board == each.limits().board and whole.supernet == each.supernet
    assert "w" in settings("imagenet_f412_uniform")[1].evolution().space.genes
    assert "s1_b0_w" in settings("imagenet_f412_block")[1].evolution().space.genes


def test_the_searches_have_folders_of_their_own():
    outs = [settings(name)[1].out for name in PAPER]
    assert len(set(outs)) == len(outs) >= 10


def test_the_studys_winners_need_what_its_table_says():
    """docs/results/search.json, of benchmarks/search_study.py: the planner of today needs no more. The study was made
    before outputs could lie over inputs."""
    study = json.loads((ROOT / "docs/results/search.json").read_text())
    space, board = load_space(str(ROOT / study["space"])), get_board(study["board"])
    assert f"{space.size:.3g}" == f"{study['space_size']:.3g}" and len(study["results"]) == 9
    for row in study["results"]:
        patches = (1,) if row["search"] == "per layer" else (1, 2, 3, 4)
        found = Limits(board, patches=patches).check(space.spec(row["candidate"]))
        assert found.arena <= row["sram"] and found.macs <= row["macs"]
