"""benchmarks/layers.py and mlperf.py without an emulator: the class of a layer, the zoo's shares, both tables as they
stand in docs/results.md."""

import json
import runpy

import pytest
from conftest import ROOT

from nni_mcunet.core.ir.graph import Graph, Op, Tensor


@pytest.fixture(scope="module")
def tools():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield {name: runpy.run_path(str(ROOT / f"benchmarks/{name}.py")) for name in ("layers", "mlperf", "networks")}


def one(cin, size=8, kind="conv", **fields):
    inputs = ("image", "image") if kind == "add" else ("image",)
    op = Op("op", kind, inputs, **({"cout": 16} | fields))
    return Graph("one", (Tensor("image", size, size, cin),), (op,), ("op",)).verify(), op


@pytest.mark.parametrize(
    ("cin", "fields", "name"),
    [
        (8, {}, "1x1, cin up to 8"),
        (9, {}, "1x1, cin 9 to 24"),
        (24, {}, "1x1, cin 9 to 24"),
        (25, {}, "1x1, cin 25 to 95"),
        (95, {"s": (2, 2)}, "1x1, cin 25 to 95"),
        (96, {}, "1x1, cin from 96"),
        (96, {"size": 1}, "fully connected"),
        (3, {"k": (3, 3), "s": (2, 2)}, "3x3, cin 3"),
        (16, {"k": (3, 3)}, "dense 3x3, cin from 16"),
        (16, {"k": (3, 3), "groups": 16}, "depth-wise 3x3"),
        (16, {"k": (3, 3), "groups": 16, "s": (2, 2)}, "depth-wise 3x3 at steps of 2"),
        (16, {"k": (5, 5), "groups": 16, "s": (2, 2)}, "depth-wise 5x5"),
        (16, {"k": (7, 7), "groups": 16}, "depth-wise 7x7"),
        (16, {"kind": "add"}, "add, an element"),
        (16, {"kind": "gap"}, "gap"),
    ],
)
def test_class_of_a_layer(tools, cin, fields, name):
    assert tools["layers"]["class_of"](*one(cin, **fields)) == name


def test_shares_weigh_networks_by_their_macs(tools):
    wide, op = one(16, cout=48)
    found = tools["layers"]["shares"]([wide, one(96, size=1, cout=512)[0]])
    assert wide.op_macs(op) == 96 * 512  # both have as many
    assert found == {"1x1, cin 9 to 24": 50, "fully connected": 50}


def test_shares_of_the_zoo_sum_to_all_of_it_and_each_class_has_a_bound(tools):
    network = tools["networks"]["network"]
    found = tools["layers"]["shares"](network(name).graph for name in (*tools["networks"]["ZOO"], "ResNet8"))
    assert sum(found.values()) == pytest.approx(100)
    assert found.keys() <= tools["layers"]["CLASSES"].keys()


def test_the_table_of_classes_is_that_of_the_page(tools):
    layers = tools["layers"]
    rows = json.loads(layers["RESULTS"].read_text())
    assert layers["BEGIN"] + layers["table"](rows) + layers["END"] in (ROOT / "docs/results.md").read_text()
    assert [row["class"] for row in rows] == [*layers["CLASSES"], layers["ALL"]]
    assert all(0.5 <= row["bound_cycles_per_mac"] <= row["cycles_per_mac"] for row in rows)  # an SMLAD is two MACs
    assert sum(row["zoo_share_percent"] for row in rows[:-1]) == pytest.approx(100, abs=0.5)  # each is rounded


def test_an_estimate_and_a_measurement_share_no_column(tools):
    mlperf = tools["mlperf"]
    rows = json.loads(mlperf["RESULTS"].read_text())
    text = mlperf["table"](rows)
    assert mlperf["BEGIN"] + text + mlperf["END"] in (ROOT / "docs/results.md").read_text()
    assert [row["network"] for row in rows] == [*mlperf["MLPERF"]] and all(row["m4"]["exact"] for row in rows)
    head, _, first, *_ = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines())
    ours = {name: cell for name, cell in zip(head, first, strict=True) if "est." in name}
    theirs = [cell for name, cell in zip(head, first, strict=True) if "measured" in name]
    assert list(ours.values()) == [f"{rows[0][core]['cycles_estimated'] / 1e6:.2f}" for core in ("m4", "m7")]
    assert theirs == ["19.88", "20.13", "46.75", "11.67", "14.26"]
    assert all(p.source in text and f"{p.mhz} MHz" in text for p in mlperf["PUBLISHED"])


def test_published_rates_become_cycles(tools):
    published = tools["mlperf"]["Published"]
    assert published("it", "m4", "board", 120, "link", per_second=(6.0, 240.0)).cycles_of(1) == 500_000
    assert published("it", "m7", "board", 280, "link", cycles=(7, 8)).cycles_of(1) == 8


def test_the_auto_encoder_has_the_size_of_mlperf_tinys(tools):
    graph = tools["networks"]["network"]("FC auto-encoder").graph
    assert graph.macs == 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8) and graph.tensors["out"].c == 640
