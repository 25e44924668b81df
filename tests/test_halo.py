"""Patches with a cached halo give the bytes of the whole network: reference, C on the host, sanitized, both boards."""

import ctypes
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from kernels import at, kernel_library
from nets import any_graph, every_kind, random_graph, random_model
from programs import run_host
from test_engine import image_of, random_schedule, to_int8

from nni_mcunet.core.boards import KB, get_board
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import KINDS
from nni_mcunet.core.ir.kinds import FACTS
from nni_mcunet.core.plan.halo_cache import across, edges
from nni_mcunet.core.plan.plan import best_schedule, plan
from nni_mcunet.core.plan.tiles import Span
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.host import run_sanitized


def case(seed):
    """Graph, integers, picture and a plan with cached halo, all from one seed."""
    rng = np.random.default_rng(seed)
    graph = any_graph(rng, int(rng.integers(2, 7)), 3) if seed % 2 else random_graph(rng, int(rng.integers(2, 7)))
    p = plan(graph, random_schedule(rng, graph), halo="cache")
    return graph, random_model(rng, graph), image_of(rng, graph), p


def features(p):
    """List what makes a cached plan hard: (kind, what) of the ops of its patched segment."""
    segment = p.segments[0]
    if not segment.patched:
        return
    for op in segment.ops:
        kind = "residual" if op.residual is not None else op.kind
        caches = sum(f"{op.name}:{side}" in p.cache for side in ("rows", "cols"))
        yield kind, ("not cached", "cached one way", "cached")[caches]
        if any(0 in made[op.name] for made in segment.computed):
            yield kind, "idle"
        if any(f"{name}:rows" in p.cache and p.home[name] == p.home[op.name] for name in op.reads):
            yield kind, "overwrites"


def test_reference_equals_whole():
    """Bit for bit, every kind the patched segment may hold, cached and with nothing to compute in some patch."""
    seen = set()
    for seed in range(400):
        graph, model, image, p = case(seed)
        whole, cached = (reference.run(q, model, to_int8(image)) for q in (plan(graph), p))
        for name in graph.outputs:
            assert np.array_equal(cached[name], whole[name]), (seed, p.schedule)
        seen |= set(features(p))
    kinds = {kind for kind in KINDS if not FACTS[kind].whole_map} | {"residual"}
    assert {kind for kind, what in seen if what in ("cached", "cached one way")} == kinds
    assert {("conv", "idle"), ("concat", "idle"), ("residual", "overwrites"), ("conv", "overwrites")} <= seen


WANTED = [("residual", "cached"), ("concat", "cached"), ("add", "cached"), ("mul", "cached"), ("upsample", "cached"),
          ("concat", "idle"), ("conv", "idle"), ("residual", "overwrites"), ("add", "overwrites")]  # fmt: skip


def test_host_c_equals_reference(tmp_path):
    for i, what in enumerate(WANTED):
        graph, model, image, p = next(c for c in map(case, count(3000 + 1000 * i)) if what in features(c[3]))
        expected = reference.run(plan(graph), model, to_int8(image))
        report = run_host(write_sources(p, model, tmp_path / str(i)), image)
        for name, got in zip(graph.outputs, report["outputs"], strict=True):
            assert np.array_equal(got, expected[name].ravel()), (what, p.schedule)


def test_boards_equal_reference(tmp_path):
    """Every kind in one network: sanitized on the host, on the emulated M7 and M4; the ELF's arena is the plan's."""
    rng, graph = np.random.default_rng(1), every_kind()
    model, image = random_model(rng, graph, 1 / 20), image_of(rng, graph)
    p = plan(graph, Schedule((3, 2), 4), halo="cache")
    folder = write_sources(p, model, tmp_path)
    expected = reference.run(plan(graph), model, to_int8(image))
    results = [run_sanitized(folder, image)]
    for name in ("stm32h743", "stm32f412"):
        elf = build_firmware(folder, get_board(name), image)
        assert elf_report(elf)["arena_bytes"] == p.arena
        results.append(run_emulated(elf, get_board(name)))
    for result in results:
        for name, got in zip(graph.outputs, result["outputs"], strict=True):
            assert np.array_equal(got, expected[name].ravel())


@pytest.mark.slow
def test_many_networks_sanitized(tmp_path):
    for seed in range(20_000, 20_200):
        graph, model, image, p = case(seed)
        expected = reference.run(plan(graph), model, to_int8(image))
        result = run_host(write_sources(p, model, tmp_path / str(seed)), image)
        for name, got in zip(graph.outputs, result["outputs"], strict=True):
            assert np.array_equal(got, expected[name].ravel()), (seed, p.schedule)


class Edge(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int16) for name in ("n", "old", "keep", "at")]


def new_of(tiles, kept):
    """The part of each tile that its patch computes."""
    before = [0, *(tile.hi for tile in tiles[:-1])]
    return [Span(max(tile.lo, hi) if kept else tile.lo, tile.hi) for tile, hi in zip(tiles, before, strict=True)]


def test_kernels_hand_tiles_on(tmp_path):
    """A map cut into tiles that overlap any way along both axes, each kept or computed again: with its old positions
    blanked, each tile is whole again once the two kernels have run, whatever the caches held at first."""
    lib, rng = kernel_library(tmp_path), np.random.default_rng(0)
    for _ in range(40):
        c, sides = int(rng.integers(1, 6)), []
        for _ in range(2):
            hi = np.cumsum(rng.integers(0, 5, int(rng.integers(1, 5)))) + 3
            lo = np.minimum.accumulate((np.append(0, hi[:-1]) - rng.integers(0, 4, len(hi)))[::-1])[::-1]
            sides.append([Span(max(0, int(a)), int(b)) for a, b in zip(lo, hi, strict=True)])
        rows, cols = (edges(side, new_of(side, rng.random() < 0.75)) for side in sides)
        full = rng.integers(-128, 128, (sides[0][-1].hi, sides[1][-1].hi, c)).astype(np.int8)
        below = np.full(max(e.keep for e in rows) * across(cols) * c, 99, np.int8)
        beside = np.full(max(e.keep for e in cols) * max(e.n for e in rows) * c, 99, np.int8)
        for y, row in zip(rows, sides[0], strict=True):
            for x, col in zip(cols, sides[1], strict=True):
                want = full[slice(*row), slice(*col)]
                tile = want.copy()
                tile[: y.old], tile[:, : x.old] = 99, 99
                ends = ctypes.byref(Edge(*y)), ctypes.byref(Edge(*x)), ctypes.c_void_p(at(tile))
                lib.mcu_rows(c, across(cols), *ends, ctypes.c_void_p(at(below)))
                lib.mcu_cols(c, *ends, ctypes.c_void_p(at(beside)))
                assert np.array_equal(tile, want)


def test_vww1_in_32_kb(shared, tmp_path):
    """mcunet-vww1 on a picture given by callback: arena, stack and data in 32 kB, nothing computed twice."""
    model = load_onnx(shared / "models/vww1/vww1_int8_qlinear.onnx")
    image = np.load(shared / "models/vww1/io.npz")["input_nhwc_int8"][0]
    board = replace(get_board("F412"), sram=32 * KB, reserved_sram=3 * KB)
    p = best_schedule(model.graph, board, halos=("clip", "cache"))
    assert (p.schedule, p.halo, p.overhead) == (Schedule(3, 6, halo="cache"), "cache", 0)
    elf = build_firmware(write_sources(p, model, tmp_path), board, (image.astype(int) + 128).astype(np.uint8))
    sizes, run = elf_report(elf), run_emulated(elf, board)
    assert sizes["arena_bytes"] == p.arena
    assert p.arena + run["stack_bytes"] + sizes["data_bytes"] <= 32 * KB
    expected = reference.run(plan(model.graph), model, image)
    for name, got in zip(model.graph.outputs, run["outputs"], strict=True):
        assert np.array_equal(got, expected[name].ravel())
