"""Replace files of our own; leave a file of others under the same name, and say so in one line."""

import io
import json
import pickle
from collections import OrderedDict
from types import SimpleNamespace

import detection

# isort: split
import numpy as np
import pytest
import torch
from conftest import ROOT
from matplotlib import pyplot as plt
from mmengine.config import Config
from mmengine.logging import MMLogger
from nets import block_graph, random_model

from detection.training.testing import _Dump
from detection.training.work_dir import HEAD, WorkDirRunner, check_work_dir
from nni_mcunet.api.deployment import Report
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_atomic, write_figure, write_json
from nni_mcunet.core.outputs import check_outputs, check_own_report, marked
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import save_onnx
from nni_mcunet.search.data import open_data
from nni_mcunet.search.supernet.training import weights_file


def zipped(save, *values) -> bytes:
    save(file := io.BytesIO(), *values)
    return file.getvalue()


def figure(write, path):
    drawn, axes = plt.subplots()
    axes.plot([1, 2])
    write(drawn, path)
    plt.close(drawn)


def savez(file, *values):
    np.savez_compressed(file, *values)


def save(file, value):
    torch.save(value, file)


WEIGHTS = OrderedDict(w=torch.zeros(3))
PREDICTIONS = [{"img_id": 0, "pred_instances": {"scores": torch.zeros(2)}}]
RUN = {"board": "stm32f412", "arena_bytes": 1, "crc32": [1], "stack_bytes": 1, "boxes": []}
REPORT = {"metrics": {}, "box_agreement": {}, "boards": {}, "boxes": [], "params": 1}
NET = random_model(np.random.default_rng(0), block_graph(np.random.default_rng(0), (8, 8), 1))
OURS = {  # writer -> (ending, how it writes)
    "export, quantize, Network.save": (".onnx", lambda path: save_onnx(NET, path)),
    "finetune, search": (".pth", lambda path: write_atomic(path, weights_file(WEIGHTS, open_data({})))),
    "train": (".pth", lambda path: write_atomic(path, marked(zipped(save, {"meta": {}})))),
    "test --out": (".pkl", lambda path: _Dump(out_file_path=str(path)).compute_metrics(PREDICTIONS)),
    "run --npz": (".npz", lambda path: write_atomic(path, marked(zipped(savez, np.zeros(3))))),
    "figures": (".png", lambda path: figure(write_figure, path)),
    "run --json": (".json", lambda path: write_json(path, RUN)),
    "report": (".json", lambda path: write_json(path, REPORT)),
}
THEIRS = {  # of the same kind, by other programs
    "weights": (".pth", lambda path: torch.save(WEIGHTS, path)),
    "old weights": (".pth", lambda path: torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)),
    "checkpoint": (".pth", lambda path: torch.save({"state_dict": WEIGHTS, "meta": {}, "optimizer": {}}, path)),
    "predictions": (".pkl", lambda path: path.write_bytes(pickle.dumps(PREDICTIONS))),
    "arrays": (".npz", lambda path: np.savez(path, np.zeros(3))),
    "figure of one's own": (".png", lambda path: figure(plt.Figure.savefig, path)),
    "report in another hand": (".json", lambda path: path.write_text(json.dumps(RUN))),
    "edited report": (".json", lambda path: path.write_text(json.dumps(RUN, indent=1) + "\n\n")),
    "a game": (".json", lambda path: write_json(path, {"board": "chess", "boxes": 64})),
    "no known kind": (".bin", lambda path: path.write_bytes(b"nni-mcunet")),
}


@pytest.mark.parametrize("who", OURS)
def test_what_we_wrote_is_replaced(who, tmp_path):
    ending, write = OURS[who]
    write(path := tmp_path / f"a{ending}")
    check_outputs({"-o": (path, ending)})


@pytest.mark.parametrize("what", THEIRS)
def test_what_we_did_not_write_stays(what, tmp_path):
    ending, write = THEIRS[what]
    write(path := tmp_path / f"a{ending}")
    with pytest.raises(UserError, match=rf"-o .*a{ending} is there and no product of this command: give another name"):
        check_outputs({"-o": (path, ending)})


def test_a_marked_file_reads_as_before(tmp_path):
    for who in ("finetune, search", "run --npz", "test --out"):
        ending, write = OURS[who]
        write(tmp_path / f"a{ending}")
    found = torch.load(tmp_path / "a.pth", weights_only=True)
    assert torch.equal(found["w"], WEIGHTS["w"]) and found.meta["data"]
    assert np.load(tmp_path / "a.npz")["arr_0"].tolist() == [0, 0, 0]
    with (tmp_path / "a.pkl").open("rb") as file:
        assert pickle.load(file)[0]["img_id"] == 0


def test_report_keeps_files_of_others(tmp_path):
    whole = plan(NET.graph)
    report = Report(tmp_path, REPORT, whole, whole, 1024)
    for name in ("report.json", "memory.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=rf"{name} is there and no product of this command"):
            report.save()
        assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    report.save()
    report.save()  # its own
    (tmp_path / "report.json").write_text("of a version before these marks")
    (tmp_path / "deploy.json").touch()
    report.save()
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT


def test_a_report_of_several_files(tmp_path):
    check_own_report(tmp_path / "new", ["a", "b"], "a", "| event")
    (tmp_path / "c").write_text("no name of the report's")
    check_own_report(tmp_path, ["a", "b"], "a", "| event")
    (tmp_path / "b").mkdir()
    for text in (None, "mine", "\udcff"):
        if text is not None:
            (tmp_path / "a").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=r"holds (a, )?b and no a of this command: give another folder"):
            check_own_report(tmp_path, ["a", "b"], "a", "| event")
    (tmp_path / "a").write_text("| event |")
    check_own_report(tmp_path, ["a", "b"], "a", "| event")


def test_the_report_on_wider_face_keeps_files_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(detection.faces.widerface_metric, "read_truth", lambda folder: {})
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match=r"holds results and no events\.md of this command: give another folder"):
        detection.WIDERFaceMetric("truth", out_dir=tmp_path)
    (tmp_path / "events.md").write_text(detection.faces.widerface_metric.HEAD + "\n")
    detection.WIDERFaceMetric("truth", out_dir=tmp_path)


def dumped(config, work_dir):
    """Return the configs in the work dir once a run with `config` has begun."""
    runner = WorkDirRunner.__new__(WorkDirRunner)
    runner.cfg, runner._work_dir = Config.fromfile(config), str(work_dir)
    runner._log_dir = str(work_dir / "20261129_064445")
    runner.logger = MMLogger.get_instance("own_files")
    runner.dump_config()
    return {str(path.relative_to(work_dir)): path.read_text() for path in work_dir.rglob("*.py")}


def test_a_run_writes_no_config_over_the_user_s(tmp_path):
    """mmengine does: WORK_DIR/NAME.py, whoever wrote it."""
    (tmp_path / "in").mkdir()
    config, work = tmp_path / "in/mine.py", tmp_path / "work"
    config.write_text(mine := "# mine\nx = 1\n")
    assert dumped(config, work) == {"mine.py": f"{HEAD}x = 1\n"}
    config.write_text("x = 2\n")
    assert dumped(config, work) == {"mine.py": f"{HEAD}x = 2\n"}  # an earlier run's is replaced
    (work / "mine.py").write_text(mine)
    kept = {"mine.py": mine, "20261129_064445/mine.py": f"{HEAD}x = 2\n"}
    assert dumped(config, work) == kept
    assert dumped(work / "mine.py", work) == kept | {"20261129_064445/mine.py": f"{HEAD}x = 1\n"}
    (work / "mine.py").write_text(f"{HEAD}x = 3\n")  # trained with what an earlier run has left
    assert dumped(work / "mine.py", work)["mine.py"] == f"{HEAD}x = 3\n"


def test_mmdet_s_own_tools_write_no_config_over_the_user_s(monkeypatch):
    from mmengine.runner import Runner

    from detection import mmdet_tools

    found = []
    monkeypatch.setattr(Runner, "dump_config", Runner.dump_config)  # put back at the end
    monkeypatch.setattr("runpy.run_path", lambda *args, **kwargs: found.append(Runner.dump_config))
    monkeypatch.setattr("sys.argv", ["mmdet_tools", "train"])
    mmdet_tools.main()
    assert found == [WorkDirRunner.dump_config]


def test_a_training_writes_no_checkpoint_over_the_user_s(tmp_path):
    config = SimpleNamespace(work_dir=str(tmp_path), get={"resume": False}.get)
    check_work_dir(config)
    (tmp_path / "epoch_3.pth").touch()
    with pytest.raises(UserError, match=r"holds epoch_3\.pth and no log of a run.*give another --work-dir"):
        check_work_dir(config)
    check_work_dir(SimpleNamespace(work_dir=str(tmp_path), get={"resume": True}.get))
    (tmp_path / "20261129_064445").mkdir()
    check_work_dir(config)
    torch.save({}, tmp_path / "last.pth")
    with pytest.raises(UserError, match=r"the work dir's .*/last\.pth is there and no product"):
        check_work_dir(config)
    (tmp_path / "last.pth").write_bytes(marked((tmp_path / "last.pth").read_bytes()))
    check_work_dir(config)
    begins = {"load_from": str(tmp_path / "last.pth")}
    with pytest.raises(UserError, match="which would be lost"):
        check_work_dir(SimpleNamespace(work_dir=str(tmp_path), get=begins.get))
    check_work_dir(SimpleNamespace(work_dir=str(tmp_path), get=(begins | {"resume": True}).get))
    gone = {"load_from": "gone/last.pth"}
    with pytest.raises(UserError, match=r"x\.py: load_from names gone/last\.pth, and no such file is there: train"):
        check_work_dir(SimpleNamespace(work_dir=str(tmp_path), get=gone.get, filename="x.py"))
    check_work_dir(SimpleNamespace(work_dir=str(tmp_path), get={"load_from": "https://a.org/x.pth"}.get))


def test_the_commands_run_by_these_rules():
    for name in ("train", "detector_test"):
        text = (ROOT / f"nni_mcunet/cli/{name}.py").read_text()
        assert "WorkDirRunner.from_cfg(" in text and " Runner.from_cfg(" not in text
    assert "check_work_dir(cfg)" in (ROOT / "nni_mcunet/cli/train.py").read_text()
