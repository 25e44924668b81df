"""After a search: the front, the networks it leaves with their weights, and the pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Limits
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.run import export, rescore, rescored, run_folder
from nni_mcunet.search.run.history import best_of, pareto_front, read_history
from nni_mcunet.search.run.report import network_bars, report, write_markdown
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.supernet import build_supernet, slice_net

DEMO = load_space("demo")


@pytest.fixture(scope="module")
def history():
    """Report on a search with a failed candidate and one that was never told."""
    evolution = Evolution(DEMO, Limits(get_board("f412").with_arena(48 * 1024)).check, 0, 8, 4, 2)
    rng = np.random.default_rng(0)
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            score = None if proposal.index == 3 else 0.1 * np.log(proposal.macs) + rng.normal(0, 0.02) - 1
            evolution.tell(proposal.index, score if score is None else round(float(score), 3))
    lines = evolution.state_dict()["proposals"]
    return [*lines[:-1], lines[-1] | {"score": None, "told": False}]


def write_history(history, out):
    write_atomic(out / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history))


def dominates(a, b, costs):
    pairs = [(-a["score"], -b["score"]), *((a[cost], b[cost]) for cost in costs)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@pytest.mark.parametrize("costs", [("sram", "macs"), ("sram",), ("macs",)])
def test_the_front_is_what_nothing_dominates(history, costs):
    scored = [p for p in history if p["score"] is not None]
    front = pareto_front(history, costs)
    undominated = [p for p in scored if not any(dominates(q, p, costs) for q in scored)]
    assert sorted(p["index"] for p in front) == sorted(p["index"] for p in undominated)
    assert best_of(history) in front and 2 <= len(front) < len(scored)
    assert [p[costs[0]] for p in front] == sorted(p[costs[0]] for p in front)


def test_equals_are_on_the_front_once():
    lines = [{"index": i, "score": 0.5, "sram": 1, "macs": 2} for i in range(3)]
    assert [p["index"] for p in pareto_front(lines)] == [0]


def test_a_history_without_a_score_is_refused(history, tmp_path):
    for given in ([], [line | {"score": None} for line in history]):
        with pytest.raises(UserError, match="no score yet"):
            report(DEMO, given, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_is_three_pictures(history, tmp_path):
    report(DEMO, history, tmp_path)
    for name in ("search.png", "pareto.png", "winner.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 500
            assert len(image.convert("RGB").resize((200, 100)).getcolors(20000)) > 40, f"{name} is all but empty"


def test_the_winner_is_drawn_block_by_block():
    spec = DEMO.spec(DEMO.largest(), Schedule((3, 3), 4))
    stages = network_bars(spec)
    assert [size for size, _ in stages] == ["64×64", "64×64", "32×32", "16×16", "8×8", "8×8", "4×4", "1×1"]
    assert [bars for _, bars in stages][:3] == [[(0, 1, 16)], [(0, 1, 8)], [(7, 4, 16), (7, 4, 16)]]
    assert stages[-1][1] == [(0, 1, 10)]
    assert sum(len(bars) for _, bars in stages) == spec.depth + 1


@pytest.fixture
def exported(history, tmp_path, monkeypatch):
    """(settings, folder) of a search on an untrained super-network; re-calibration is not what is tested here."""
    torch.manual_seed(0)
    supernet = build_supernet(DEMO).eval()

    def sliced(space, net, candidate, *_):
        return slice_net(net, build_graph(space.spec(candidate)))

    monkeypatch.setattr(export, "load_supernet", lambda path, data: (DEMO, supernet))
    monkeypatch.setattr(export, "specialise", sliced)
    write_history(history, tmp_path)
    return SearchConfig.from_dict(dict(space="demo", board="f412", supernet="x.pth", out=str(tmp_path))), tmp_path


def is_complete(folder, name, line):
    """The architecture is the line's, schedule included, and the weights are those of its network."""
    spec = ArchSpec.load(folder / f"{name}.json")
    assert spec == DEMO.spec(line["candidate"], Schedule(line["p"], line["n"]))
    Net(build_graph(spec)).load_state_dict(torch.load(folder / f"{name}.pth", weights_only=True))
    return True


def test_the_best_is_exported(exported, history):
    config, out = exported
    spec = export.export_best(config, out)
    assert is_complete(out, "best", best_of(history)) and spec == ArchSpec.load(out / "best.json")


def test_only_the_super_network_that_was_judged_is_exported(exported, monkeypatch):
    """Retrained under the same name, for the same space and data, its slices are others than those of the history."""
    config, out = exported
    config = replace(config, supernet=str(out / "x.pth"))
    (out / "x.pth").write_bytes(b"judged")
    history = (out / "history.jsonl").rename(out.parent / "history")
    run_folder.begin(config, config.evolution())
    history.rename(out / "history.jsonl")
    export.export_best(config, out)
    (out / "x.pth").write_bytes(b"trained again")
    for write in (export.export_best, export.export_pareto, export.finish):
        with pytest.raises(run_folder.StateError, match=r"x\.pth is not the super-network that the search in"):
            write(config, out)
    with pytest.raises(run_folder.StateError, match="its super-network is"):
        run_folder.restore(config, config.evolution(), begun=True)
    search = json.loads((out / "search.json").read_text())
    del search["weights"]  # as an earlier version wrote it
    (out / "search.json").write_text(json.dumps(search))
    export.export_best(config, out)


def test_a_search_ends_well_where_its_data_are_not(exported):
    config, out = exported
    assert "no best.pth" not in export.finish(config, out) and (out / "best.pth").exists()
    (out / "best.pth").unlink()
    elsewhere = replace(config, data={"kind": "folder", "root": str(out / "elsewhere")})
    assert "no best.pth, it needs the data" in export.finish(elsewhere, out)
    assert (out / "winner.png").exists() and not (out / "best.pth").exists()


def test_the_front_is_exported_and_replaces_an_older_one(exported, history):
    config, out = exported
    (out / "pareto").mkdir()
    (out / "pareto" / "99.json").write_text("old")
    specs, front = export.export_pareto(config, out), pareto_front(history)
    names = [f"{at:02d}" for at in range(len(front))]
    assert sorted(p.name for p in (out / "pareto").iterdir()) == sorted(
        f"{name}.{ending}" for name in names for ending in ("json", "pth")
    )
    assert all(is_complete(out / "pareto", name, line) for name, line in zip(names, front, strict=True))
    assert specs == [ArchSpec.load(out / "pareto" / f"{name}.json") for name in names]
    assert json.loads((out / "pareto.json").read_text()) == front
    assert read_history(out) == history


def test_the_best_are_scored_again(exported, history, monkeypatch):
    """Each with so many draws; the cheaper of equals is taken, and it is written as an export is."""
    config, out = exported
    seen = []

    def drawn(space, net, candidate, data, seed):
        seen.append(seed)
        return 0.5 + 0.01 * (seed % 2)

    monkeypatch.setattr(rescore, "evaluate", drawn)
    found = rescore.rescore(config, out, best=3, draws=4)
    assert seen == [1, 2, 3, 4] * 3 and len(found.rows) == 3  # the search's own draw, 0, has chosen them
    assert found.chosen["macs"] == min(row["macs"] for row in found.rows)  # all are equal
    line = next(line for line in history if line["index"] == found.chosen["index"])
    assert is_complete(out, "chosen", line)
    assert json.loads((out / "rescored.json").read_text())["chosen"] == line["index"]
    assert "<- chosen" in rescored.table(found) and rescored.read_rescored(out) == found
    for best, draws in ((3, 1), (0, 2)):
        with pytest.raises(UserError, match="expected 1 and 2 at least"):
            rescore.rescore(config, out, best, draws)


def test_what_counts_as_equal():
    """Two standard errors of a difference, of the spread that all share."""

    def row(index, macs, *scores):
        return {"index": index, "macs": macs, "sram": 1, "scores": list(scores), "mean": sum(scores) / len(scores)}

    rows = [row(0, 9, 0.80, 0.82), row(1, 5, 0.79, 0.81), row(2, 1, 0.70, 0.72)]
    found = rescored.judged(rows)
    assert found.error == pytest.approx(0.01)
    assert [r["index"] for r in found.rows] == [0, 1, 2] and found.chosen["index"] == 1
    assert rescored.judged([row(0, 9, 0.80, 0.80), row(1, 5, 0.79, 0.79)]).chosen["index"] == 0  # no noise at all


def test_the_report_tells_what_is_noise(exported, history):
    """The search's own score, the mean of other draws with its 95 %, and which network to take."""
    config, out = exported

    def told():
        return write_markdown(config, DEMO, history, out, "found").read_text()

    assert "`mcunet search rescore` says how much" in told()
    kept = {"macs": 2_000_000, "sram": 2048, "candidate": {}, "p": [1, 1], "n": 0}
    rows = [kept | {"index": 3, "score": 0.9, "scores": [0.80, 0.82], "mean": 0.81}]
    rows += [kept | {"index": 1, "score": 0.8, "scores": [0.70, 0.72], "mean": 0.71, "macs": 1}]
    found = rescored.judged(rows)
    write_json(out / "rescored.json", found.to_dict())
    assert "| 3 | 90.00% | 81.00% ± 2.00% | 80.00% to 82.00% | 2.0 | 2.00 |" in told()
    assert "own scores are +9.00% off these means" in told() and "Candidate 3 is chosen: the best," in told()
    for row in rows:
        del row["score"]  # of a version whose means had the search's draw in them
    write_json(out / "rescored.json", found.to_dict())
    assert "`mcunet search rescore` says how much" in told()
    for damaged in ("[]", '{"rows": [{"index": 1, "score": 1}], "error": 0, "chosen": 7}'):
        (out / "rescored.json").write_text(damaged)
        with pytest.raises(UserError, match=r"rescored\.json is damaged"):
            told()


def test_a_space_for_detection_exports_a_backbone(history, tmp_path, monkeypatch):
    """Its super-network has a classifier, which the exported network has not."""
    backbone = replace(DEMO, classes=None)
    monkeypatch.setattr(export, "load_supernet", lambda path, data: (backbone, build_supernet(DEMO).eval()))
    write_history(history[:1], tmp_path)
    args = dict(space="demo", board="f412", supernet="x.pth", out=str(tmp_path))
    spec = export.export_best(
        SearchConfig.from_dict(args | {"data": {"kind": "digits", "calibration": [1, 8]}}), tmp_path
    )
    assert spec.classes is None
    net = Net(build_graph(spec))
    net.load_state_dict(torch.load(tmp_path / "best.pth", weights_only=True))
    assert net.layers["stem"].bn.running_mean.abs().sum() > 0  # re-calibrated
