"""tools/profile.py and tools/tables.py as a user meets them: figures, formats, bad input, and the name `profile`."""

import json
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from conftest import ROOT
from onnx import TensorProto, helper
from test_tools import refused, tool

from nni_mcunet.api.networks import load
from nni_mcunet.api.quantization import quantize
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.plan.board_plan import front_for_board, plan_for_board
from nni_mcunet.core.plan.cut_points import grids
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import save_onnx
from nni_mcunet.engine.model import Model
from nni_mcunet.paper.baselines import face_baseline
from nni_mcunet.paper.tables import AUTHORS, MEASURED, PRINTED, RECOMPUTED, UNSOURCED, Paper
from nni_mcunet.profiling.profile import front_table, profile

ARCH = ROOT / "configs/arch/mobilenet_v2.json"
SMALL = ROOT / "configs/arch/mcunet_in2.json"


def profiled(*arguments):
    done = tool("profile", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_of_mobilenet_v2():
    facts = profiled(ARCH)
    graph = build_graph(mobilenet_v2())
    assert (facts["macs"], facts["params"]) == (graph.macs, graph.params)
    assert facts["peak_bytes_per_layer"] == 1372 * 1024 and facts["peak_bytes_per_patch"] == 176_400
    assert facts["best"] == {"p_h": 4, "p_w": 4, "n": 5, "then": [], "halo": "clip", "slices": 1}
    rows, columns = facts["patches"]
    assert (
        [span["image"] for span in rows] == [[0, 62], [43, 118], [99, 174], [155, 224]] == [s["image"] for s in columns]
    )
    blocks = facts["blocks"]
    assert [b["block"] for b in blocks if b["bottleneck"]] == [2]
    assert (sum(b["macs"] for b in blocks), sum(b["params"] for b in blocks)) == (graph.macs, graph.params)
    assert blocks[0]["bytes_per_layer"] == 551_936 and blocks[0]["shape"] == [112, 112, 32]


def test_board_and_schedule_are_the_planner_s():
    board, graph = get_board("F412").with_arena(64 * 1024), load("mcu_w50_r128").graph
    found = profile(graph, board)
    chosen = plan_for_board(graph, board)
    assert (found.best.schedule, found.best.halo, found.best.arena) == (chosen.schedule, chosen.halo, chosen.arena)
    assert found.patched.schedule == chosen.schedule and chosen.schedule.n
    facts = profiled(SMALL, "--board", "F412", "--patches", "3x2", "--blocks", 5)
    assert facts["patched"]["p_h"] == 3 and facts["patched"]["p_w"] == 2 and facts["patched"]["n"] == 5
    assert facts["best"] == {"p_h": 3, "p_w": 2, "n": 5, "then": [], "halo": "cache", "slices": 1}
    assert facts["board"]["arena_bytes"] == plan(load(SMALL).graph, Schedule((3, 2), 5), halo="cache").arena
    facts = profiled(SMALL, "--board", "F412", "--patches", "3x2,2x2", "--blocks", "5,7")
    assert facts["best"]["then"] == [[[2, 2], 7]]


def test_what_no_board_runs_is_profiled_all_the_same():
    """PReLU: the memory is shown, the board's line says which op the kernels do not know."""
    big = get_board("H743").__class__("big", "cortex-m7", 1, 1 << 30, 1 << 30)
    found = profile(face_baseline("extd_32", (128, 128)), big)
    assert found.best is None and "stem" in found.why and found.whole.peak > 0


def test_table_marks_the_bottleneck_and_draws(tmp_path):
    begin = time.perf_counter()
    done = tool("profile", ARCH, "--board", "H743", "--png", tmp_path / "m.png", "--json", tmp_path / "m.json")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - begin < 10  # about one second on an idle machine
    marked = [line for line in done.stdout.splitlines() if line.endswith("<- peak")]
    assert len(marked) == 1 and "s1_b0" in marked[0] and "1372.0" in marked[0]
    assert "no schedule for stm32h743" in done.stdout and "bytes of flash" in done.stdout
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    facts = json.loads((tmp_path / "m.json").read_text())
    assert facts["best"] is None and "flash" in facts["board"]["why_not"]


def test_no_torch_for_an_architecture_or_a_model():
    code = "import sys; from nni_mcunet.cli.main import main; main(['profile', sys.argv[1]]); "
    code += "assert not {'torch', 'mmdet'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(SMALL)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["profile", "inspect"])
def test_a_shim_does_not_hide_the_standard_library_s_module(name, tmp_path):
    """torch and dataclasses do not import the file in tools/ under these names."""
    code = "import sys, runpy; from os.path import dirname\nsys.argv = [sys.argv[1], '--help']\n"
    code += "sys.path[0] = dirname(sys.argv[0])\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += f"except SystemExit: pass\nimport {name}, cProfile; assert 'tools' not in {name}.__file__"
    command = [sys.executable, "-c", code, str(ROOT / f"tools/{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def onnx_file(path, nodes, shape=(1, 3, 8, 8), initializers=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, shape)],
                              [value("y", TensorProto.FLOAT, [None] * 4)], list(initializers))  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_gives_the_profile_of_its_architecture(tmp_path):
    graph = build_graph(ArchSpec.load(SMALL)).folded()
    weights = {
        op.name: (
            np.zeros((op.cout, graph.input_of(op).c // op.groups, *op.k), np.float32),
            np.zeros(op.cout, np.float32),
        )
        for op in graph.ops
        if op.kind == "conv"
    }
    save_onnx(Model(graph, weights, {}), tmp_path / "m.onnx")
    assert profile(load(tmp_path / "m.onnx").graph).to_dict() == profile(load(SMALL).graph).to_dict()


def test_config_of_a_detector():
    facts = profiled(ROOT / "configs/det/yolov3_digits.py", "--board", "F412")
    assert facts["macs"] > 0 and facts["blocks"][-1]["name"].startswith("neck")
    assert facts["board"]["arena_bytes"] <= facts["board"]["arena_limit"]


def test_bad_models(tmp_path):
    known = onnx_file(tmp_path / "elu.onnx", [helper.make_node("Celu", ["x"], ["y"], name="act3")])
    refused(tool("profile", known), "Celu at 'act3': an activation without a table: use Relu")
    unknown = onnx_file(tmp_path / "foo.onnx", [helper.make_node("Foo", ["x"], ["y"], name="foo1")])
    refused(tool("profile", unknown), "not a valid ONNX file", "Name: foo1", "export it again")
    pool = helper.make_node("GlobalAveragePool", ["x"], ["y"], name="pool")
    dynamic = onnx_file(tmp_path / "dynamic.onnx", [pool], ["n", 3, "h", "w"])
    refused(tool("profile", dynamic), "input 'x' has the shape [0, 3, 0, 0]", "export it as fixed NCHW")
    empty = onnx_file(tmp_path / "pool.onnx", [pool])
    refused(tool("profile", empty), "no convolution")
    (tmp_path / "cut.onnx").write_bytes(onnx.load(str(empty)).SerializeToString()[:-20])
    refused(tool("profile", tmp_path / "cut.onnx"), "cut.onnx: not a valid ONNX file", "export it again")


def test_bad_arguments(tmp_path):
    refused(tool("profile", ARCH, "--board", "stm32x"), "unknown board 'stm32x'", "stm32h743")
    refused(tool("profile", tmp_path / "no.json"), "no such file", "no.json")
    (tmp_path / "m.pth").touch()  # whether a file is there is asked first
    refused(tool("profile", tmp_path / "m.pth"), "m.pth holds weights and no network: expected an architecture (.json)")
    refused(tool("profile", ARCH, "--patches", "4"), "--patches '4'", "2x2")
    refused(tool("profile", ARCH, "--patches", "4x4", "--blocks", 40), "n = 40: mobilenet_v2 has 19 blocks")
    (tmp_path / "bad.json").write_text('{"name": "x", "resolutoin": 96}')
    refused(tool("profile", tmp_path / "bad.json"), "unknown key 'resolutoin'")


@pytest.mark.parametrize(
    "text, message",
    [
        ("model = dict(backbone=dict(", "not a config that mmengine reads"),
        ("model = dict(type='YOLOV3')", "no model.backbone.arch; is it one of configs/det"),
        ("model = dict(backbone=dict(arch=ARCH))", "does not build a detector .*neck.*compare with configs/det"),
    ],
)
def test_bad_configs(text, message, tmp_path):
    (tmp_path / "bad.py").write_text(text.replace("ARCH", repr(str(SMALL))))
    with pytest.raises(UserError, match=rf"bad\.py: {message}"):
        load(tmp_path / "bad.py")


@pytest.fixture(scope="module")
def paper():
    return Paper(ROOT / "configs/arch")


def test_every_difference_has_a_word(paper):
    for cell in paper.cells():
        assert cell.source in (PRINTED, RECOMPUTED, AUTHORS, MEASURED)
        assert cell.same or cell.note, cell


def test_recomputed_values_come_out(paper):
    """The paper's rule gives this when recomputed independently (EXACT), to the printed digit."""
    recomputed = [cell for cell in paper.cells() if cell.source == RECOMPUTED and cell.paper != UNSOURCED]
    assert len(recomputed) > 35 and [cell for cell in recomputed if not cell.same] == []


def test_what_the_paper_prints_comes_out_but_for_these(paper):
    different = {
        (c.row, c.what)
        for c in paper.cells()
        if c.source == PRINTED and c.ours and c.paper != UNSOURCED and not c.same and not c.table.startswith("Fig. 6")
    }
    assert different == {
        ("mobilenet_v2", "network, M"),
        ("mobilenet_v2", "network overhead, %"),
        ("mobilenet_v2", "overhead, %"),
        ("mobilenet_v2_rd", "network, M"),
        ("mnasnet_b1", "times less"),
        ("fbnet_a", "times less"),
        ("mcunet_in3", "times less"),
        ("MbV2 + CMSIS-NN (31.6 mAP)", "SRAM"),
        ("MCUNet (51.4 mAP)", "params"),
        ("MCUNet (51.4 mAP)", "SRAM"),
        ("EXTD", "MACs"),
        ("LFFD", "MACs"),
        ("LFFD", "peak, MB"),
        ("RNNPool-Face-C", "MACs"),
        ("MbV2-RNNPool", "peak"),
        ("RNNPool-Face-Quant", "MACs"),
    }


def test_statements_of_figure_8(paper):
    cells = [cell for cell in paper.cells() if cell.table.startswith("Fig. 8")]
    assert len(cells) == 5 and all(cell.same for cell in cells)


def test_tables_are_regenerated(tmp_path):
    """docs/paper is what the command writes, so that a change of the planner cannot leave it behind."""
    done = tool("tables", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("tables.md", "tables.json"):
        assert (tmp_path / name).read_text() == (ROOT / "docs/paper" / name).read_text(), f"{name}: run make tables"
    grid = json.loads((tmp_path / "tables.json").read_text())["fig8"]
    assert {(g["p"], g["n"]) for g in grid if g["network"] == "mobilenet_v2_rd"} == {
        (p, n) for p in range(1, 9) for n in range(1, 9)
    }
    assert sorted(p.name for p in tmp_path.glob("*.png")) == sorted(p.name for p in (ROOT / "docs/paper").glob("*.png"))


def test_pareto_front():
    """Falling arena, rising MACs; the first kept halo needs no more MACs than the network."""
    graph = build_graph(ArchSpec.load(ROOT / "configs/arch/mcunet_in4.json"))
    plans = front_for_board(graph, p_choices=grids(4), segments=3)
    rows = [line.split() for line in front_table(plans, get_board("stm32h743")).splitlines()[1:]]
    front = [(int(r[0].replace(",", "")), float(r[1])) for r in rows]
    assert len(front) > 8 and front == sorted(front, key=lambda r: (-r[0], r[1]))
    assert rows[0][2] == "+0.0%" and rows[0][-1] == "cache" and any("narrow" in r[-1] for r in rows)
    product = [arena * float(r[3]) for (arena, _), r in zip(front, rows, strict=True)]  # bytes times milliseconds
    marked = [r[-1] == "knee" for r in rows]
    assert sum(marked) == 1 and product[marked.index(True)] < 1.02 * min(product)


@pytest.mark.parametrize("name", ["s1", "/features/features.0/features.0.0/Conv"])
def test_a_table_s_columns_stand_under_their_heads(name, monkeypatch):
    """Three segments make a long head, a file of others long names: both widen their column."""
    graph = build_graph(mobilenet_v2(96, 0.35, 10)).folded()
    blocks = {block: f"{name}_{block}" for block in graph.block_names}
    monkeypatch.setattr(Graph, "block_names", blocks)
    for schedule in (Schedule((4, 4), 2, then=(((1, 1), 3), ((4, 4), 6))), Schedule((2, 2), 3)):
        _, head, *lines = str(profile(graph, schedule=schedule)).splitlines()
        rows = [line.split(" <-")[0] for line in lines[: len(blocks)]]
        assert head.endswith("kB " + " ".join(f"{p}x{p} n={n}" for (p, _), n in schedule.segments))
        assert "kB per layer " in head and {len(row) for row in rows} == {len(head)}, "\n".join([head, *rows])


def test_a_file_of_torch_s_exporter_has_the_names_that_quantize_prints(tmp_path):
    """Each node is a block, and `node_Conv_54` and `node_Conv_57` are two; `main_graph` is what it calls them all."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in ("input", "out")]
    weights = [helper.make_tensor(f"w{i}", TensorProto.FLOAT, [3, 3, 1, 1], [0.5] * 9) for i in (54, 57)]
    nodes = [helper.make_node("Conv", ["input", "w54"], ["conv"], "node_Conv_54"),
             helper.make_node("Relu", ["conv"], ["relu"], "node_relu"),
             helper.make_node("Conv", ["relu", "w57"], ["out"], "node_Conv_57")]  # fmt: skip
    for called, name in (("main_graph", "mine"), ("my_net", "my_net")):
        graph = helper.make_graph(nodes, called, ends[:1], ends[1:], weights)
        opsets = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "mine.onnx")
        source = load(tmp_path / "mine.onnx")
        int8 = quantize(source, [np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)])
        for each in (source, int8):
            blocks = profile(each.graph).blocks()
            assert [row["name"] for row in blocks] == [row.name for row in int8.layers]
            assert [row["name"] for row in blocks] == ["node_Conv_54", "node_Conv_57"] and each.graph.name == name
