"""Layers, classes, graphs and prefixes of any name: the C compiles everywhere, runs exactly and says the same words."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import detector
from conftest import ROOT
from nets import random_graph, random_model
from programs import run_host

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.names import Names, c_string, check_prefix, commented
from nni_mcunet.engine.codegen.sources import detector_params, write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.program import IMAGE, SELF
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.timing.layer_cycles import run_profiled

# Names that C, its headers, the kernels and generated code use; what differs by little; what ends a comment.
LAYERS = (
    "tile", "int8_t", "INT32_MAX", "SIZE_MAX", "MCU_H", "MCU_OUTPUTS", "yolo", "yolo_maps", "mcu_run", "mcu_l1", "a",
    "a_w", "a_p", "a_table0", "a_y", "a_ey", "a_x", "A", "a/", "a.", "", "层", "層", "é", "x" * 300, "*/ int bad; /*",
    "line\nbreak", "end\\", "??/", "back\\\nslash", "right\u202eleft", "\ud800", "a\u2028b", "image", "read", "ctx",
    "i", "NULL", "main", "for", "memcpy", "a:halo", '"quoted" 1x1x1 halo', "); /* \"x\"", "\t", "tile_y", "scratch",
)  # fmt: skip
CLASSES = [
    "person", 'a"b', "back\\slash", "a??/", "}; int mcu_injected(void) { return 42; } //", "??/\n??'", "%s%n", "é1",
    "汽车", "\U0001f600", "new\nline", "\x01", "\x7f", "\u202e", "\u2028", "\x85", "", " ", "tab\t9", "\\", "?", "/*",
    "*/", "#if 0", "\\u0041", "\0331", "x" * 3000,
]  # fmt: skip


def new_names(graph: Graph, names) -> dict[str, str]:
    own = dict(zip((op.name for op in graph.ops), names, strict=False))
    return {name: own.get(name, name) for name in graph.tensors} | {graph.inputs[0].name: "picture */"}


def renamed(graph: Graph, new: dict[str, str]) -> Graph:
    ops = tuple(
        replace(op, name=new[op.name], inputs=tuple(new[name] for name in op.inputs), residual=new.get(op.residual))
        for op in graph.ops
    )
    images, outputs = (replace(graph.inputs[0], name="picture */"),), tuple(new[name] for name in graph.outputs)
    return replace(graph, name="*/ int x; /* ??/\n\\", inputs=images, ops=ops, outputs=outputs).verify()


def patched(seed: int, names) -> tuple:
    """(plan, model, picture) of a network whose layers are called so, patched, with a cached halo."""
    rng = np.random.default_rng(seed)
    old = random_model(rng, random_graph(rng, 12, (24, 20)))
    new = new_names(old.graph, names)
    graph, scales = renamed(old.graph, new), {new[name]: scale for name, scale in old.scales.items()}
    model = replace(old, graph=graph, scales=scales, weights={new[name]: w for name, w in old.weights.items()})
    picture = rng.integers(0, 256, (24, 20, 3)).astype(np.uint8)
    return plan(graph, Schedule((2, 2), 3), halo="cache"), model, picture


def equals_reference(p, model, picture, outputs) -> None:
    expected = reference.run(p, model, (picture.astype(np.int16) - 128).astype(np.int8))
    for name, raw in zip(p.graph.outputs, outputs, strict=True):
        assert np.array_equal(expected[name].ravel(), raw)


@pytest.mark.parametrize("part", range(2))
def test_layers_of_any_name(part, tmp_path):
    names = LAYERS[part * 25 :] + LAYERS[: part * 25]
    p, model, picture = patched(part, names)
    assert len(p.graph.ops) >= 16 and p.cache
    equals_reference(p, model, picture, run_host(write_sources(p, model, tmp_path), picture)["outputs"])
    for compiler in (["gcc", "-std=c99", "-Wall"], ["clang", "-std=c11", "-Weverything", "-Wno-padded"]):
        command = [*compiler, "-Werror=comment", "-Werror=trigraphs", "-fsyntax-only", "mcu_model.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_names_are_the_layers_own():
    graph = random_graph(np.random.default_rng(0), 30, (24, 20))
    own = Names("mcu", renamed(graph, new_names(graph, LAYERS)))
    names = [own.of(op.name) for op in own.graph.ops]
    parts = [f"{name}{part}" for name in names for part in ("", "_w", "_p", "_y", "_x", "_ey", "_ex", "_table0")]
    assert len(set(parts)) == len(parts) and all(name.isascii() and name.isidentifier() for name in names)
    for name in LAYERS:
        text = commented(name)
        assert json.loads(text) == name and text.isprintable() and not {*"*?"} & {*text}


def test_the_layers_report_has_the_layers_names(tmp_path):
    """Also under a prefix; what is called like one of the report's own rows keeps a row of its own."""
    names = [name for name in LAYERS[-20:] if name != "\ud800"]  # plan.json holds the names, and no file half a pair
    p, model, picture = patched(0, names)
    board = replace(get_board("F412"), flash=4 << 20)
    write_library(tmp_path, p, model, board, prefix="cam")
    elf = build_firmware(tmp_path, board, picture)
    run, layers = run_profiled(elf, board)
    equals_reference(p, model, picture, run["outputs"])
    assert {name.removesuffix(" (layer)") for name in layers if not name.endswith(":halo")} >= {
        *(op.name for op in p.graph.ops), IMAGE, SELF
    }  # fmt: skip
    assert {"image (layer)", "a:halo (layer)"} < {*layers} and all(layer.calls for layer in layers.values())


def test_names_of_a_file(shared, tmp_path):
    for name in ("tile", "types"):
        model = load_onnx(shared / f"cases/names/{name}.int8.onnx")
        image = model.graph.inputs[0]
        picture = np.random.default_rng(0).integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
        p = plan(model.graph, Schedule((2, 2), 1))
        folder = write_sources(p, model, tmp_path / name)
        equals_reference(p, model, picture, run_host(folder, picture)["outputs"])


PRINTS = """#include <stdio.h>
static const char *const names[] = {NAMES};
int main(void) {
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        fwrite(names[i], 1, sizeof(char) * LENGTH(names[i]), stdout), putchar(0);
    return 0;
}
""".replace("LENGTH", "__builtin_strlen")


@pytest.mark.parametrize(
    "compiler", ["gcc -std=c99 -xc", "gcc -std=c11 -xc", "g++ -std=c++11 -xc++", "clang -std=c11 -xc"]
)
def test_class_names_are_strings(compiler, tmp_path):
    text = PRINTS.replace("NAMES", ",\n".join(map(c_string, CLASSES)))
    command = [*compiler.split(), "-Wall", "-Werror", "-o", str(tmp_path / "p"), "-"]
    subprocess.run(command, input=text, text=True, check=True, encoding="utf-8")
    said = subprocess.run([tmp_path / "p"], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [name.encode() for name in CLASSES]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 7, None])
def test_what_no_string_can_hold_is_refused(name):
    with pytest.raises(UserError, match=r"rename|quotes"):
        c_string(name)


def test_a_detector_says_its_classes(tmp_path):
    """As JSON, whatever they are called; nothing of a name is code."""
    rng = np.random.default_rng(3)
    while True:
        graph, meta = detector(rng)
        if meta["detector"]["type"] == "yolov3" and len(meta["detector"]["classes"]) == 3:
            break
    image, p = graph.inputs[0], plan(graph)
    picture = rng.integers(0, 256, (image.h, image.w, 3)).astype(np.uint8)
    for i, names in enumerate((CLASSES[1:4], CLASSES[3:6], CLASSES[10:13])):
        meta["detector"] |= {"classes": names, "score_thr": 0.0, "conf_thr": 0.0}
        model = replace(random_model(np.random.default_rng(0), graph), meta=meta)
        report = run_host(write_sources(p, model, tmp_path / str(i)), picture)
        maps = [m.astype(np.int8) for m in report["outputs"]]
        assert np.array_equal(detector_params(model).decode(maps), report["boxes"]) and len(report["boxes"])
        assert report["names"] == [names[label] for label in report["boxes"]["label"]]


PREFIXES = [
    "",
    "9x",
    "a-b",
    "a b",
    "_x",
    "x_",
    "a__b",
    "int",
    "class",
    "mcu_conv",
    "MCU",
    "mcu_",
    "é",
    "a\n",
    "$x",
    "../a",
]


@pytest.mark.parametrize("prefix", [*PREFIXES, "x" * 40])
def test_a_prefix_that_cannot_be_one(prefix):
    with pytest.raises(UserError, match="--prefix") as caught:
        check_prefix(prefix)
    assert "\n" not in str(caught.value)


def test_generate_takes_a_prefix(shared, tmp_path):
    command = [sys.executable, ROOT / "tools/generate.py", shared / "cases/names/tile.int8.onnx", "--board", "f412"]
    done = subprocess.run([*command, "-o", tmp_path / "a", "--prefix", "int"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "C or C++ keeps that word" in done.stderr
    for prefix in ("cam", "mic"):
        subprocess.run([*command, "-o", tmp_path / "a", "--prefix", prefix], check=True)
    assert {f.name for f in (tmp_path / "a").iterdir() if not f.name.startswith("mcu")} >= {
        "cam_model.c", "cam_model.h", "cam_weights.h", "cam_plan.json", "mic_model.c", "mic_plan.json", "pictures"
    }  # fmt: skip
