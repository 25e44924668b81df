"""Mark a set of C files: each file of it ends in the same mark, and files of two sets do not compile together."""

import hashlib

STAMP = """
#ifndef {macro}
#define {macro} 0x{digits}
#elif {macro} != 0x{digits}
#error "{name} is of another set of files than the one that includes it: run mcunet generate again"
#endif
"""


def stamped(files: dict[str, str], macro: str) -> dict[str, str]:
    """Return the C files of a set, by name, each with the set's mark at its end: 8 hex digits that change with any of
    them, defined as `macro` by the first file that the compiler meets and compared by the others."""
    digits = fingerprint(files)
    return {name: text + stamp(name, macro, digits) for name, text in files.items()}


def stamp(name: str, macro: str, digits: str) -> str:
    """Return the mark at the end of the file `name`: `digits`, defined as `macro` or compared with it."""
    return STAMP.format(name=name, macro=macro, digits=digits)


def fingerprint(files: dict[str, str]) -> str:
    """Return 8 hex digits that change with the name and the text of each file."""
    found = hashlib.sha256()
    for name, text in sorted(files.items()):
        found.update(f"{name}\0{len(text)}\0{text}".encode())
    return found.hexdigest()[:8]
