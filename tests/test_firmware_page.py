"""The page of a firmware: its data are those of the plan, and a browser shows them without any other file."""

import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from cases import case
from chromium import visited
from conftest import ROOT
from inprocess import command, refused
from nets import random_model
from PIL import Image

from nni_mcunet.api.pages import page
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import GraphError, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.ir.graph_data import graph_of
from nni_mcunet.core.plan import latency
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.plan.plan_map import plan_map
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.model import PIXELS
from nni_mcunet.pages import firmware as layout
from nni_mcunet.pages.html import Section, embedded
from nni_mcunet.pages.html import page as html_page

BOARD = get_board("stm32f412")
MISSING = layout.Measured(*["not known"] * 5)
TIP = """
  await new Promise((done) => setTimeout(done, 500));
  return document.getElementById('vg-tooltip-element')?.innerText || '';
"""
needs_library = pytest.mark.skipif(find_spec("vl_convert") is None, reason="pip install 'nni-mcunet[page]'")


@pytest.mark.parametrize("number", range(12))
def test_the_map_says_where_everything_lies(number):
    """Random networks and schedules: the buffers and layers are those of the plan."""
    found = case(number)
    run = found.plan
    data = json.loads(json.dumps(plan_map(run, found.model.graph, BOARD)))
    assert graph_of(data["graph"]) == found.model.graph
    lives = [(b["offset"], life) for b in data["buffers"] for life in b["lives"]]
    end = max(offset + life["bytes"] for offset, life in lives)  # a part in a region ends at a multiple of 8
    assert data["arena_bytes"] == run.arena and 0 <= run.arena - end < (8 if run.parts else 1)
    assert {life["tensor"] for _, life in lives if life["what"] in ("image", "map", "output")} == {*run.home}
    for name, at in run.home.items():
        (offset,) = [offset for offset, life in lives if life["tensor"] == name and life["what"] not in ("scratch",)]
        assert offset == run.buffers[at].offset
    for index, layer in enumerate(data["layers"]):
        assert layer["live_bytes"] == run.live_bytes(index)
    assert sum(layer["macs"] for layer in data["layers"]) == run.macs
    total = data["image"]["instructions"] + sum(layer["instructions"] for layer in data["layers"])
    assert total == pytest.approx(latency.instructions(run), abs=len(data["layers"]) + 1)
    rows = {s.id: s for s in layout.sections(data, MISSING)}
    assert all(row["end"] <= run.arena for row in rows["arena"].rows["lives"])
    embedded([section.data() for section in rows.values()])  # raises for what JSON does not have


def test_regions_are_told_apart():
    """An arena in two memories: each buffer says its own, and so does the table at the head."""
    graph, board = build_graph(ArchSpec.load(ROOT / "configs/arch/mcunet_in3.json")), get_board("stm32h743")
    run = plan_for_board(graph, board, regions="all")
    assert len(run.parts) > 1
    data = plan_map(run, graph, board)
    rows = next(s for s in layout.sections(data, MISSING) if s.id == "arena").rows["lives"]
    for row in rows:
        (part,) = [p for p in run.parts if p.region == row["region"]]
        assert part.at <= row["offset"] and row["end"] <= part.at + part.size
    said = dict(layout.facts(data, "not known"))["arena"]
    assert all(f"{part.size:,} in {part.region}" in said for part in run.parts) and f"{board.usable:,}" in said


def test_what_is_unknown_has_a_reason():
    data = plan_map(run := plan(graph := build_graph(small())), graph, BOARD)
    found = {s.id: s for s in layout.sections(data, MISSING)}
    assert {id for id, s in found.items() if s.why} == {"patches", "memories", "front", "sqnr", "boxes"}
    assert found["patches"].why == "The network runs layer by layer: there are no patches." and not run.schedule.n
    strange = {**data, "image": {"instructions": 1, "cycles": None}}
    strange["layers"] = [layer | {"cycles": None} for layer in data["layers"]]
    layers = next(s for s in layout.sections(strange, MISSING) if s.id == "layers")
    assert "No time: nothing is known" in layers.text
    assert not any(row["figure"].startswith("milliseconds") for row in layers.rows["layers"])
    assert ("time", "not known for this core") in layout.facts(strange, "not known")


def test_patches_cover_the_picture_with_their_halos():
    graph = build_graph(small())
    data = plan_map(plan(graph, Schedule((2, 3), 3)), graph, BOARD)
    rows = next(s for s in layout.sections(data, MISSING) if s.id == "patches").rows["patches"]
    assert [(r["row"], r["col"]) for r in rows] == [(i, j) for i in range(2) for j in range(3)]
    assert sum((r["own_x2"] - r["own_x1"]) * (r["own_y2"] - r["own_y1"]) for r in rows) == pytest.approx(1)
    for r in rows:
        assert r["x1"] <= r["own_x1"] < r["own_x2"] <= r["x2"] and r["y1"] <= r["own_y1"] < r["own_y2"] <= r["y2"]
        assert (r["halo"] > 0) == (r["row"] + r["col"] > 0)  # the strides leave the first corner none
    assert min(r["x1"] for r in rows) == 0 and max(r["x2"] for r in rows) == 1


@pytest.mark.parametrize(
    "damage", [None, {}, {"name": "x"}, {"name": "x", "inputs": [["i", 1]], "ops": [], "outputs": []}]
)
def test_a_damaged_graph_is_refused(damage):
    with pytest.raises(GraphError, match="no graph is described"):
        graph_of(damage)


def test_a_script_does_not_end_early():
    text = embedded({"name": "</script><b>"})
    assert "<" not in text and json.loads(text) == {"name": "</script><b>"}


def test_a_slider_of_one_value_is_none():
    spec = Section("x", "", chart="arena", most={"patch_row": 0, "patch_col": 3}).specification()
    binds = {p["name"]: p.get("bind") for p in spec["params"]}
    assert binds["patch_row"] is None and binds["patch_col"]["max"] == 3


def small() -> ArchSpec:
    spec = ArchSpec.load(ROOT / "configs/arch/mcu_w50_r128.json")
    return replace(spec, resolution=(64, 96), stages=spec.stages[:3])


def firmware(out, detector: bool = True):
    """A small network in patches, as C."""
    graph = build_graph(small(), YoloHead(3, (1, 2)) if detector else None).folded()
    model = random_model(np.random.default_rng(0), graph)
    model.scales["image"] = PIXELS
    write_library(out, plan(graph, Schedule((2, 2), 3)), model, BOARD)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(page, its picture) of a small network, emulated."""
    home = tmp_path_factory.mktemp("page")
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(picture).save(home / "photo.png")
    return page(firmware(home / "fw"), home / "photo.png")


@needs_library
def test_the_page_needs_nothing_else(written):
    """No address of another file or machine, and a policy that would refuse one."""
    text = written.read_text()
    assert text.startswith("<!DOCTYPE html>\n<!-- nni-mcunet") and written.stat().st_size < 2_000_000
    assert not re.search(r"""(src|href)=["'](?!data:)""", text.partition('id="data"')[0])
    assert "default-src 'none'" in text


@needs_library
def test_the_page_in_a_browser(written, tmp_path):
    """Every chart is drawn; hovering shows what lies there, searching fades the rest, a slider chooses the patch."""
    with visited(written, tmp_path / "profile") as view:
        found = view.ask(
            """
            const rects = (id) => [...document.querySelectorAll('#' + id + ' .mark-rect.role-mark path')];
            const buffers = rects('arena').filter((path) => path.getAttribute('stroke') === '#fff');
            const sections = [...document.querySelectorAll('section')].map(
              (part) => [part.id, part.querySelectorAll('svg').length, part.querySelector('.why')?.textContent || '']);
            const box = buffers[0].getBoundingClientRect();
            return { place: [box.x + box.width / 2, box.y + box.height / 2], buffers: buffers.length, sections,
              facts: document.getElementById('facts').innerText, patches: rects('patches').length,
              title: document.title };
            """
        )
        view.hover(*found["place"])
        tip = view.ask(TIP)
        bright = view.ask(
            """
            const input = document.querySelector('#arena input[type=search]');
            input.value = 'SCRATCH';
            input.dispatchEvent(new Event('input', { bubbles: true }));
            await new Promise((done) => setTimeout(done, 500));
            return [...document.querySelectorAll('#arena .mark-rect.role-mark path')].filter(
              (path) => path.getAttribute('stroke') === '#fff' && Number(path.getAttribute('opacity')) > 0.5).length;
            """
        )
        view.ask("await views.arena.signal('patch_row', 1).signal('patch_col', 1).runAsync()")
        view.hover(found["place"][0] + 1, found["place"][1])
        other = view.ask(TIP)
    drawn = {id: (charts, why) for id, charts, why in found["sections"]}
    assert list(drawn) == ["run", "arena", "layers", "patches", "memories", "front", "sqnr", "boxes"]
    assert {id for id, (charts, _) in drawn.items() if charts} == {"arena", "layers", "patches", "memories", "front"}
    assert "takes the int8 model" in drawn["sqnr"][1] and "no detector" in drawn["boxes"][1]
    assert "holds" in tip and "from byte" in tip and "rows 0 to" in tip and "rows 0 to" not in other
    assert 0 < bright < found["buffers"] / 2
    assert "counted in the emulator" in found["facts"] and "stm32f412" in found["title"] and found["patches"] == 8


@needs_library
def test_boxes_that_are_all_unlikely_leave_a_picture(tmp_path):
    """The slider may hide every box: the drawing then has no class to name, and complains of nothing."""
    data = plan_map(plan(graph := build_graph(small())), graph, BOARD)
    picture = np.full((64, 96, 3), 99, np.uint8)
    for score, count in ((0.1, 0), (0.9, 1)):
        box = {"box": [1, 2, 30, 40], "score": score, "name": "face"}
        known = MISSING._replace(picture=picture, boxes=[box])
        found = [s for s in layout.sections(data, known) if s.id == "boxes"]
        (tmp_path / "page.html").write_text(html_page("boxes", [], found))
        with visited(tmp_path / "page.html", tmp_path / "profile") as view:
            texts = "return [...document.querySelectorAll('#boxes .mark-text text')].map((text) => text.textContent)"
            assert view.ask(texts) == ["face 0.90"] * count


@needs_library
def test_every_part_of_the_work_is_named(tmp_path, capsys):
    """The charts, too, which take longest: the last part that is named is the last that is counted."""
    page(firmware(tmp_path / "fw", detector=False), emulate=False)
    said = [line.rpartition(" (") for line in capsys.readouterr().err.splitlines() if line.startswith("page of ")]
    assert [count for _, _, count in said] == [f"{i} of {len(said)})" for i in range(1, len(said) + 1)]
    assert said[-1][0].endswith(": the charts")


def test_refusals(tmp_path, monkeypatch, capsys):
    out = firmware(tmp_path / "fw", detector=False)
    run = lambda *words: command(monkeypatch, capsys, "report", *words)  # noqa: E731
    refused(run(out), "--html", "--boards")
    refused(run(out, "--picture", "x.png"), "--html")
    refused(run(out, "--html", "--picture", tmp_path / "none.png"), "none.png" if find_spec("vl_convert") else "pip")
    refused(run(out, "--html", "--int8", "m.onnx"), "go together")
    refused(run(out, "--html", out / "page.txt"), ".html")
    (tmp_path / "theirs.html").write_text("<p>mine</p>")
    refused(run(out, "--html", tmp_path / "theirs.html"), "no product of this command")
    refused(run(tmp_path, "--html"), "no mcu_model.h")
    (out / "plan_map.json").unlink()
    refused(run(out, "--html"), "plan_map.json", "run mcunet generate again")


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"pip install 'nni-mcunet\[page\]'"):
        page(firmware(tmp_path / "fw", detector=False))
