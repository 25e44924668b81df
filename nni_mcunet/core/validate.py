"""Read a stranger's file within bounds: one line about what is wrong in it, within seconds, whatever it holds.

read_json and read_yaml give plain values (dict, list, str, int, float, bool, None) without a trap for later code: no
number of thousands of digits, no NaN, no nesting that ends Python's recursion, no alias that expands to millions, no
key that stands twice. `short` quotes a user's value in a message.
"""

import json
import math
import os
import re
import reprlib
import stat
import struct
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import PurePath
from typing import NoReturn

import yaml

from .errors import UserError
from .types import FilePath, Plain, PlainDict

SETTINGS_BYTES = 1 << 18  # of a YAML file: PyYAML reads about 100 kB a second
JSON_BYTES = 2 << 30  # COCO's largest annotation file has 450 MB
TEXT_BYTES = 1 << 28
DEPTH = 64  # levels of nesting
TOO_DEEP = f"nested more than {DEPTH} levels deep"
DIGITS = 40  # characters of a number
EXPANDED = 1 << 20  # characters of a YAML file once its aliases are written out
SHOWN = 80  # characters of a value in a message
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
NUMBER_TAGS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict, _REPR.maxset = 3, 12, 12, 8, 8
_REPR.maxstring = _REPR.maxother = SHOWN - 20


def short(value: object) -> str:
    """Return `value` as Python writes it, on one line of SHOWN characters at most. Control characters are escaped; the
    middle of a longer text is left out."""
    try:
        text = _REPR.repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        text = f"a number of more than {DIGITS} digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 20]}...{text[-17:]}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 box", "2 boxes", "3 pictures"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith(('s', 'x', 'tch')) else 's'}"


def reason_of_load(error: Exception) -> str:
    """Say in few words why torch.load refused a file, without its advice to trust the file or to report it."""
    text = " ".join(str(error).split())
    if code := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds {short(code[1])}, code that loading would run"
    if "weights_only" in text or text.startswith("Weights only load failed"):
        return "it holds more than tensors and plain values"
    if isinstance(error, (LookupError, EOFError, struct.error, ValueError)) or "PytorchStreamReader" in text:
        return "it is empty, cut, or no file that torch.save has written"
    return short(text)[1:-1]


def check_keys(
    data: Plain, known: Iterable[str], where: object, needed: Iterable[str] = (), kind: type[UserError] = UserError
) -> None:
    """Raise `kind` unless `data` is a mapping with no other keys than `known` and with those of `needed`. where: what
    the message calls it."""
    if not isinstance(data, dict):
        raise kind(f"{where} is {short(data)}: expected a mapping with the keys {', '.join(known)}")
    for key in data:
        if key not in known:
            raise kind(f"{where} has the unknown key {short(key)}: known are {', '.join(known)}")
    for key in needed:
        if key not in data:
            raise kind(f"{where} lacks the key '{key}'")


def check_fields(data: Plain, cls: type, where: object, kind: type[UserError] = UserError) -> None:
    """Do check_keys for the fields of a dataclass; fields without a default are needed."""
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    check_keys(data, [f.name for f in fields(cls)], where, needed, kind)


def check_numbers(data: Plain, names: Iterable[str], where: object, kind: type[UserError] = UserError) -> None:
    """Raise `kind` unless `data` is a mapping in which each of `names` is a number; it may have other keys."""
    check_keys(data, data if isinstance(data, dict) else names, where, names, kind)
    for name in names:
        if type(data[name]) not in (int, float):
            raise kind(f"{where}: {name} is {short(data[name])}: expected a number")


def integer(
    value: Plain, what: object, low: int | None = None, high: int | None = None, kind: type[UserError] = UserError
) -> int:
    """Return `value`. Raises `kind` unless it is an integer from `low` to `high`, each of them where given; true and
    false, integers to Python, are none. what: what the message calls it."""
    if type(value) is int and (low is None or value >= low) and (high is None or value <= high):
        return value
    bounds = ("" if low is None else f" from {low:,}") + ("" if high is None else f" to {high:,}")
    raise kind(f"{what} is {short(value)}: expected an integer{bounds}")


def check_is_file(path: FilePath, kind: type[UserError] = UserError) -> None:
    """Raise `kind` for a folder, a pipe or a device, which would be waited for or read without end; FileNotFoundError
    where there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise kind(f"{short(str(path))} is no name of a file") from None
    if stat.S_ISDIR(mode):
        raise kind(f"{path} is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise kind(f"{path} is a pipe or a device: name a file on a disk")


def check_names(names: Iterable[object], where: object, kind: type[UserError] = UserError) -> None:
    """Raise `kind` unless each of `names`, which the file `where` lists, is a path below the folder it is meant from:
    not absolute, and without `..`."""
    for name in names:
        if leads_out(check_name(name, where, kind)):
            raise kind(f"{where} names {short(name)}, which leads out of the data's folder: expected one below it")


def check_name(name: object, where: object, kind: type[UserError] = UserError) -> str:
    """Return a file's name that the file `where` lists. Raises `kind` for what cannot be one."""
    if not isinstance(name, str) or not name or any(ord(c) < 32 for c in name):
        raise kind(f"{where} names {short(name)}: expected the name of a file")
    return name


def leads_out(name: str) -> bool:
    """Tell whether a path is not one below the folder that it is meant from."""
    return PurePath(name).is_absolute() or ".." in PurePath(name).parts


def file_bytes(path: FilePath, most: int = JSON_BYTES, kind: type[UserError] = UserError) -> bytes:
    """Read a file of `most` bytes at most. Raises `kind`, or OSError where it cannot be opened."""
    check_is_file(path, kind)
    with open(path, "rb") as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if data is None or len(data) > most:
        raise kind(f"{path} has more than {most:,} bytes: is it the right file?")
    return data


def file_text(path: FilePath, most: int = TEXT_BYTES, kind: type[UserError] = UserError) -> str:
    """Read the UTF-8 text of a file, without a byte-order mark. Raises `kind`, or OSError where it cannot be opened."""
    data = file_bytes(path, most, kind)
    if b"\0" in data:
        raise kind(f"{path} holds NUL bytes and is no UTF-8 text: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise kind(f"{path} is no UTF-8 text (byte {byte:#04x} in line {line}): save it as UTF-8") from None


def read_json(path: FilePath, kind: type[UserError] = UserError) -> Plain:
    """Read the value of a JSON file. Raises `kind`, which names the file, or OSError where it cannot be opened."""
    return parse_json(file_text(path, JSON_BYTES, kind), path, kind)


def parse_json(text: str | bytes, where: object, kind: type[UserError] = UserError) -> Plain:
    """Parse the value of a JSON text. Raises `kind`, which begins with `where`."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
        _check_values(value)
    except json.JSONDecodeError as error:
        reason = "the file is empty" if not text.strip() else f"line {error.lineno}: {error.msg}"
        raise kind(f"{where}: not valid JSON, {reason}") from None
    except RecursionError:
        raise kind(f"{where}: {TOO_DEEP}") from None
    except (UserError, UnicodeDecodeError) as error:
        raise kind(f"{where}: {error}") from None
    return value


def parse_json_lines(text: str, where: object, kind: type[UserError] = UserError) -> list[Plain]:
    """Parse the value of each line that is not empty. A kill may leave a last line without its end: such a line is left
    out where it cannot be read. Raises `kind`, which names the line."""
    lines, values = text.split("\n"), []
    for number, line in enumerate(lines, 1):
        try:
            values += [parse_json(line, f"{where}, line {number}", kind)] if line.strip() else []
        except kind:
            if number < len(lines):
                raise
    return values


def read_yaml(path: FilePath, kind: type[UserError] = UserError) -> Plain:
    """Read the value of a YAML file, dates as text. Raises `kind`, which names the file, or OSError."""
    return parse_yaml(file_text(path, SETTINGS_BYTES, kind), path, kind)


def parse_yaml(text: str, where: object, kind: type[UserError] = UserError) -> Plain:
    """Parse the value of a YAML text, dates as text. Raises `kind`, which begins with `where`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, {})
        value = loader.construct_document(node)
        _check_values(value)
    except UserError as error:
        raise kind(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:  # PyYAML's own, for `0x_` or `!!bool x`
        reason = " ".join(str(error).replace(' in "<unicode string>"', "").split())[:300]
        raise kind(f"{where}: not valid YAML: {reason}") from None
    return value


def read_plain(path: FilePath, kind: type[UserError] = UserError) -> Plain:
    """Call read_json for a file NAME.json, read_yaml for any other."""
    return (read_json if str(path).endswith(".json") else read_yaml)(path, kind)


class _Loader(yaml.SafeLoader):
    """Load dates as the text they are: no setting is a date, and 2020-13-45 is none either. Nesting ends at DEPTH while
    the file is read: PyYAML would need seconds to come to the end of Python's stack."""

    depth = 0
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEPTH:
            raise UserError(TOO_DEEP)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _object(pairs: list[tuple[str, Plain]]) -> PlainDict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise UserError(f"the key {short(next(n for n in names if names.count(n) > 1))} stands twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise UserError(f"a number of {len(digits):,} digits")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise UserError(f"{name} is no number of JSON's")


def _check_values(value: Plain) -> None:
    """Raise UserError for nesting beyond DEPTH, for numbers that are not finite, and for text that no file name and no
    UTF-8 can hold. It goes level by level, so that Python's stack sets no limit."""
    level: list[Plain] = [[value]]
    for _ in range(DEPTH + 1):
        children = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
        for child in children:
            if type(child) is float and not math.isfinite(child):
                raise UserError(f"a number is {child}: expected a finite one")
        texts = [child for child in children if type(child) is str]
        texts += [key for node in level if isinstance(node, dict) for key in node if type(key) is str]
        if odd := re.search("[\0\ud800-\udfff]", "\n".join(texts)):
            raise UserError(f"a text holds the character {odd[0]!a}, which is none")
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return
    raise UserError(TOO_DEEP)


def _check_nodes(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the characters of a node with its aliases written out; `sizes` remembers them, 0 for a node that is not yet
    known. Raises UserError for more than EXPANDED and for a value that is not plain."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise UserError(f"line {node.start_mark.line + 1}: a value that holds itself")
        return sizes[id(node)]
    where, sizes[id(node)] = f"line {node.start_mark.line + 1}", 0
    if node.tag not in PLAIN_TAGS:
        raise UserError(f"{where}: a value of the kind {short(node.tag)}: expected text, a number, list or mapping")
    if isinstance(node, yaml.ScalarNode):
        if node.tag in NUMBER_TAGS and len(node.value) > DIGITS:
            raise UserError(f"{where}: a number of {len(node.value):,} digits")
        if node.tag in NUMBER_TAGS and node.value.lower().endswith(("inf", "nan")):
            raise UserError(f"{where}: the number {node.value}: expected a finite one")
        size = 1 + len(node.value)
    else:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            _check_mapping(node)
            children = [child for pair in node.value for child in pair]
        size = 2 + sum(_check_nodes(child, sizes) for child in children)
    if size > EXPANDED:
        raise UserError(f"{where}: the aliases (*NAME) expand to more than {EXPANDED:,} characters")
    sizes[id(node)] = size
    return size


def _check_mapping(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        where = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{where}: a list or mapping as a key")
        if (key.tag, key.value) in seen:
            raise UserError(f"{where}: the key {short(key.value)} stands twice")
        seen.add((key.tag, key.value))
