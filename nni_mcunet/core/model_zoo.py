"""Know the trained networks that come with this project: `zoo:NAME` is one, wherever a model's file is expected.

The folder zoo/ holds for each an int8 ONNX file, a card in Markdown and perhaps float weights to begin a training with;
zoo/index.json lists them. zoo/recipes.json has the detectors whose weights stay here. benchmarks/zoo.py writes all of
it. A file is used only with the bytes that the list names.
"""

import difflib
from pathlib import Path

from .errors import UserError
from .files import sha256
from .types import FilePath, PlainDict
from .validate import read_json, short

FOLDER = Path(__file__).resolve().parents[1] / ".mim/zoo"  # of the tree, and of a wheel
PREFIX = "zoo:"


def is_named(source: object) -> bool:
    """Tell whether it names a network of the zoo: zoo:NAME."""
    return isinstance(source, str) and source.startswith(PREFIX)


def index() -> dict[str, PlainDict]:
    """Return name -> entry of the list, as benchmarks/zoo.py writes them. Raises UserError for a damaged list."""
    path = FOLDER / "index.json"
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(e, dict) and "sha256" in e for e in found.values()):
        raise UserError(f"{path} is no list of networks: install the package again")
    return found


def recipes() -> list[PlainDict]:
    """Return the detectors whose weights may not be handed on, each with its config, data, figures and board."""
    return list(read_json(FOLDER / "recipes.json"))


def entry(name: str) -> PlainDict:
    """Return what the list says of a network, NAME or zoo:NAME. Raises UserError for one that it has not."""
    known, plain = index(), name.removeprefix(PREFIX)
    if plain not in known:
        near = difflib.get_close_matches(plain, known, 3) or list(known)
        raise UserError(f"unknown network {short(PREFIX + plain)}: did you mean {', '.join(PREFIX + n for n in near)}?")
    return known[plain]


def model_file(name: str) -> Path:
    """Return the int8 file of a network. Raises UserError for an unknown one, and for other bytes than the list's."""
    return _checked(f"{name.removeprefix(PREFIX)}.onnx", entry(name)["sha256"])


def weights_file(name: str) -> Path:
    """Return the float weights of a network's backbone. Raises UserError where it has none, and as model_file."""
    weights = entry(name).get("weights")
    if not weights:
        raise UserError(f"{name} has no float weights; mcunet zoo lists those that have some")
    return _checked(f"weights/{name.removeprefix(PREFIX)}.pth", weights["sha256"])


def card(name: str) -> str:
    """Return the Markdown of a network's card. Raises UserError for an unknown one."""
    entry(name)
    return (FOLDER / f"{name.removeprefix(PREFIX)}.md").read_text(encoding="utf-8")


def weights_for(arch: str) -> str | None:
    """Return zoo:NAME of the weights to begin with for a backbone of this architecture; None where there are none."""
    ours = [name for name, e in index().items() if e.get("weights", {}).get("arch") == arch]
    first = [name for name in ours if index()[name]["weights"].get("first")]
    return next((PREFIX + name for name in (*first, *ours)), None)


def resolved(source: FilePath) -> FilePath:
    """Return the file that zoo:NAME stands for; any other name as it is. Raises UserError, see model_file."""
    return model_file(source) if isinstance(source, str) and is_named(source) else source


def _checked(name: str, expected: str) -> Path:
    path = FOLDER / name
    if not path.is_file() or sha256(path) != expected:
        raise UserError(f"{path} is missing or not the file that index.json names: install the package again")
    return path
