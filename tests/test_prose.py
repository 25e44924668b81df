"""Hold docstrings, comments, messages and pages to plain English: the faults that a reader takes for a translation.

A sentence names its subject first. It does not begin with "Of" or "Those", nor with "What" unless it asks. A message
says what was expected. An adverb that stands behind its noun has an English word that stands before it: only, separate,
total, besides.
"""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("nni_mcunet", "detection", "tests", "benchmarks")
BEGIN = r"(?:^|[.?!][\"')]?\s+)"  # of a sentence
END = r"(?=[,;:)?!]|\.(?:\s|$)|\s*$)"  # of a clause
FAULTS = {
    "say what was expected": r"\b(?:is|are) wanted\b",
    "put the subject before 'of'": BEGIN + r"Of [a-z`]",
    "begin with the verb or name the thing, unless it is a question": BEGIN + r"What (?![^.]*\?)",
    "name the things": BEGIN + r"Those ",
    "write only, or by itself": r"(?<![\w-])alone(?:(?=\s+[^\s=])|" + END + ")",
    "write separate, or differ by": r"\bapart(?! from\b)(?:(?=\s)|" + END + ")",
    "write total, or every": r"\bin all" + END,
    "write besides, or next to it": r"\bbeside" + END,
}
ALLOWED = {"test_prose.py": "it quotes the faults"}  # file: why it may have some
# Suffix -> what of such a file is prose. A page's code is none.
PROSE = {
    **dict.fromkeys((".c", ".h", ".ld"), re.compile(r"/\*.*?\*/", re.DOTALL)),
    ".cjs": re.compile(r"(?:^ *//[^\n]*\n)+", re.MULTILINE),
    **dict.fromkeys((".yml", ".toml", ".sh", "Makefile"), re.compile(r"(?:^ *#[^\n]*\n)+| # [^\n]*", re.MULTILINE)),
    ".md": re.compile(r"\A.*\Z", re.DOTALL),
}
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PREFIX = re.compile(r"^ *(?://|#|\*) ?", re.MULTILINE)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string, an f-string with {} for its values, and of every run of comments."""
    tree = ast.parse(source)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value
    run: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if run and (token.start[0] != run[-1].start[0] + 1 or token.start[1] != run[-1].start[1]):
            yield run[0].start[0], "\n".join(t.string.lstrip("# ") for t in run)
            run = []
        run.append(token)
    if run:
        yield run[0].start[0], "\n".join(t.string.lstrip("# ") for t in run)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield (lines before it, what to do and the words) of each fault."""
    for remedy, pattern in FAULTS.items():
        for found in re.finditer(pattern, text):
            words = text[max(found.start() - 30, 0) : found.end() + 30]
            yield text.count("\n", 0, found.end()), f"{remedy}: {' '.join(words.split())!r}"


@pytest.mark.parametrize("room", ROOMS)
def test_texts_are_plain_english(room):
    found = [
        f"{path.relative_to(ROOT)}:{line + below}: {fault}"
        for path in sorted((ROOT / room).rglob("*.py"))
        if ".mim" not in path.parts and path.name not in ALLOWED
        for line, text in texts(path.read_text())
        for below, fault in faults(text)
    ]
    assert not found, "\n".join(found)


def passages(source: str, kind: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what is prose in a file that is not Python, without the marks of its comments."""
    if kind == ".md":
        source = CODE.sub(lambda code: "\n" * code[0].count("\n"), source)
    for found in PROSE[kind].finditer(source):
        yield source.count("\n", 0, found.start()) + 1, PREFIX.sub("", found[0]) if kind != ".md" else found[0]


@pytest.mark.parametrize("kind", PROSE)
def test_pages_and_other_comments_are_plain_english(kind):
    listed = subprocess.run(["git", "ls-files", f"*{kind}"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [
        f"{name}:{line + below}: {fault}"
        for name in listed.stdout.splitlines()
        if not (ROOT / name).is_symlink() and (ROOT / name).is_file()
        for line, text in passages((ROOT / name).read_text(), kind)
        for below, fault in faults(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (".c", "int a;\n\n/* The map\n * takes 80 kB in all. */\n"),
        (".cjs", "let a;\n// The map\n\n// takes 80 kB in all.\n"),
        (".yml", "a: 1  # the map\nb: 2\n\n# takes 80 kB in all\n"),
        (".md", "# The map\n\n```\nin all.\n```\ntakes 80 kB in all.\n"),
    ],
)
def test_a_fault_of_other_files_is_found(kind, source):
    last = source.rstrip().count("\n") + 1
    assert [line + below for line, text in passages(source, kind) for below, _ in faults(text)] == [last]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("is wanted", "'h': an integer {}"),
        ("Of", "Two fit. {} these the smaller is kept."),
        ("Those", "{} that fit."),
        ("What", "{} a kernel reads. Is it much?"),
        ("alone", "the first layer {} takes 80 kB"),
        ("apart", "the two are kept {}."),
        ("in all", "80 kB {}, and 20 of code"),
        ("beside", "the file has a folder {}"),
    ],
)
def test_each_fault_is_found(words, sentence):
    source = f'"""Line one.\n\n{sentence.format(words)}\n"""\n'
    assert [line + below for line, text in texts(source) for below, _ in faults(text)] == [3]
    assert not [fault for _, text in texts(f"{sentence.format('X')!r}") for fault in faults(text)]


@pytest.mark.parametrize(
    "sentence",
    [
        "What is missing?",
        "a stand-alone program, apart from its weights",
        "the same in all patches",
        "a folder beside the file",
        "alone = 1",
        "the size of the map",
    ],
)
def test_what_is_plain_passes(sentence):
    assert not list(faults(sentence))
