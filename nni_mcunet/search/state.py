"""What a search keeps beside its history so that it is never mixed with another: search.json, its settings."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from ..core.errors import UserError
from ..core.files import write_json
from .config import SearchConfig
from .evolution import Evolution
from .history import read_history

FILES = ("done.json", "history.jsonl", "best.json", "best.pth", "search.json")
FREE = ("out", "batch", "retries")  # settings that change nothing in the history


class StateError(UserError):
    """A folder holds another search than the one that is to go on there."""


def begin(config: SearchConfig, evolution: Evolution) -> None:
    """A new search in config.out. One that is there is not overwritten: its files move to out/previous."""
    out = Path(config.out)
    if (out / "history.jsonl").exists():
        for path in (out / name for name in FILES if (out / name).exists()):
            (out / "previous").mkdir(exist_ok=True)
            path.replace(out / "previous" / path.name)
    write_json(out / "search.json", _described(config, evolution))


def restore(config: SearchConfig, evolution: Evolution, begun: bool) -> None:
    """Go on with the search in config.out; without a first result there it begins. begun: it has had trials, so there
    must be something. Raises StateError when there is not, or when the settings were others."""
    out = Path(config.out)
    there = [name for name in ("history.jsonl", "search.json") if (out / name).exists()]
    if begun and not there:
        raise StateError(f"nothing of this experiment is in {out} any more: its search has ended, or was moved away")
    if not begun and there == ["search.json"]:
        (out / "search.json").unlink()  # of a search whose history `begin` had moved away when it was killed
    evolution.load_state_dict({"proposals": claim(out, _described(config, evolution))})


def claim(out: Path, described: dict) -> list[dict]:
    """The history in `out`, empty before the first result, of the search that `described` says ({"settings", "space"}
    and what may change); search.json says the same afterwards. Raises StateError when it is another search's."""
    path, described, history = out / "search.json", json.loads(json.dumps(described)), read_history(out)
    if path.exists():
        there = json.loads(path.read_text())
        old, new = (d["settings"] | {"space": d["space"]} for d in (there, described))
        for key in old | new:
            if key not in FREE and old.get(key) != new.get(key):
                raise StateError(
                    f"{out} holds another search: its {key} is {_short(old.get(key))}, not {_short(new.get(key))}; "
                    "resume each with its own settings or give them folders of their own"
                )
    elif history:
        raise StateError(f"{out} holds a history.jsonl but no search.json: it is not known what search it belongs to")
    write_json(path, described)
    return history


def read_settings(out: Path) -> SearchConfig:
    """Of the search whose results are in `out`. Raises StateError."""
    path = Path(out) / "search.json"
    if not path.exists():
        raise StateError(f"{path}: no such file; name the folder of a search's results")
    return SearchConfig.from_dict(json.loads(path.read_text())["settings"] | {"out": str(out)})


def _described(config: SearchConfig, evolution: Evolution) -> dict:
    experiment = Path(os.environ.get("NNI_LOG_DIRECTORY", "-/-")).parent.name  # NNI's id, see experiment.find
    settings = asdict(config)
    if config.halo == "clip":  # as described before there was a choice
        del settings["halo"]
    return {"experiment": experiment, "settings": settings, "space": evolution.space.to_dict()}


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
