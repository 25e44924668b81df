"""Hold the house to its plan: which room may import which, no circle, thin command lines, paths that users name.

The rooms are folders; benchmarks/house.py reads their imports, those inside functions too. Data pass each room once and
downwards: file or candidate -> ir -> plan -> lower -> codegen -> run. An arrow that breaks this is a design broken.
"""

import runpy
import sys

import networkx as nx
import pytest
import yaml
from conftest import ROOT

HOUSE = runpy.run_path(str(ROOT / "benchmarks/house.py"))
FILES = HOUSE["read_tree"]()
GRAPH = HOUSE["import_graph"](FILES)

CORE, IR, PLAN, NN = "core", "core.ir", "core.plan", "core.nn"
PICTURES, MODEL, SAID = "pictures", "engine.model", "detection.said"
DETECTION = [f"detection.{name}" for name in ("said", "data", "models", "config", "faces", "handover", "training",
                                                  "own_data")]  # fmt: skip
# Room, or a file that is one -> the rooms that its files may import. A deeper name goes before the folder it lies in.
# "*": all rooms but those of OUTER. "" is nni_mcunet/__init__.py.
ARROWS = {
    CORE: set(),
    IR: {CORE},
    PLAN: {CORE, IR},
    NN: {CORE, IR, PLAN},
    PICTURES: {CORE},
    # The search: what a candidate is, the pictures that judge it, the network it is cut from, the folder it leaves,
    # NNI around all of it.
    "search": {CORE, IR, PLAN},
    "search.data": {CORE, IR, NN, PICTURES},
    "search.supernet": {CORE, IR, NN, "search", "search.data"},
    "search.run": {CORE, IR, NN, PLAN, "pages", "search", "search.data", "search.supernet"},
    "search.nni": {CORE, IR, NN, PLAN, "search", "search.data", "search.supernet", "search.run"},
    "search (doors)": {CORE, "search.nni"},
    # The engine: a file becomes a model, integers, a program, C, and runs.
    MODEL: {CORE, IR, PLAN},
    "engine.detect": {CORE, IR, MODEL},
    "engine.frontend": {CORE, IR, PLAN, MODEL, "engine.ops"},
    "engine.frontend.onnx": {CORE, IR, PLAN, MODEL, "engine.frontend", "engine.detect", "engine.ops"},
    "engine.frontend.tflite": {CORE, IR, PLAN, MODEL, "engine.frontend", "engine.detect", "engine.ops"},
    "engine.frontend (doors)": {CORE, MODEL, "engine.frontend", "engine.frontend.onnx", "engine.frontend.tflite"},
    "engine.ops": {CORE, IR, PLAN, MODEL},
    "engine.lower": {CORE, IR, PLAN, MODEL, "engine.ops"},
    "engine.quant": {CORE, IR, PLAN, MODEL, "engine.detect", "engine.frontend", "engine.frontend (doors)",
                     "engine.frontend.onnx", "engine.ops", "engine.lower"},
    "engine.codegen": {CORE, IR, PLAN, MODEL, "engine.detect", "engine.ops", "engine.lower"},
    "engine.run": {CORE, IR, PLAN, MODEL, PICTURES, "engine.detect", "engine.lower", "engine.codegen"},
    "engine.timing": {CORE, IR, PLAN, MODEL, "engine.detect", "engine.lower", "engine.codegen", "engine.run"},
    "engine.packages": {CORE, "engine.run", "engine.timing"},
    "engine (doors)": {"*"},
    "engine": set(),
    "pages": {CORE},
    "paper": {CORE, IR, PLAN},
    "profiling": {CORE, IR, PLAN, MODEL, "engine.frontend", "engine.frontend (doors)", "engine.frontend.onnx",
                  "engine.quant", "paper"},
    # The mmdet plug-in.
    SAID: {CORE},
    "detection.data": {CORE, IR, NN, PLAN, PICTURES, SAID},
    "detection.models": {CORE, IR, NN, PLAN, "paper", SAID, "detection.data"},
    "detection.config": {CORE, IR, "paper", "detection.data", "detection.models"},
    "detection.faces": {CORE, PICTURES, SAID, "detection.data"},
    "detection.handover": {CORE, IR, NN, "paper", "detection.data", "detection.models", "detection.config"},
    "detection.training": {CORE, NN, SAID, "detection.data", "detection.models", "detection.handover"},
    "detection.own_data": {CORE, IR, PLAN, PICTURES, "detection.data", "detection.config", "detection.handover"},
    "detection": {CORE, *DETECTION},
    # These join the parts: detection and engine, the front door, the commands, and the names that open them.
    "bridge": {"*", "detection"},
    "api": {"*", "detection", "bridge"},
    "cli": {"*", "detection", *DETECTION, "bridge", "api", ""},
    "": {"*", "api"},
    "__main__": {"cli"},
}  # fmt: skip
OUTER = ("detection", *DETECTION, "bridge", "api", "cli", "", "__main__")
# Arrows of today that the plan does not have: (module, module). Each entry is deleted with the import it names.
EXCEPTIONS = {
    ("engine.frontend.builder", "engine.lower.c_limits"),
}
# Package -> the only rooms and files that may import it.
ONLY = {
    "torch": {NN, "search.data", "search.supernet", "search.run", "search.nni", "bridge", "api", "cli", "detection"},
    "nni": {f"search.nni.{name}" for name in ("model_space", "nni_checks", "strategy", "trial", "tuner")},
    "onnx": {"engine.frontend.onnx"},
    "onnxruntime": {"engine.quant"},
    "mmdet": {"detection"},
    "mmengine": {"detection", "cli"},
    "mmcv": {"detection"},
    "vl_convert": {"pages"},
    "cv2": {PICTURES, "search.data", "detection", "cli"},
}


def short(module: str) -> str:
    """Name nni_mcunet.core.plan.tiles core.plan.tiles."""
    return module.removeprefix("nni_mcunet").removeprefix(".")


def place(module: str) -> str:
    """Return the room of ARROWS that a module stands in."""
    room, name = short(GRAPH.nodes[module]["room"]), short(module)
    found = [key for key in ARROWS if room == key or (key and f"{name}.".startswith(f"{key}."))]
    assert found, f"{module} stands in no room of the plan: give it one in ARROWS"
    return room if "(doors)" in room else max(found, key=len)


def allowed(room: str) -> set[str]:
    """Return the rooms that a room's files may import, its own included."""
    inside = {key for key in ARROWS if key not in OUTER}
    return {room} | ARROWS[room] | (inside if "*" in ARROWS[room] else set())


@pytest.mark.parametrize("path", FILES)
def test_imports(path):
    own = HOUSE["module_of"](path)
    room = place(own)
    for name in GRAPH.successors(own):
        if (short(own), short(name)) not in EXCEPTIONS:
            assert place(name) in allowed(room), f"{path} ({room}) imports {name} ({place(name)})"
    for name in HOUSE["imported"](path, FILES[path], set(GRAPH)):
        only = ONLY.get(name.partition(".")[0])
        if only is not None:
            where = f"{short(own)}."
            assert room in only or any(where.startswith(f"{each}.") for each in only), f"{path} imports {name}"


def test_the_plan_has_no_circle():
    rooms = nx.DiGraph((room, other) for room in ARROWS for other in allowed(room) - {room} if other in ARROWS)
    assert HOUSE["circles"](rooms) == []


def test_no_circle_of_imports():
    assert HOUSE["circles"](GRAPH) == []


def test_exceptions_are_still_needed():
    edges = {(short(a), short(b)) for a, b in GRAPH.edges}
    assert edges >= EXCEPTIONS, f"no longer imported, delete: {EXCEPTIONS - edges}"


def test_imports_are_found_wherever_they_stand():
    files = {
        "a/__init__.py": "",
        "a/b.py": "def f():\n    from .c import g\n    from . import d, NAME\n    import x.y\n",
        "a/c.py": "import importlib\n\n\ndef g():\n    importlib.import_module('a.b')\n",
        "a/d.py": "from __future__ import annotations\nif True:\n    import a.c as other\n",
    }
    graph = HOUSE["import_graph"](files)
    assert set(graph.edges) == {("a.b", "a.c"), ("a.b", "a.d"), ("a.b", "a"), ("a.c", "a.b"), ("a.d", "a.c")}
    assert "x.y" in HOUSE["imported"]("a/b.py", files["a/b.py"], set(graph))
    assert HOUSE["circles"](graph) == [["a.b", "a.c", "a.d"]]


def test_a_candidate_walks_downwards():
    """From the tuner on, through no command line."""
    found = HOUSE["figures"](FILES)
    assert found["walk"]["modules"][0] == "nni_mcunet.search.nni.tuner"
    assert not any(room.startswith(("nni_mcunet.cli", "detection")) for room in found["walk"]["rooms"])
    assert found["circles"]["modules"] == [] and "| circles of modules | 0 |" in HOUSE["table"]({"now": found})


def test_command_lines_are_thin():
    for path in sorted((ROOT / "nni_mcunet/cli").glob("*.py")):
        lines = path.read_text().count("\n")
        assert lines <= 120, f"{path.name} has {lines} lines: a tool is a command line, move the work to a package"


def test_a_shape_formula_stands_once():
    """The output-size rule is graph.out_length; a second one would sooner or later disagree."""
    rule = "- k) // s + 1"
    assert [path for path in FILES if rule in FILES[path]] == ["nni_mcunet/core/ir/graph.py"]


def test_the_paths_that_users_name_lead_to_the_rooms():
    """In YAML files, in scripts and in searches that are resumed."""
    from nni_mcunet.search import nnictl, strategy, trial, tuner
    from nni_mcunet.search.nni import nnictl as real_nnictl
    from nni_mcunet.search.nni import strategy as real_strategy
    from nni_mcunet.search.nni import trial as real_trial
    from nni_mcunet.search.nni import tuner as real_tuner

    assert tuner.EvolutionTuner is real_tuner.EvolutionTuner and tuner.ArgsValidator is real_tuner.ArgsValidator
    assert trial.main is real_trial.main and nnictl.main is real_nnictl.main
    for name in ("EvolutionStrategy", "MCUNetSpace", "SupernetEvaluator"):
        assert getattr(strategy, name) is getattr(real_strategy, name)
    registered = yaml.safe_load((ROOT / "nni_mcunet/search/register.yml").read_text())
    assert registered["className"] == "nni_mcunet.search.tuner.EvolutionTuner"
    assert registered["classArgsValidator"] == "nni_mcunet.search.tuner.ArgsValidator"
    assert real_nnictl.MANAGER == ROOT / "nni_mcunet/search/manager.cjs" and real_nnictl.MANAGER.is_file()


def test_the_trial_that_users_name_runs(capsys, monkeypatch):
    """Outside an experiment it has no parameters: one line and exit code 2. test_nni.py runs search.nnictl."""
    monkeypatch.delitem(sys.modules, "nni_mcunet.search.trial", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("nni_mcunet.search.trial", run_name="__main__")
    assert end.value.code == 2 and "EvolutionTuner" in capsys.readouterr().err
