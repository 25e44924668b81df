"""The directions of the arrows: who may import whom. A rule broken here is a design broken."""

import ast

import pytest
from conftest import ROOT

# Folder or file -> what its modules must not import (prefixes of absolute module names).
ROOMS = {f"nni_mcunet.{room}" for room in ("core", "search", "engine", "paper", "profiling", "cli")} | {"detection"}
OUTSIDE = {"nni", "mmdet", "mmengine", "mmcv", "onnx", "onnxruntime", "cv2"}
FORBIDDEN = {
    "nni_mcunet/core": ROOMS - {"nni_mcunet.core"} | OUTSIDE,
    "nni_mcunet/core/ir": {"nni_mcunet.core.plan", "nni_mcunet.core.nn"},
    "nni_mcunet/core/plan": {"nni_mcunet.core.nn"},
    "nni_mcunet/paper": ROOMS - {"nni_mcunet.core", "nni_mcunet.paper"} | OUTSIDE,
    "nni_mcunet/search": ROOMS - {"nni_mcunet.core", "nni_mcunet.search"} | OUTSIDE - {"nni", "cv2"},
    "nni_mcunet/engine": ROOMS - {"nni_mcunet.core", "nni_mcunet.engine"}
    | {"nni", "mmdet", "mmengine", "mmcv", "torch"},
    "nni_mcunet/profiling": {"nni_mcunet.search", "nni_mcunet.cli", "detection", "nni", "mmdet", "mmengine", "torch"},
    "detection": {"nni_mcunet.search", "nni_mcunet.engine", "nni_mcunet.cli", "nni", "onnx"},
}
# Package -> the only files that may import it.
ONLY = {
    "torch": ("nni_mcunet/core/nn", "nni_mcunet/search", "nni_mcunet/cli", "detection"),
    "nni": tuple(f"nni_mcunet/search/nni/{name}.py" for name in ("strategy", "tuner", "trial")),
    "onnx": ("nni_mcunet/engine/frontend/onnx/",),
    "mmdet": ("detection",),
}


def sources():
    return [p for top in ("nni_mcunet", "detection", "tools") for p in sorted((ROOT / top).rglob("*.py"))]


def imports(path):
    """Absolute names of all modules a file imports, relative ones resolved."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield (base + (node.module or "")).rstrip(".")


def under(name, prefixes):
    return any(name == p or name.startswith(p + ".") for p in prefixes)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path):
    where = str(path.relative_to(ROOT))
    for name in imports(path):
        for room, forbidden in FORBIDDEN.items():
            if where.startswith(room + "/"):
                assert not under(name, forbidden), f"{where} imports {name}"
        for package, allowed in ONLY.items():
            if under(name, [package]):
                assert where.startswith(allowed), f"{where} imports {name}; only {', '.join(allowed)} may"


def test_command_lines_are_thin():
    for path in sorted((ROOT / "nni_mcunet/cli").glob("*.py")):
        lines = path.read_text().count("\n")
        assert lines <= 120, f"{path.name} has {lines} lines: a tool is a command line, move the work to a package"


def test_a_shape_formula_stands_once():
    """The output-size rule is graph.out_length; a second one would sooner or later disagree."""
    rule = "- k) // s + 1"
    found = [str(p.relative_to(ROOT)) for p in sources() if rule in p.read_text()]
    assert found == ["nni_mcunet/core/ir/graph.py"]
