"""Describe a search in its folder, search.json, so that its history is never mixed with another's."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from ...core.errors import UserError
from ...core.files import sha256, write_json
from ...core.types import Plain, PlainDict
from ...core.validate import read_json, short
from ..config import SearchConfig
from ..evolution import Evolution
from .history import read_history
from .result_folder import ASIDE, check_free, holds_search, set_aside

FREE = ("out", "batch", "retries")  # settings that change nothing in the history


class StateError(UserError):
    """Report that a folder holds another search than the one that is to go on there."""


def begin(config: SearchConfig, evolution: Evolution) -> None:
    """Begin a new search in config.out. One that is there is not overwritten: its files move to out/previous. Raises
    ResultsError for files that are no search's."""
    out = Path(config.out)
    check_free(out)
    set_aside(out)
    write_json(out / "search.json", _described(config, evolution))


def restore(config: SearchConfig, evolution: Evolution, begun: bool) -> None:
    """Go on with the search in config.out; without a first result there it begins. begun: it has had trials, so there
    must be something. Raises StateError when there is not, or when the settings were others."""
    out = Path(config.out)
    if (out / ASIDE).exists():
        set_aside(out)  # killed while it began
    if begun and not (out / "history.jsonl").exists() and not holds_search(out):
        raise StateError(f"nothing of this experiment is in {out} any more: its search has ended, or was moved away")
    evolution.load_state_dict({"proposals": claim(out, _described(config, evolution))})
    if not evolution.done:
        (out / "done.json").unlink(missing_ok=True)  # it counts a history that was whole then


def claim(out: Path, described: PlainDict) -> list[PlainDict]:
    """Return the history in `out`, empty before the first result, of the search that `described` says ({"settings",
    "space"} and what may change); search.json says the same afterwards. Raises StateError when it is another
    search's."""
    described, history = json.loads(json.dumps(described)), read_history(out)
    if holds_search(out):
        if difference := differs(out, described):
            raise StateError(difference)
    elif history:
        raise StateError(f"{out} holds a history.jsonl but no search.json: it is not known what search it belongs to")
    check_free(out)
    write_json(out / "search.json", described)
    return history


def differs(out: Path, described: PlainDict) -> str:
    """Say what tells the search in `out` from the one described; empty when nothing does."""
    there = read_json(Path(out) / "search.json", StateError)
    old, new = (d["settings"] | {"space": d["space"]} for d in (there, json.loads(json.dumps(described))))
    if "weights" in there:  # an earlier version did not note them
        old["super-network"], new["super-network"] = there["weights"], described.get("weights")
    for key in old | new:
        if key not in FREE and old.get(key) != new.get(key):
            return (
                f"{out} holds another search: its {key} is {_short(old.get(key))}, not {_short(new.get(key))}; "
                "resume each with its own settings or give them folders of their own"
            )
    return ""


def finished(out: Path) -> bool:
    """Tell whether the search in `out` has come to its end: done.json is there and the history has all that it counts.
    Raises StateError or HistoryError for files that are damaged."""
    path = Path(out) / "done.json"
    if not path.exists():
        return False
    done = read_json(path, StateError)
    count = done.get("candidates") if isinstance(done, dict) else None
    if type(count) is not int:
        raise StateError(f"{path} is {short(done)}: expected what a search writes at its end; delete it and resume")
    return len(read_history(out)) == count


def read_settings(out: Path) -> SearchConfig:
    """Read the settings of the search whose results are in `out`. Raises StateError."""
    path = Path(out) / "search.json"
    if not holds_search(Path(out)):
        raise StateError(f"{path}: no such file; name the folder of a search's results")
    return SearchConfig.from_dict(read_json(path, StateError)["settings"] | {"out": str(out)})


def experiment_id(path: Path) -> str:
    """Read NNI's id of the experiment that experiment.json or search.json names. Raises StateError."""
    found = read_json(path, StateError)
    id = found.get("experiment") if isinstance(found, dict) else None
    if not isinstance(id, str) or not id.isascii() or not id.isalnum():
        raise StateError(f"{path} names no experiment of NNI's ({short(id)}): resume it by its id, or begin anew")
    return id


def _described(config: SearchConfig, evolution: Evolution) -> PlainDict:
    experiment = Path(os.environ.get("NNI_LOG_DIRECTORY", "-/-")).parent.name  # NNI's id, see launch.find
    settings = asdict(config)
    if config.halo == "clip":  # as searches were described before there was a choice
        del settings["halo"]
    for name, off in (("objectives", ()), ("boards", ()), ("sieve", 1)):
        if settings[name] == off:
            del settings[name]
    weights = sha256(config.supernet)
    return {"experiment": experiment, "settings": settings, "space": evolution.space.to_dict(), "weights": weights}


def check_weights(config: SearchConfig, out: Path) -> None:
    """Look whether the super-network is the one that the search in `out` has judged. Raises StateError where it was
    trained again since. A search of an earlier version does not say."""
    path = Path(out) / "search.json"
    judged = read_json(path, StateError).get("weights") if path.exists() else None
    if judged is not None and judged != sha256(config.supernet):
        raise StateError(
            f"{config.supernet} is not the super-network that the search in {out} has judged: it was trained again "
            "since; search again, or put the earlier file there"
        )


def _short(value: Plain) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
