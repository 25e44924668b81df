"""`mcunet` as a whole: help, version, unknown words, completion, what its parsers import, and the shims of tools/."""

import argparse
import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from nni_mcunet import __version__
from nni_mcunet.cli import completion, version
from nni_mcunet.cli.main import COMMANDS, GROUPS, fill, main, module_of, overview

HEAVY = {"torch", "mmdet", "mmengine", "nni", "onnxruntime", "matplotlib", "sklearn"}
SHIMS = {path.stem: path for path in sorted((ROOT / "tools").glob("*.py")) if path.stem != "_command"}


def exit_code(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code


def test_the_help_is_one_screen_with_every_command(capsys):
    assert exit_code("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 80
    for group, commands in GROUPS.items():
        at = lines.index(f"{group}:")
        assert [line.split()[0] for line in lines[at + 1 : at + 1 + len(commands)]] == list(commands)
    assert sum(line.startswith("  ") for line in lines) == len(COMMANDS)


def test_a_pipe_gets_each_line_at_once(tmp_path):
    """A long command that shows its first line at its end looks as if it hung."""
    (tmp_path / "late.py").write_text(
        "import sys\nfrom nni_mcunet.cli import main, boards\n"
        "boards.main = lambda args: (print('begun'), sys.stdin.read())\nmain.main(['boards'])\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("PYTHONUNBUFFERED", None)
    with subprocess.Popen([sys.executable, tmp_path / "late.py"], env=env, **pipes) as process:
        late = threading.Timer(60, process.kill)
        late.start()
        try:
            assert process.stdout.readline() == "begun\n"  # it waits for its end of input now
        finally:
            late.cancel()
            process.communicate("")


@pytest.mark.parametrize(("said", "threads"), [(None, "1"), ("2", "2")])
def test_a_command_computes_with_one_thread_unless_told_otherwise(said, threads):
    """Two threads on two cores that others use too wait for each other: a float network of the demo took six times as
    long."""
    program = "from nni_mcunet.cli import boards, main\ndef shown(args):\n    import torch\n"
    program += "    print(torch.get_num_threads())\nboards.main = shown\nmain.main(['boards'])\n"
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}
    env |= {} if said is None else {"OMP_NUM_THREADS": said}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [threads]


def test_a_call_without_a_command_is_the_help_and_exit_code_2(capsys):
    assert exit_code() == 2 and capsys.readouterr().out.strip() == overview()


def test_every_module_with_arguments_is_a_command():
    modules = set()
    for path in (ROOT / "nni_mcunet/cli").glob("*.py"):
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if {"add_arguments", "main"} <= names:
            modules.add(path.stem.replace("_", "-"))
    assert modules == set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "nnictl"])
def test_the_help_of_a_command(name, capsys):
    """Its docstring, whole, and every flag."""
    assert exit_code(name, "--help") == 0
    text = capsys.readouterr().out
    module = module_of(name)
    assert text.startswith(f"usage: mcunet {name}") and module.__doc__.strip() in text
    source = (ROOT / f"nni_mcunet/cli/{name.replace('-', '_')}.py").read_text()
    flags = set(re.findall(r'add_argument\(\s*"(--?[\w-]+)"', source))
    if name not in ("search", "completion"):  # whose flags are those of its verbs, of the other commands
        assert all(flag in text for flag in flags)
    if name not in ("search", "new-detector") and (flags & {"--board", "--boards"}):  # "such as", not some of the names
        assert "mcunet boards" in " ".join(text.split())


@pytest.mark.parametrize("verb", ["run", "resume", "export", "report"])
def test_the_help_of_a_search(verb, capsys):
    assert exit_code("search", verb, "--help") == 0 and "--out" in capsys.readouterr().out


def python(code: str, **more) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_parsers_import_nothing_heavy():
    """So that help and completion are there at once; `mcunet --help` and --version do not even need numpy."""
    code = "import sys; from nni_mcunet.cli.completion import whole_parser; whole_parser(); print(*sys.modules)"
    found = {name.partition(".")[0] for name in python(code).split()}
    assert "shtab" in found and not found & HEAVY
    for word in ("--help", "--version"):
        code = f"import sys; from nni_mcunet.cli.main import main\ntry: main(['{word}'])\nexcept SystemExit: pass\n"
        found = {
            name.partition(".")[0]
            for name in python(code + "print('MODULES', *sys.modules)").split("MODULES")[1].split()
        }
        assert not found & (HEAVY | {"numpy", "yaml", "shtab"})


def test_the_version_says_the_commit_of_a_git_tree(tmp_path, monkeypatch, capsys):
    main(["--version"])
    said = capsys.readouterr().out
    assert said.startswith(f"mcunet {__version__}")
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        assert head.startswith(re.search(r"commit ([0-9a-f]{10,})", said)[1])
    monkeypatch.setattr(version, "TREE", tmp_path)
    assert version.version() == __version__
    (tmp_path / ".git").mkdir()  # a damaged one
    assert version.version() == __version__
    shutil.rmtree(tmp_path / ".git")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"], ["tag", "-m", "x", "v9"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    assert re.fullmatch(rf"{__version__} \(commit [0-9a-f]{{10}}\)", version.version())  # the commit, not the tag
    (tmp_path / "new.txt").write_text("")
    subprocess.run(["git", "add", "new.txt"], cwd=tmp_path, check=True)
    assert re.fullmatch(rf"{__version__} \(commit [0-9a-f]{{10}}, changed\)", version.version())


def test_the_version_stands_once():
    """pyproject.toml reads it, CITATION.cff and CHANGELOG.md name it."""
    project = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project and 'attr = "nni_mcunet.__version__"' in project
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "typed, words",
    [
        ("generat", ["generate"]),
        ("check_data", ["check-data"]),
        ("trian", ["train"]),
        ("quantise", ["quantize"]),
        ("zzz", ["known are", "search", "tables"]),
        ("x" * 5000, ["known are"]),
    ],
)
def test_an_unknown_command(typed, words, capsys):
    assert exit_code(typed) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: unknown command") and said.err.count("\n") == 1 and len(said.err) < 500
    assert not said.out and all(word in said.err for word in words)


def test_nni_s_own_words_reach_it(monkeypatch):
    seen = []
    monkeypatch.setattr("nni_mcunet.search.nni.nnictl.os.execve", lambda *line: seen.append(line))
    main(["nnictl", "create", "--config", "x.yml", "--help"])
    ((program, line, env),) = seen
    assert program == sys.executable and line[-4:] == ["create", "--config", "x.yml", "--help"]
    assert "manager.cjs" in env["NODE_OPTIONS"]


def test_choices_are_the_backends_of_the_engine():
    """They stand in the command lines as words, so that these need not import onnxruntime."""
    from nni_mcunet.cli import detector_test
    from nni_mcunet.engine import int8_detector
    from nni_mcunet.engine.int8_classifier import BACKENDS

    parser = fill(argparse.ArgumentParser(), "accuracy")
    found = next(action for action in parser._actions if action.dest == "backend")
    assert list(found.choices) == list(BACKENDS)
    assert all(callable(getattr(int8_detector, name)) for name in detector_test.ENGINES.values())


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """The docstrings of its verbs, too."""
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found |= {flag for inner in action.choices.values() for flag in flags_of(inner)}
    return found


PLACES = ("*.md", "docs/*.md", "configs/**/*.yml", "configs/**/*.py", "nni_mcunet/**/*.py", "Makefile")
TEXTS = [path for pattern in PLACES for path in sorted(ROOT.glob(pattern))]


def test_the_commands_in_texts_exist_with_their_flags():
    """In the README, the docs, help and messages: what stands behind a backtick or begins a line."""
    seen, known = set(), {name: flags_of(fill(argparse.ArgumentParser(), name)) for name in COMMANDS}
    for path in TEXTS:
        text = re.sub(r"\\\n\s*", " ", path.read_text())
        for name, words in re.findall(r"(?:^ *|`)mcunet ([a-z][\w-]*)([^`\n#;]*)", text, re.MULTILINE):
            assert name in COMMANDS, f"{path.name}: mcunet {name}"
            seen.add(name)
            if name != "nnictl":
                asked = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", words))
                assert asked <= known[name], f"{path.name}: mcunet {name} has no {asked - known[name]}"
    assert len(seen) > 15


@pytest.mark.parametrize("name", SHIMS)
def test_a_tool_is_a_shim_of_two_statements(name):
    first, second = ast.parse(SHIMS[name].read_text()).body
    assert ast.unparse(first) == "from _command import run"
    command = ast.literal_eval(second.value.args[1])
    assert ast.unparse(second) == f"run(__name__, '{command}')" and command in COMMANDS


def test_every_command_of_old_has_its_tool():
    tools = {ast.literal_eval(ast.parse(path.read_text()).body[1].value.args[1]) for path in SHIMS.values()}
    assert tools == set(COMMANDS) - {"nnictl", "completion"}


# --- completion


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """bash's, as a user would source it."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["completion", "bash"])
    path = tmp_path_factory.mktemp("completion") / "mcunet"
    path.write_text(out.getvalue())
    return path


def offered(script, folder, *words) -> set[str]:
    """List what bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in ("mcunet", *words))
    code = f'source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; COMP_LINE="{line}"\n'
    code += 'f=$(complete -p mcunet | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f mcunet "${COMP_WORDS[-1]}" x\n'
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=folder)
    return {word.strip() for word in done.stdout.split("\n")} - {""}


def test_bash_completes(script, tmp_path):
    (tmp_path / "model.onnx").touch()
    assert {"generate", "run", "check-data", "nnictl"} <= offered(script, tmp_path, "")
    assert offered(script, tmp_path, "gen") == {"generate"}
    assert offered(script, tmp_path, "generate", "--hal") == {"--halo"}
    assert offered(script, tmp_path, "generate", "m.onnx", "--halo", "") >= {"clip", "cache", "best"}
    assert "stm32f412" in offered(script, tmp_path, "generate", "m.onnx", "--board", "stm")
    assert {"run", "resume", "export", "report"} <= offered(script, tmp_path, "search", "")
    assert "--discard" in offered(script, tmp_path, "search", "run", "--")
    assert "model.onnx" in offered(script, tmp_path, "inspect", "mod")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_all_commands(shell, capsys):
    main(["completion", shell])
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_modules_of_commands_can_be_imported_by_name():
    for name in COMMANDS:
        assert importlib.import_module(f"nni_mcunet.cli.{name.replace('-', '_')}").add_arguments


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["generate", "x.onnx", "--board", "stm32f412", "-o", "y", "--arena-kb", "nan"],
            "--arena-kb: invalid int value",
        ),
        (["run", "y", "--board", "stm32f412", "--picture", "p.jpg"], "one of the arguments"),
        (["search", "report"], "--out"),
        (["fits", "x.onnx"], "--board"),
    ],
)
def test_an_argument_is_refused_in_one_line(words, why, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and why in said
    assert said.rstrip().endswith("--help")


@pytest.mark.parametrize(
    "words",
    [
        "new-detector none --board stm32f412",
        "check-data none.py",
        "train none.py",
        "test none.py a.pth",
        "deploy none.py a.pth --boards stm32f412 -o out",
        "compare-boxes none.py a.pth",
        "export none.py a.pth -o a.onnx",
        "detect none.onnx a.jpg -o out",
        "detect {there}.py none.pth a.jpg -o out",
        "profile none.onnx",
        "finetune {there}.json none.pth",
        "pretrain none.json",
        "run none --board stm32f412 --emulate --picture none.jpg",
    ],
)
def test_a_file_that_is_not_there_is_said_at_once(words, tmp_path, monkeypatch, capsys):
    """Before torch and mmdet are imported: on a machine that works they take half a minute."""
    for ending in (".py", ".json"):
        (tmp_path / f"there{ending}").write_text("{}")
    monkeypatch.setattr("nni_mcunet.cli.main.module_of", only_arguments)
    monkeypatch.chdir(tmp_path)
    assert exit_code(*words.format(there="there").split()) == 2
    assert capsys.readouterr().err.startswith(("error: no such file: none", "error: no such file or folder: none"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train {}", "a config file (.py)"),
        ("check-data {}", "a config file (.py)"),
        ("deploy {} a.pth --boards stm32f412 -o out", "a config file (.py)"),
        ("test {there}.py {}", "a checkpoint (.pth)"),
        ("export {there}.py {} -o a.onnx", "a checkpoint (.pth)"),
        ("train-supernet --config {}", "a config file (.yml)"),
        ("search run --config {}", "a config file (.yml)"),
    ],
)
def test_a_folder_where_a_file_is_expected_is_said_to_be_one(words, expected, tmp_path, monkeypatch, capsys):
    (tmp_path / "cells").mkdir()
    (tmp_path / "there.py").write_text("{}")
    monkeypatch.setattr("nni_mcunet.cli.main.module_of", only_arguments)
    monkeypatch.chdir(tmp_path)
    assert exit_code(*words.format("cells", there="there").split()) == 2
    assert capsys.readouterr().err == f"error: cells is a folder: expected {expected}\n"


def only_arguments(name):
    """A command that must not begin."""
    module = module_of(name)
    begun = lambda args: pytest.fail("it begins")  # noqa: E731
    return argparse.Namespace(__doc__=module.__doc__, add_arguments=module.add_arguments, main=begun)
