"""Lay out the page of a firmware: plain data of its plan, its run and its network become the rows of the charts.

A figure that is not known has a sentence why in its place.
"""

import base64
import io
import math
from typing import NamedTuple

from PIL import Image

from ..core.types import Picture, PlainDict
from .html import Section

SIDE = 480  # pixels of the longer side of a drawn picture
KB = 1024
TEXTS = {
    "arena": "Which buffer lies where in the arena during which op. Shift and the wheel zoom, dragging moves.",
    "layers": "Each layer over all of its patches.",
    "patches": "Each patch reads the blue part, darker where patches overlap, of which the dashed part is its "
    "own. The rest is halo.",
    "memories": "Where the firmware's flash and SRAM go, read from its ELF.",
    "front": "Schedules of this network that no other beats both in arena and in computation: square grids up to 4x4, "
    "three segments in patches at most.",
    "sqnr": "How far each layer's int8 output is from the float network's, in dB: more is nearer.",
    "boxes": "Found by the very C on this picture, as the network sees it: numbers are pixels of its image.",
}
PATCHED = " A buffer of ops that run patch by patch is used anew in each patch: the sliders choose one."
Rows = list[PlainDict]


class Measured(NamedTuple):
    """Hold figures besides the plan's; each may be a sentence why it is not known.

    run      report of `mcunet run --layers --json`
    front    rows {"schedule", "halo", "arena", "macs", "overhead", "ms", "which"}
    sqnr     rows {"name", "kind", "total", "own"} in dB
    picture  uint8 (h, w, 3), as the network sees it
    boxes    rows as `mcunet run --json` has them
    """

    run: PlainDict | str
    front: Rows | str
    sqnr: Rows | str
    picture: Picture | str
    boxes: Rows | str


def facts(plan: PlainDict, run: PlainDict | str) -> list[tuple[str, str]]:
    """Return the lines of the table at the head of the page. plan: of core/plan/plan_map.py."""
    board, image = plan["board"], plan["graph"]["inputs"][0]
    limit = f"of {board['arena_limit']:,} that a network may take"
    parts = "".join(f", {part['size']:,} in {part['region']}" for part in plan["parts"])
    found = [
        ("network", f"{plan['network']}, reads {image[1]}x{image[2]}x{image[3]}"),
        ("board", f"{board['name']}, {board['core']} at {board['clock_hz'] / 1e6:.0f} MHz"),
        ("schedule", plan["schedule"] + (f", halo {plan['halo']}" if patched(plan) else "")),
        ("arena", f"{plan['arena_bytes']:,} bytes{parts} {limit}"),
        ("constants", f"{plan['flash_bytes']:,} bytes of {board['model_limit']:,} that a network may take"),
        ("MACs", f"{plan['macs']:,}, {plan['overhead']:.1%} of them computed again"),
    ]
    if isinstance(run, str):
        cycles = _total(plan, "cycles")
        found.append(("instructions", f"{_total(plan, 'instructions'):,}, estimated from the plan"))
        time = "not known for this core" if cycles is None else f"{_ms(1e3 * cycles / board['clock_hz'])}, estimated"
        return [*found, ("time", time)]
    return [
        *found,
        ("whole firmware", f"{run['sram_bytes']:,} bytes of SRAM, {run['flash_bytes']:,} of flash"),
        ("stack", f"{run['stack_bytes']:,} bytes used of {run['stack_reserved_bytes']:,}"),
        ("instructions", f"{run['instructions']:,}, counted in the emulator"),
        ("time", f"{_ms(run['milliseconds_estimated'])}, estimated from these"),
    ]


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _total(plan: PlainDict, key: str) -> int | None:
    parts = [plan["image"][key], *(layer[key] for layer in plan["layers"])]
    return None if None in parts else sum(parts)


def patched(plan: PlainDict) -> Rows:
    """Return the segments that run in patches."""
    return [segment for segment in plan["segments"] if segment["grid"] != [1, 1]]


def sections(plan: PlainDict, known: Measured) -> list[Section]:
    """Return the sections of the page. plan: of core/plan/plan_map.py."""
    return [
        _arena(plan),
        _layers(plan, known.run),
        _patches(plan, known.picture),
        _memories(plan, known.run),
        _of("front", "Schedules", known.front, limits=_limit(plan)),
        _of("sqnr", "Int8 against float, by layer", known.sqnr, "layers"),
        _boxes(plan, known),
    ]


def _of(id: str, title: str, rows: Rows | str, name: str = "", **others: Rows) -> Section:
    if isinstance(rows, str):
        return Section(id, title, why=rows)
    return Section(id, title, TEXTS[id], id, {name or id: rows, **others})


def _limit(plan: PlainDict) -> Rows:
    return [{"name": f"what a network may take on the {plan['board']['name']}", "bytes": plan["board"]["arena_limit"]}]


def _arena(plan: PlainDict) -> Section:
    shapes, places = _shapes(plan), _patches_of(plan)
    names = [layer["name"] for layer in plan["layers"]]
    end, rows = len(names), []
    for buffer in plan["buffers"]:
        for life in buffer["lives"]:
            last = min(life["last"], end - 1)
            row = {
                "buffer": buffer["name"], "tensor": life["tensor"], "what": life["what"],
                "offset": buffer["offset"], "end": buffer["offset"] + life["bytes"], "bytes": life["bytes"],
                "from": life["first"], "to": last + 1, "writer": names[life["first"]], "reader": names[last],
                "over": life["over"] or "", "region": _region(plan, buffer["offset"]),
            }  # fmt: skip
            if life["what"] not in ("scratch", "cache"):
                shape = shapes[life["tensor"]]
                row |= {"shape": "x".join(map(str, shape)), "channels": shape[2]}
                row |= places.get(life["tensor"], {})
            row["words"] = " ".join([life["tensor"], life["what"], *names[life["first"] : last + 1]])
            rows.append(row)
    data = {"lives": rows, "segments": _shaded(plan), "limits": _near(plan), "parts": plan["parts"]}
    text = TEXTS["arena"] + PATCHED * bool(patched(plan))
    grids = [segment["grid"] for segment in plan["segments"]]
    most = {f"patch_{name}": max(grid[axis] for grid in grids) - 1 for axis, name in enumerate(("row", "col"))}
    return Section("arena", "The arena over time", text, "arena", data, most=most)


def _region(plan: PlainDict, offset: int) -> str:
    """Return the board's region in which a byte of the arena lies, "" where it is one array."""
    return next((part["region"] for part in plan["parts"] if 0 <= offset - part["at"] < part["size"]), "")


def _near(plan: PlainDict) -> Rows:
    """Return the limit where it is near enough not to flatten the drawing."""
    return [limit for limit in _limit(plan) if limit["bytes"] < 1.5 * plan["arena_bytes"]]


def _shaded(plan: PlainDict) -> Rows:
    return [
        {"from": s["first"], "to": s["last"] + 1, "segment": f"{s['grid'][0]}x{s['grid'][1]} patches"}
        for s in patched(plan)
    ]


def _shapes(plan: PlainDict) -> dict[str, list[int]]:
    images = {image[0]: image[1:] for image in plan["graph"]["inputs"]}
    return images | {layer["name"]: layer["output"] for layer in plan["layers"]}


def _patches_of(plan: PlainDict) -> dict[str, PlainDict]:
    """Return tensor -> the positions that each patch row and each patch column holds of it, in the segment that writes
    it. whole: its buffer has the whole map."""
    names, found = [layer["name"] for layer in plan["layers"]], {}
    images = {image[0] for image in plan["graph"]["inputs"]}
    for segment in patched(plan):
        own = {*names[segment["first"] : segment["last"] + 1]} | (images if not segment["first"] else set())
        for name in own & set(segment["rows"]):
            found[name] = {"rows": segment["rows"][name], "cols": segment["cols"][name],
                           "whole": name == segment["out"]}  # fmt: skip
    return found


def _layers(plan: PlainDict, run: PlainDict | str) -> Section:
    clock, counted = plan["board"]["clock_hz"], {} if isinstance(run, str) else _counted(run)
    rows, text = [], TEXTS["layers"]
    for at, layer in enumerate(plan["layers"]):
        own = counted.get(layer["name"])
        cycles = own["cycles_estimated"] if own else layer["cycles"]
        number = own["instructions"] if own else layer["instructions"]
        told = "counted in the emulator" if own else "estimated from the plan"
        figures = [
            ("bytes of the arena alive", layer["live_bytes"], "planned"),
            ("multiply-accumulates", layer["macs"], f"of them {layer['macs'] - layer['own_macs']:,} computed again"),
            ("instructions", number, told),
        ]
        if cycles is not None:
            figures.append(("milliseconds, estimated", 1e3 * cycles / clock, f"from instructions {told}"))
        shapes = " -> ".join("x".join(map(str, layer[side])) for side in ("input", "output"))
        same = {"name": layer["name"], "block": layer["block"], "kernel": layer["kind"], "shapes": shapes,
                "from": at, "to": at + 1, "words": f"{layer['name']} {layer['block']} {layer['kind']}"}  # fmt: skip
        rows += [same | {"figure": f, "value": v, "shown": f"{v:,.4g}" if isinstance(v, float) else f"{v:,}", "note": n}
                 for f, v, n in figures]  # fmt: skip
    if isinstance(run, str):
        text += f" {run}"
    if plan["image"]["cycles"] is None and not counted:
        text += f" No time: nothing is known of the {plan['board']['core']}."
    return Section("layers", "Layer by layer", text, "layers", {"layers": rows})


def _counted(run: PlainDict) -> dict[str, PlainDict]:
    """Return layer -> the counts of its calls, the copies of its halo included."""
    found: dict[str, PlainDict] = {}
    for row in run["layers"]:
        own = found.setdefault(row["name"].removesuffix(":halo").removesuffix(" (layer)"), {})
        for key in ("instructions", "cycles_estimated"):
            own[key] = own.get(key, 0) + row[key]
    return found


def _size(plan: PlainDict) -> tuple[int, int]:
    """Return the drawn picture's width and height."""
    _, h, w, _ = plan["graph"]["inputs"][0]
    return max(1, round(SIDE * w / max(h, w))), max(1, round(SIDE * h / max(h, w)))


def _patches(plan: PlainDict, picture: Picture | str) -> Section:
    found = patched(plan)
    if not found:
        return Section("patches", "Patches", why="The network runs layer by layer: there are no patches.")
    text, drawn = TEXTS["patches"], []
    if isinstance(picture, str):
        text += f" {picture}"
    else:
        drawn = [{"url": data_url(picture)}]
    shapes, rows = _shapes(plan), []
    for number, segment in enumerate(found, 1):
        read = next(name for name in segment["rows"] if name in shapes and _is_source(plan, segment, name))
        sides = [
            [_along(segment, axis, read, shapes[read][at], shapes[segment["out"]][at], i) for i in range(count)]
            for at, (axis, count) in enumerate(zip(("rows", "cols"), segment["grid"], strict=True))
        ]
        for i, y in enumerate(sides[0]):
            for j, x in enumerate(sides[1]):
                area, own = ((s[b] - s[a]) * (t[b] - t[a]) for s, t, a, b in ((x, y, 0, 1), (x, y, 2, 3)))
                rows.append({
                    "segment": number, "row": i, "col": j, "map": "the picture" if number == 1 else read,
                    "x1": x[0], "x2": x[1], "y1": y[0], "y2": y[1],
                    "own_x1": x[2], "own_x2": x[3], "own_y1": y[2], "own_y2": y[3],
                    "rows": y[4], "columns": x[4], "halo": max(0, 1 - own / area) if area else 0,
                })  # fmt: skip
    return Section("patches", "Patches", text, "patches", {"picture": drawn, "patches": rows}, _size(plan),
                   {"segment": len(found)})  # fmt: skip


def _is_source(plan: PlainDict, segment: PlainDict, name: str) -> bool:
    """Tell whether a patched segment reads the tensor and does not write it."""
    return name not in [layer["name"] for layer in plan["layers"][segment["first"] : segment["last"] + 1]]


def _along(segment: PlainDict, axis: str, read: str, length: int, out: int, i: int) -> tuple[float, ...]:
    """Return (from, to, own from, own to, text) of patch i along an axis, as shares of the length."""
    (lo, hi), (first, end) = segment[axis][read][i], segment[axis][segment["out"]][i]
    return lo / length, hi / length, first / out, end / out, f"{lo} to {hi} of {length}"  # type: ignore[return-value]


def _memories(plan: PlainDict, run: PlainDict | str) -> Section:
    title = "Flash and SRAM"
    if isinstance(run, str):
        return Section("memories", title, why=run)
    rows: Rows = []
    for memory, whole in (("flash", run["board_flash"]), ("sram", run["board_sram"])):
        at, named = 0, "SRAM" if memory == "sram" else memory
        for part, size in [*run[memory].items(), ("free", max(0, whole - sum(run[memory].values())))]:
            rows.append({"memory": f"{named} of {whole:,} bytes", "part": part, "bytes": size, "from": at,
                         "to": at + size, "share": size / whole})  # fmt: skip
            at += size
    return Section("memories", title, TEXTS["memories"], "memories", {"parts": rows})


def _boxes(plan: PlainDict, known: Measured) -> Section:
    title, boxes, picture = "Boxes", known.boxes, known.picture
    if isinstance(boxes, str):
        return Section("boxes", title, why=boxes)
    if isinstance(picture, str):
        return Section("boxes", title, why=picture)
    _, h, w, _ = plan["graph"]["inputs"][0]
    rows = [
        {"x1": b["box"][0] / w, "y1": b["box"][1] / h, "x2": b["box"][2] / w, "y2": b["box"][3] / h,
         "score": b["score"], "name": b["name"], "at": ", ".join(f"{v:g}" for v in b["box"])}
        for b in boxes
    ]  # fmt: skip
    data = {"picture": [{"url": data_url(picture)}], "boxes": rows}
    return Section("boxes", title, TEXTS["boxes"], "boxes", data, _size(plan))


def finite(value: float) -> float | None:
    """Return a figure for JSON, which knows neither infinity nor NaN."""
    return value if math.isfinite(value) else None


def data_url(picture: Picture) -> str:
    """Return a picture uint8 (h, w, 3) or (h, w, 1) as the URL of a PNG."""
    Image.fromarray(picture.squeeze()).save(file := io.BytesIO(), "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
