"""The pages as a site. They keep to the code: every command in them parses, every kind of error has an entry."""

import argparse
import importlib
import json
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from nni.experiment.config import ExperimentConfig

import detection
import nni_mcunet
from nni_mcunet.cli.main import COMMANDS, fill
from nni_mcunet.core.errors import UserError
from nni_mcunet.search.config import search_config, search_space
from nni_mcunet.search.nni.experiment_file import load_config

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links between pages, their anchors and pictures lead somewhere, and no page is left out of the navigation."""
    words = ["build", "--strict", "--quiet", "-f", ROOT / ".ci/mkdocs.yml", "-d", tmp_path / "site"]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in tmp_path.rglob("*.html")}


def commands() -> list[tuple[str, str]]:
    """(where, command) of every line of a code block that begins with mcunet, a continued line joined."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"mcunet [a-z]", line):
                    found.append((page.name, line))
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda text: text[:60])
def test_a_documented_command_parses(page, line, capsys):
    """With the parser of the command; [what may be left out] is not. nnictl's words are NNI's."""
    text = re.sub(r"\[([^\]]*)\]", r" \1 ", line.partition("   #")[0].partition(" # ")[0])
    name, *words = shlex.split(text)[1:]
    assert name in COMMANDS, f"{page}: {line}"
    if name == "nnictl":
        return
    try:
        fill(argparse.ArgumentParser(name, exit_on_error=False), name).parse_args(words)
    except SystemExit as error:
        assert error.code == 0, f"{page}: {line}\n{capsys.readouterr().err}"


def test_every_kind_of_error_has_an_entry():
    for package in (nni_mcunet, detection):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "__main__" not in module.name and ".mim" not in module.name:
                importlib.import_module(module.name)
    entries = set(re.findall(r"^## (\w+)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE))
    assert entries == {kind.__name__ for kind in kinds(UserError)}


def kinds(kind: type[Exception]) -> list[type[Exception]]:
    """Its kinds that the package defines; tests have some of their own."""
    found = []
    for sub in kind.__subclasses__():
        if sub.__module__.startswith(("nni_mcunet", "detection")):
            found.append(sub)
        found += kinds(sub)
    return found


def test_the_picture_of_the_parts_is_the_code():
    parts = runpy.run_path(str(ROOT / "benchmarks/architecture.py"))["parts"]()
    assert parts == json.loads((ROOT / "docs/results/architecture.json").read_text())
    table = re.findall(r"^\| (\w+) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert set(table) - {"part"} == set(parts)


def test_the_search_of_own_pictures_is_one(tmp_path, monkeypatch):
    """The two files that docs/search.md shows, as mcunet search run reads them."""
    text = (ROOT / "docs/search.md").read_text()
    space, experiment = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yml").write_text(space)
    (tmp_path / "experiment.yml").write_text(experiment)
    ExperimentConfig.load("experiment.yml").canonical_copy()  # nnictl takes it, too
    config = load_config("experiment.yml")
    search = search_config(config).evolution(search_space(config))
    assert search.space.name == "space" and search.space.classes == 2 and search.population == 20
