"""Put sections with charts into one HTML file that needs nothing else: no network, no other file.

A section is plain data. Its chart is a Vega-Lite specification, a JSON file in charts/, whose named data sets are the
section's rows. The browser draws it: hovering, searching and sliders are the specification's own.
"""

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import TypeAlias

from ..core.errors import UserError
from ..core.types import Plain, PlainDict

HERE = Path(__file__).parent
Rows: TypeAlias = list[PlainDict]
INSTALL = "pip install 'nni-mcunet[page]'"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    id, title  text: what is to be seen, in a sentence or two
    chart      file in charts/, without its ending; "" for none
    rows       data set of the chart -> its rows
    size       (width, height) of the chart in pixels, None for its own
    most       parameter of the chart with a slider -> the largest value; a slider of one value is left out
    chosen     parameter of the chart with a selection -> what is selected at first
    why        why there is nothing to draw; "" where there is
    """

    id: str
    title: str
    text: str = ""
    chart: str = ""
    rows: dict[str, Rows] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    most: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, Rows] = field(default_factory=dict)
    why: str = ""

    def data(self) -> PlainDict:
        """Return the section for the script of the page."""
        found: PlainDict = {"id": self.id, "title": self.title, "text": self.text, "why": self.why}
        return found if self.why or not self.chart else found | {"chart": self.specification()}

    def specification(self) -> PlainDict:
        """Return the Vega-Lite specification with its data; layers of the drawing that have no row are left out."""
        spec: PlainDict = json.loads((HERE / f"charts/{self.chart}.vl.json").read_text())
        if self.size is not None:
            spec |= {"width": self.size[0], "height": self.size[1]}
        if "layer" in spec:
            spec["layer"] = [layer for layer in spec["layer"] if self.rows.get(layer["data"]["name"])]
        for parameter in _parameters(spec):
            if parameter["name"] in self.most:
                parameter["bind"]["max"] = self.most[parameter["name"]]
                if parameter["bind"]["max"] <= parameter["bind"]["min"]:
                    del parameter["bind"]
        for parameter in _parameters(spec):
            if parameter["name"] in self.chosen:
                parameter["value"] = self.chosen[parameter["name"]]
        config = json.loads((HERE / "charts/config.json").read_text())
        return {**spec, "config": config, "datasets": self.rows}


def _parameters(spec: PlainDict) -> Iterator[PlainDict]:
    """Yield the parameters of a specification and of the drawings in it."""
    for part in (*spec.get("vconcat", ()), *spec.get("layer", ())):
        yield from _parameters(part)
    yield from spec.get("params", ())


def page(title: str, facts: list[tuple[str, str]], sections: list[Section], network: PlainDict | None = None) -> str:
    """Return the text of the HTML file. facts: lines of the table at its head; network: what static/run.js runs, None
    for no such part. Raises UserError where the plotting library is not installed."""
    data = {"facts": facts, "sections": [section.data() for section in sections], "network": network}
    names = ("page.js", *(("resize.js", "run.js") if network else ()))
    scripts = "\n".join(_static(name) for name in names)
    return Template(_static("page.html")).substitute(
        title=html.escape(title), style=_static("page.css"), library=_library(), data=embedded(data), script=scripts
    )


def embedded(data: Plain) -> str:
    """Return JSON that may stand in a script element: no "<" of it ends the element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def check_library() -> None:
    """Raise UserError where the plotting library is not installed."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        raise UserError(f"a page needs Vega-Lite, which vl-convert-python brings: {INSTALL}") from None


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script."""
    check_library()
    import vl_convert

    found: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return found.replace("</script", "<\\/script")


def _static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")
