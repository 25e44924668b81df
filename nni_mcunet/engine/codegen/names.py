"""Name things and quote texts in generated C. Layers, classes and files may be called anything; C may not.

Every generated name begins with the model's prefix: `mcu` unless the user gives another, so that one firmware can hold
several models. A layer's names have its number, too, which no other layer has: mcu_l3_conv1, mcu_l3_conv1_w, ... No
kernel, type, macro or key word looks like that, and no list of such words is needed. Words out of a file stand in C as
comments and strings, escaped here and nowhere else.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...core.errors import UserError
from ...core.ir.graph import Graph
from ...core.validate import short

DEFAULT = "mcu"
LONGEST_PREFIX, SHOWN = 31, 40  # characters
KEY_WORDS = """
alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype
default delete do double else enum explicit export extern false float for friend goto if inline int long main mutable
namespace new noexcept not nullptr operator or private protected public register reinterpret restrict return short
signed sizeof static struct switch template this throw true try typedef typeid typename typeof union unsigned using
virtual void volatile while xor"""


def check_prefix(prefix: str) -> str:
    """Return the prefix. Raises UserError for one that C, C++ or the kernels would not take."""
    if prefix == DEFAULT:
        return prefix
    why = None
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
        why = "letters, digits and underscores make one, a letter first"
    elif prefix.endswith("_") or "__" in prefix:
        why = "C++ keeps names with two underscores in a row"
    elif prefix in KEY_WORDS.split():
        why = "C or C++ keeps that word"
    elif prefix.lower() == DEFAULT or prefix.lower().startswith(f"{DEFAULT}_"):
        why = "the kernels' names begin like that"
    elif len(prefix) > LONGEST_PREFIX:
        why = f"at most {LONGEST_PREFIX} characters"
    if why:
        raise UserError(f"--prefix {short(prefix)}: {why}; give one such as 'faces'")
    return prefix


def check_beside(folder: Path, prefix: str) -> None:
    """Raise UserError where another model's prefix differs only by capitals, which macros do not have."""
    for path in folder.glob("*_model.h"):
        other = path.name.removesuffix("_model.h")
        if other != prefix and other.lower() == prefix.lower():
            raise UserError(
                f"--prefix {prefix}: {folder} holds a model '{other}', which has the same macros; give another"
            )


@dataclass(frozen=True)
class Names:
    """Hold the names of one model in C."""

    prefix: str
    graph: Graph

    @property
    def macro(self) -> str:
        """Return the word that its macros begin with."""
        return self.prefix.upper()

    @cached_property
    def _of_ops(self) -> dict[str, str]:
        return {
            op.name: f"{self.prefix}_l{i}_{re.sub('[^A-Za-z0-9]+', '_', op.name)[:SHOWN].strip('_')}".rstrip("_")
            for i, op in enumerate(self.graph.ops)
        }

    def of(self, op: str) -> str:
        """Return the name of an op's struct. Its arrays have this name, an underscore and a word."""
        return self._of_ops[op]


def commented(text: str) -> str:
    """Return the text, quoted, for a comment, with JSON's escapes for all that could end the comment or the line."""
    kept = {"*": "\\u002a", "?": "\\u003f"}
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(kept.get(c) or (c if c.isprintable() else _escaped(c)) for c in quoted)


def _escaped(char: str) -> str:
    """Return JSON's escapes of a character, two for one above U+FFFF."""
    return json.dumps(char)[1:-1]


def c_string(text: str) -> str:
    """Return a C string literal of the text in UTF-8. It is the same to C99, where ??/ is a backslash, C11, C++, gcc
    and clang. Raises UserError for what no C string or UTF-8 can hold."""
    if not isinstance(text, str):
        raise UserError(f"{short(text)} is no text for a C string; give a name in quotes")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise UserError(f"the name {short(text)} is no Unicode text; rename it") from None
    if 0 in data:
        raise UserError(f"the name {short(text)} holds a zero byte, which ends a C string; rename it")
    return f'"{"".join(map(_literal, data))}"'


def _literal(byte: int) -> str:
    """Return a byte as it stands in a C string. Octal escapes have three digits, so that a digit behind one is a
    digit."""
    char = chr(byte)
    if char in '"\\?':
        return f"\\{char}"
    return char if 32 <= byte < 127 else f"\\{byte:03o}"
