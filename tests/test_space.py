"""The search space: data in a file, genes, networks, and what each preset promises."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import ROOT

from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.search.space import Space, SpaceError, load_space

DEMO = load_space("demo")
PRESETS = sorted(path.stem for path in (ROOT / "nni_mcunet/search/spaces").glob("*.yml"))
WIDTHS = ("stage", "block", "net")
TINY = dict(name="x", r=[32], stem=16, first=16, k=[3], e=[3], d=[1], w=[1.0], stages=[{"c": 8, "s": 2}])


def preset(name, width="stage"):
    return Space.from_dict(load_space(name).to_dict() | {"width": width})


def test_the_presets_are_these():
    assert PRESETS == ["demo", "detect416", "mcunet1280", "mcunet384", "mobilenetv2", "person128x160", "proxyless"]
    assert all(load_space(name).name == name for name in PRESETS)


@pytest.mark.parametrize(
    "name, width, size",
    [
        ("mcunet384", "stage", "8.6e+23"),
        ("mcunet384", "block", "8.3e+30"),
        ("mcunet384", "net", "3.5e+21"),
        ("mcunet1280", "stage", "8.6e+23"),
        ("proxyless", "stage", "2.4e+20"),
        ("mobilenetv2", "stage", "3.0e+14"),
        ("detect416", "stage", "1.3e+24"),
        ("person128x160", "stage", "1.1e+14"),
    ],
)
def test_sizes(name, width, size):
    assert f"{preset(name, width).size:.1e}" == size


@pytest.mark.parametrize("width", WIDTHS)
def test_the_size_is_the_number_of_networks(width):
    """Every candidate of a small space made: so many are different."""
    data = TINY | {"width": width, "r": [32, "32x48"], "k": [3, 5], "d": [1, 2], "w": [0.5, 1.0]}
    space = Space.from_dict(data | {"stages": [{"c": 16, "s": 2}, {"c": 32, "s": 1, "e": [2, 4], "k": 3}]})
    made = {space.spec(dict(zip(space.genes, values, strict=True))) for values in product(*space.genes.values())}
    assert len(made) == space.size
    narrowed = space.narrowed({"s1_d": {"_type": "choice", "_value": [1]}})
    assert narrowed.size == sum(len(spec.stages[1]) == 1 for spec in made)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_space_survives_json_and_nni(name, width):
    space = preset(name, width)
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.narrowed(json.loads(json.dumps(space.to_nni()))) == space
    rng = np.random.default_rng(0)
    only = {gene: {"_type": "choice", "_value": [c for c in choices if rng.random() < 0.5] or [choices[-1]]}
            for gene, choices in space.genes.items()}  # fmt: skip
    narrowed = space.narrowed(json.loads(json.dumps(only)))
    assert narrowed.to_nni() == only
    assert Space.from_dict(json.loads(json.dumps(narrowed.to_dict()))) == narrowed
    spec = narrowed.spec(narrowed.random(rng))
    assert narrowed.spec(narrowed.candidate(spec)) == spec


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_network_is_a_slice_of_the_largest(name, width):
    space, rng = preset(name, width), np.random.default_rng(0)
    largest = build_graph(space.spec(space.largest()))
    for candidate in [space.smallest(), *(space.random(rng) for _ in range(30))]:
        graph = build_graph(space.spec(candidate))
        for op in graph.ops:
            whole = largest.op(op.name)
            assert (op.kind, op.s, op.act, op.norm) == (whole.kind, whole.s, whole.act, whole.norm)
            if op.kind == "conv":
                cin, of = graph.input_of(op).c, largest.input_of(whole).c
                assert op.cout <= whole.cout and cin <= of
                assert op.k[0] <= whole.k[0] and (whole.k[0] - op.k[0]) % 2 == 0  # the centre exists
                assert (op.groups, whole.groups) in ((1, 1), (cin, of))  # dense or depth-wise in both
        ends = ("head", "fc")  # never scaled
        assert [op.cout for op in graph.ops if op.name in ends] == [op.cout for op in largest.ops if op.name in ends]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_inverse_gives_what_leaves_no_trace_its_first_choice(width):
    space, rng = preset("demo", width), np.random.default_rng(1)
    for _ in range(100):
        candidate = space.random(rng)
        found = space.candidate(space.spec(candidate, Schedule((2, 2), 3)))
        assert space.spec(found) == space.spec(candidate)
        assert space.candidate(space.spec(found)) == found
        for gene, value in found.items():
            skipped = "_b1_" in gene and candidate[f"{gene[:2]}_d"] == 1
            if skipped:
                assert value == space.genes[gene][0]
            elif gene[-1] != "w" and gene[-1] != "e":
                assert value == candidate[gene]


def test_the_inverse_prefers_the_first_width_of_those_alike():
    space = Space.from_dict(TINY | {"stem": 8, "first": 8, "w": [0.5, 0.75, 1.0], "stages": [{"c": 8, "s": 2}]})
    assert space.spec(space.largest()) == space.spec(space.smallest())
    assert space.candidate(space.spec(space.largest()))["s1_w"] == 0.5


def test_one_width_a_block_takes_the_shortcut_where_channels_agree():
    assert sum(gene.endswith("_w") for gene in preset("mcunet384", "block").genes) == 5 * 4 + 1  # a gene for each
    space = preset("demo", "block")
    alike = space.largest()
    other = alike | {"s3_b0_w": 0.75}
    assert [block.c for block in space.spec(other).stages[3]] == [32, 40]
    assert build_graph(space.spec(alike)).op("s3_b1_proj").residual == "s3_b0_proj"
    assert build_graph(space.spec(other)).op("s3_b1_proj").residual is None


def test_the_first_layers_follow_the_first_width():
    for width, gene in (("stage", "s1_w"), ("block", "s1_b0_w"), ("net", "w")):
        space = preset("mcunet384", width)
        spec = space.spec(space.largest() | {gene: 0.5})
        assert (spec.stem, spec.stages[0][0].c, spec.stages[1][0].c, spec.head) == (16, 8, 16, 384)


def test_resolutions_are_squares_or_height_by_width():
    space = Space.from_dict(TINY | {"r": ["160x128", 144, "128x160", 96]})
    assert space.resolutions == ((96, 96), (128, 160), (160, 128), (144, 144))
    assert space.genes["r"] == (96, "128x160", "160x128", 144)
    candidate = space.smallest() | {"r": "128x160"}
    assert space.resolution(candidate) == (128, 160) == space.spec(candidate).resolution
    assert space.candidate(space.spec(candidate)) == candidate
    left = space.narrowed({"r": {"_type": "choice", "_value": ["128x160", 96]}})
    assert left.resolutions == ((96, 96), (128, 160))


@pytest.mark.parametrize("name, taps", [("detect416", (2, 4, 6)), ("person128x160", (2, 3, 4))])
def test_a_space_for_detection_has_no_classifier_and_carries_a_head_at_every_resolution(name, taps):
    space = load_space(name)
    for r in space.genes["r"]:
        graph = build_graph(space.spec(space.smallest() | {"r": r}), YoloHead(1, taps))
        h, w = space.resolution({"r": r})
        sizes = [(graph.tensors[output].h, graph.tensors[output].w) for output in graph.outputs]
        assert sizes == [(h // s, w // s) for s in (8, 16, 32)]
    assert not {"head", "fc"} & {op.name for op in build_graph(space.spec(space.largest())).ops}
    assert (416, 416) in space.resolutions or (128, 160) in space.resolutions


def test_mobilenet_v2_is_of_its_space():
    space = load_space("mobilenetv2")
    genes = space.candidate(mobilenet_v2())
    assert replace(space.spec(genes), name="mobilenet_v2") == mobilenet_v2()
    assert [genes[f"s{i}_d"] for i in range(1, 7)] == [2, 3, 4, 3, 3, 1] and genes["s1_w"] == 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda spec: replace(spec, stem=24), "no choice of gene s1_w makes 16 into 24, 8 into 8"),
        (lambda spec: replace(spec, resolution=(64, 64)), "gene r is 64"),
        (lambda spec: replace(spec, classes=3), "its classes cannot be"),
        (lambda spec: replace(spec, head=64), "its head cannot be"),
        (lambda spec: replace(spec, act="relu"), "its act cannot be"),
        (lambda spec: replace(spec, stages=spec.stages[:-1]), "its stages cannot be"),
        (lambda spec: replace(spec, stages=spec.stages[:-1] + (spec.stages[-1] * 3,)), "gene s5_b1_e"),
        (lambda spec: replace(spec, stages=spec.stages[:-1] + ((replace(spec.stages[-1][0], k=9),),)), "s5_b0_k is 9"),
        (lambda spec: replace(spec, stages=spec.stages[:-1] + ((replace(spec.stages[-1][0], s=1),),)), "its stages"),
    ],
)
def test_a_network_of_no_candidate_is_refused(change, message):
    with pytest.raises(SpaceError, match=message):
        DEMO.candidate(change(DEMO.spec(DEMO.smallest())))


def test_a_spec_may_have_another_name():
    spec = DEMO.spec(DEMO.smallest())
    assert DEMO.candidate(replace(spec, name="best")) == DEMO.smallest()
    assert DEMO.candidate(ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict())))) == DEMO.smallest()


def test_genes_without_effect_do_not_count():
    a = DEMO.smallest()
    assert DEMO.spec(a | {"s1_b1_k": 7}) == DEMO.spec(a)  # block 1 is skipped
    assert DEMO.spec(a | {"s1_b0_k": 7}) != DEMO.spec(a)


def test_mutation_draws_a_tenth_of_the_genes_anew_and_crossover_takes_half_of_either_parent():
    rng, a, b = np.random.default_rng(0), DEMO.smallest(), DEMO.largest()
    children = [DEMO.crossover(a, b, rng) for _ in range(2000)]
    mutants = [DEMO.mutate(a, rng, 0.1) for _ in range(2000)]
    for gene, choices in DEMO.genes.items():
        if len(choices) > 1:
            assert abs(np.mean([child[gene] == a[gene] for child in children]) - 0.5) < 0.05
            # drawn anew, one in len(choices) is what it was
            assert abs(np.mean([m[gene] != a[gene] for m in mutants]) - 0.1 * (1 - 1 / len(choices))) < 0.025
            assert {m[gene] for m in mutants} == set(choices)


def test_a_narrowed_space_stays_within():
    space = DEMO.narrowed(DEMO.to_nni() | {"r": {"_type": "choice", "_value": [96]}})
    rng = np.random.default_rng(0)
    assert {space.random(rng)["r"] for _ in range(20)} == {96}
    assert Space.from_dict(space.to_dict()) == space
    assert space.size * 2 == DEMO.size


def test_the_demos_search_space_is_the_demos_less_a_resolution():
    narrowed = json.loads((ROOT / "configs/nni/demo_space.json").read_text())
    assert DEMO.narrowed(narrowed).to_nni() == json.loads(json.dumps(DEMO.to_nni())) | {"r": narrowed["r"]} == narrowed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stems": 3}, "unknown key 'stems'"),
        ({"r": []}, "r is"),
        ({"k": [4]}, "block.k is 4"),
        ({"d": [1.5]}, "integers"),
        ({"stages": [{"c": 8}]}, "stage 1 lacks the key 's'"),
        ({"stages": [{"c": 8, "s": 1, "t": 2}]}, "unknown key 't'"),
        ({"stages": [{"c": "16", "s": 2}]}, "stage 1: c is '16'"),
        ({"stages": [{"c": 0, "s": 2}]}, "stage 1: c is 0"),
        ({"stages": [{"c": 8, "s": "2"}]}, "stage 1: s is '2'"),
        ({"stem": "8"}, "stem is '8'"),
        ({"first": 8.5}, "first is 8.5"),
        ({"head": "8"}, "head is '8'"),
        ({"k": [3, 4, 5]}, "block.k is 4"),
        ({"d": 10**9}, "stage 1: d is \\[1000000000\\]"),
        ({"w": [float("inf")]}, "Infinity is no number of JSON's"),
        ({"r": [1, 32]}, "resolution is 1"),
        ({"r": ["128"]}, "r has '128'"),
        ({"r": ["128x128"]}, "a square is spelt 128"),
        ({"r": ["128x0"]}, "r has '128x0'"),
        ({"r": [True]}, "r has True"),
        ({"r": ["4x32"]}, "resolution is 4"),
        ({"width": "layer"}, "width is 'layer': expected one of stage, block, net"),
        ({"width": "net", "stages": [{"c": 8, "s": 2}, {"c": 8, "s": 1, "w": [0.5]}]}, "width is 'net'"),
        ({"first_k": 2}, "block.k is 2"),
        ({"first_k": "3"}, "first_k is '3'"),
        ({"only": 5}, "only is 5"),
        ({"only": [["s9_d", [1]]]}, "no gene 's9_d'"),
    ],
)
def test_a_malformed_space_is_refused(tmp_path, change, message):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(TINY | change))
    with pytest.raises(SpaceError, match=message) as error:
        load_space(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "search_space, message",
    [
        (["a"], "an object of genes"),
        ({"r": 96}, "search space: r is .*: expected"),
        ({"r": {"_type": "choice", "_value": 96}}, "search space: r is .*: expected"),
        ({"r": {"_type": "choice", "_value": ["96"]}}, "r offers '96'"),
    ],
)
def test_a_malformed_nni_search_space_is_refused(search_space, message):
    with pytest.raises(SpaceError, match=message):
        DEMO.narrowed(search_space)


def test_an_unknown_space_names_the_known():
    with pytest.raises(SpaceError, match="demo, detect416, mcunet1280, mcunet384"):
        load_space("demoo")


def test_a_space_says_only_how_it_differs_from_its_base(tmp_path):
    (tmp_path / "mine.yml").write_text("{base: demo, classes: 3}")
    (tmp_path / "wide.yml").write_text("{base: mine.yml, name: w, stem: 24}")
    mine, wide = load_space(str(tmp_path / "mine.yml")), load_space(str(tmp_path / "wide.yml"))
    assert mine == replace(DEMO, name="mine", classes=3) and wide == replace(mine, name="w", stem=24)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{base: 3}", "base is 3: expected the name"),
        ("{base: demoo}", "unknown space 'demoo': use one of demo"),
        ("{base: x.yml}", "base is 'x.yml', which has this file as its base"),
        ("{base: y.yml}", "y.yml: base is 'x.yml', which has this file"),
        ("{base: demo, nosuch: 1}", "x.yml: the space has the unknown key 'nosuch'"),
    ],
)
def test_a_base_that_is_none(tmp_path, text, message):
    (tmp_path / "x.yml").write_text(text)
    (tmp_path / "y.yml").write_text("{base: x.yml}")
    with pytest.raises(SpaceError, match=message):
        load_space(str(tmp_path / "x.yml"))
