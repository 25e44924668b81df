"""Boards of several memories: no buffer across two, the same bytes in each, a report whose sum is the ELF's."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import case
from conftest import ROOT
from nets import random_graph, random_model
from programs import HOST, objects
from stm32 import RAM, Stm32
from test_project import DONE, run

from nni_mcunet.core.boards import BOARDS, Board, get_board
from nni_mcunet.core.boards.parts import Region
from nni_mcunet.core.errors import BoardError, Infeasible, ScheduleError, UserError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan import regions
from nni_mcunet.core.plan.arena import Buffer, Life, Part, check_parts, place
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.plan.plan_map import plan_map
from nni_mcunet.core.plan.regions import spread, touches
from nni_mcunet.engine.codegen.arenas import declared
from nni_mcunet.engine.codegen.names import Names
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.run.elf import elf_report, region_bytes, sections, sram_parts, symbols
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.generated import arena_regions
from nni_mcunet.engine.run.host import SANITIZERS, build_host
from nni_mcunet.engine.run.run_report import parse_report
from nni_mcunet.engine.timing.layer_cycles import run_profiled
from nni_mcunet.engine.timing.report import board_report, report_table
from nni_mcunet.profiling.profile import profile

KB = 1024
H743 = get_board("h743")


def board_of(*sizes: int, waits=(0, 10, 20, 30)) -> Board:
    """A board of memories of so many kB, none beside another."""
    memories = [Region(f"R{i}", 0x20000000 + (i << 24), kb * KB, waits[i]) for i, kb in enumerate(sizes)]
    return Board("drawn", "cortex-m7", 10**8, max(sizes) * KB, 1 << 24, 0, regions=tuple(memories))


def gated(side: int, channels: int = 16) -> Graph:
    """A map, and one that is made of it and scaled by its own mean before both are added: no patches take the place of
    either, so two whole maps are alive."""
    image, ops = Tensor("image", side, side, 3), []

    def add(name, kind, inputs, block, **fields):
        ops.append(Op(name, kind, inputs, channels, block=block, **fields))

    add("stem", "conv", ("image",), 0, k=(3, 3), pad=(1, 1, 1, 1))
    add("wide", "conv", ("stem",), 1)
    add("mean", "gap", ("wide",), 1)
    add("gate", "conv", ("mean",), 1)
    add("scaled", "mul", ("wide", "gate"), 1)
    add("sum", "add", ("stem", "scaled"), 1)
    ops.append(Op("last", "conv", ("sum",), 4, (3, 3), (4, 4), block=2))
    return Graph("gated", (image,), tuple(ops), ("last",)).verify()


# --- the placement


def test_the_check_refuses_a_buffer_across_two_regions():
    parts = (Part("A", 0, 16), Part("B", 16, 32))
    inside = [Buffer("x", (Life(0, 1, 16),), 0), Buffer("y", (Life(0, 1, 32),), 16)]
    check_parts(inside, parts)
    with pytest.raises(AssertionError, match="buffer y lies across two regions"):
        check_parts([Buffer("y", (Life(0, 1, 32),), 8)], parts)
    with pytest.raises(AssertionError, match="buffers x and y overlap"):
        check_parts([inside[0], Buffer("y", (Life(1, 1, 8),), 8)], parts)
    for wrong in ((Part("A", 0, 12), Part("B", 12, 32)), (Part("A", 0, 16), Part("B", 24, 32))):
        with pytest.raises(AssertionError, match="the part in B begins at"):
            check_parts(inside, wrong)


def test_random_plans_lie_in_regions():
    """Each buffer in one region, each region within its size; what is not held is None. Independent of check_parts."""
    held = 0
    for number in range(30):
        found = replace(case(number).plan, parts=(), spread=())
        rng = np.random.default_rng(number)
        sizes = [1 + int(share * found.arena) // KB for share in rng.uniform(0.3, 1.2, rng.integers(2, 5))]
        board = board_of(*sizes)
        placed = spread(found, board, fewest=bool(number % 3))
        if placed is None or not placed.parts:
            continue
        held += 1
        limits = {room.name: room.bytes for room in board.rooms}
        ends = [0, *np.cumsum([part.size for part in placed.parts])]
        assert [part.at for part in placed.parts] == ends[:-1] and placed.arena == ends[-1] >= found.peak
        assert all(part.size % 8 == 0 and part.size <= limits[part.region] for part in placed.parts)
        for b in placed.buffers:
            assert sum(b.offset < part.at + part.size and part.at < b.offset + b.size for part in placed.parts) == 1
    assert held > 12


def test_scratch_and_what_is_touched_most_lie_in_the_fast_region():
    graph = random_graph(np.random.default_rng(3), 8, (40, 40))
    found = plan(graph)
    board = board_of(2 + found.arena // 4096, 1 + found.arena // KB)
    placed = spread(found, board, fewest=False)
    fast = placed.parts[0]
    assert fast.region == "R0" and len(placed.parts) == 2
    inside = [b.offset < fast.size for b in placed.buffers]
    assert all(inside[at] for at in found.scratch.values())
    hot = touches(found)
    cost = [sum(hot[i] * b.size for i, b in enumerate(placed.buffers) if inside[i] == quick) for quick in (1, 0)]
    assert cost[0] > cost[1] and min(hot[i] for i in found.scratch.values()) >= 64


def test_one_array_stays_as_it_is_and_two_regions_are_the_way_out():
    graph, small = gated(40), board_of(30, 28)
    whole = plan_for_board(graph, board_of(60, 28))
    assert not whole.parts and whole == plan(graph) and whole.buffers == plan(graph).buffers
    found = plan_for_board(graph, small)
    assert [part.region for part in found.parts] == ["R0", "R1"] and found.macs == graph.macs
    assert plan_for_board(graph, small, schedule=found.schedule).parts == found.parts
    assert plan_for_board(graph, small, objective="instructions").parts
    for size in (27, 13):  # no memory for one of its maps; not enough of both
        with pytest.raises(Infeasible) as error:
            plan_for_board(graph, board_of(size, size - 3))
        assert error.value.needed > 50_000 and error.value.limit < 50_000
    with pytest.raises(Infeasible, match=r"gated on drawn: needs [\d,]+ bytes of sram, 23,552 are there"):
        plan_for_board(graph, board_of(13, 10), regions="all")
    for regions_, how in (("all", {}), ("fewest", {"schedule": found.schedule})):
        with pytest.raises(Infeasible, match=r"bytes of (flash|sram)"):
            plan_for_board(graph, replace(small, flash=1000, reserved_flash=0), regions=regions_, **how)
    with pytest.raises(ScheduleError, match="regions 'some': expected fewest or all"):
        plan_for_board(graph, small, regions="some")


def test_a_room_is_not_overfilled(monkeypatch):
    """Where a placement has gaps, so that a region holds less than what is alive at once says."""
    found, board = plan(gated(40)), board_of(30, 28)

    def with_gaps(buffers):
        placed, size = place(buffers)
        return placed, size + 3 * KB + 64  # a map and so many bytes are in R0 only

    assert spread(found, board).parts
    monkeypatch.setattr(regions, "place", with_gaps)
    assert spread(found, board) is None


def test_the_profile_and_the_map_name_the_regions():
    graph, board = gated(40), board_of(30, 28)
    found = profile(graph, board)
    assert found.limit == board.usable == found.to_dict()["board"]["arena_limit"]
    assert found.to_dict()["board"]["regions"] == {part.region: part.size for part in found.best.parts}
    sizes = ", ".join(f"{part.size / KB:.1f} in {part.region}" for part in found.best.parts)
    assert f"of 58 kB ({sizes})" in str(found)
    assert "of 60 kB in R0, " in str(profile(graph, board_of(60, 28)))
    seen = plan_map(found.best, graph, board)
    assert seen["board"]["arena_limit"] == board.usable and [p["region"] for p in seen["parts"]] == ["R0", "R1"]


def test_a_limit_for_the_network_holds_for_all_regions():
    graph, board = gated(40), board_of(30, 28)
    need = plan_for_board(graph, board).arena
    assert plan_for_board(graph, board.with_arena(need)).arena == need
    assert board.with_arena(need).usable == need and board.with_arena(1000).arena_limit == 1000
    with pytest.raises(Infeasible):
        plan_for_board(graph, board.with_arena(need - 1024))


def test_the_search_counts_all_regions():
    from nni_mcunet.core.ir.arch import ArchSpec, Block
    from nni_mcunet.search.constraint import Fit, Limits, Violation

    spec = ArchSpec("se", 64, 16, ((Block(3, 1, 16, 16, se=4),),), 8, 2)
    one, two = board_of(20), board_of(20, 20)
    needed = Limits(one, patches=(1,)).check(spec)
    assert isinstance(needed, Violation) and needed.what == "sram" and needed.needed > 32 * KB
    found = Limits(two, patches=(1,)).check(spec)
    assert isinstance(found, Fit) and one.arena_limit < found.arena <= two.usable
    assert isinstance(Limits(two.with_arena(20 * KB), patches=(1,)).check(spec), Violation)


# --- the boards' files

YAML = """
name: mine
core: cortex-m7
clock_hz: 100000000
sram: 65536
flash: 1048576
regions:
  - {name: FAST, at: 0x20000000, bytes: 32768}
  - {name: BIG, at: 0x24000000, bytes: 65536, wait: 9}
"""


def test_boards_with_and_without_regions(tmp_path):
    (tmp_path / "with.yml").write_text(YAML)
    (tmp_path / "without.yml").write_text(YAML[: YAML.index("regions")])
    mine, plain = (get_board(str(tmp_path / f"{name}.yml")) for name in ("with", "without"))
    assert (mine.arena_limit, mine.usable) == (56 * KB, 88 * KB) and mine.rooms[1].wait == 9
    assert plain.rooms == () and plain.usable == plain.arena_limit == 56 * KB
    assert [r.name for r in mine.run_of(24 * KB)] == ["FAST"] and [r.name for r in mine.run_of(24 * KB + 1)] == ["BIG"]
    assert all(b.arena_limit <= b.usable for b in BOARDS.values())
    f746 = get_board("f746")
    assert [r.name for r in f746.run_of(60_000)] == ["DTCM", "SRAM12"] and f746.usable == f746.arena_limit
    # The imitated boards' memories are those of the files; the memory of the H743's D2 comes later.
    for name, board in ((name, board) for name, board in BOARDS.items() if board.project):
        places = [(run[0].at, sum(r.bytes for r in run) // KB) for run in board.runs if run[0].at >> 28 != 3]
        assert places == [place for place in RAM[name] if place[0] >> 28 != 3]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("wait: 9", "wait: -1", "the board: regions: wait is -1: expected an integer from 0 to 1,000"),
        ("wait: 9", "waits: 9", "regions has the unknown key 'waits'"),
        ("name: BIG", "name: FAST", "regions has the names FAST, FAST: expected each once"),
        ("0x24000000", "0x20004000", "regions: FAST and BIG overlap: expected each address in one region"),
        ("bytes: 65536", "bytes: 32768", "regions: the largest memory has 32,768 bytes, the board's sram 65,536"),
        ("bytes: 32768", "bytes: 4096", "FAST holds stack and data: expected at least reserved_sram, 8,192 bytes"),
        ("name: BIG", "name: big", "name is 'big': expected capitals and digits"),
    ],
)
def test_what_is_wrong_in_the_regions_is_named(tmp_path, old, new, message):
    assert YAML.count(old) == 1
    (tmp_path / "b.yml").write_text(YAML.replace(old, new))
    with pytest.raises(BoardError, match=r"b\.yml: .*" + message) as caught:
        get_board(str(tmp_path / "b.yml"))
    assert "\n" not in str(caught.value)


def mcunet(*words):
    return subprocess.run(
        [sys.executable, "-m", "nni_mcunet", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_that_lists_boards(tmp_path):
    (tmp_path / "mine.yml").write_text(YAML)
    done = mcunet("boards", "h743", tmp_path / "mine.yml")
    assert "504 kB in one array, 984 kB in all memories" in done.stdout and "mine: cortex-m7" in done.stdout
    assert re.search(r"AXI +0x24000000 +512 kB +waits 10 cycles a line", done.stdout), done.stdout
    assert set(json.loads(mcunet("boards", "--json").stdout)) == set(BOARDS)
    (tmp_path / "bad.yml").write_text(YAML.replace("wait: 9", "wait: x"))
    bad = mcunet("boards", tmp_path / "bad.yml")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "wait is 'x'" in bad.stderr


# --- the C


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A network of more than 512 kB as a project of the H743, with the picture and the reference's outputs."""
    graph, rng = gated(130), np.random.default_rng(1)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (130, 130, 3)).astype(np.uint8)
    found, folder = plan_for_board(graph, H743), tmp_path_factory.mktemp("large") / "fw"
    facts = write_library(folder, found, model, H743, True, picture)
    assert [part.region for part in found.parts] == ["AXI", "SRAM123"]
    assert facts["regions"] == {part.region: part.size for part in found.parts} == arena_regions(folder)
    assert facts["arena_limit"] == H743.usable and facts["arena_bytes"] == found.arena > 512 * KB
    expected = reference.run(found, model, (picture.astype(np.int16) - 128).astype(np.int8))
    return folder, found, picture, [value.ravel() for value in expected.values()]


def test_a_network_above_the_largest_memory_runs_in_two(large):
    """On QEMU's Cortex-M7, each region with its own length; the report names them, and their sum is the ELF's."""
    folder, found, picture, expected = large
    elf = build_firmware(folder, H743, picture)
    ran, layers = run_profiled(elf, H743)
    assert all(map(np.array_equal, ran["outputs"], expected)) and len(found.parts) == 2
    assert all(map(np.array_equal, build_host(folder).run(picture), expected))
    report = board_report(elf, H743, layers)
    sizes = elf_report(elf)
    assert sum(report["regions"].values()) == sum(report["sram"].values()) == sizes["sram_bytes"]
    assert sizes["arena_bytes"] == found.arena
    spread_over = {part.region: part.size for part in found.parts}
    rest = sizes["sram_bytes"] - found.arena
    assert report["regions"] == {"DTCM": rest + spread_over.get("DTCM", 0)} | {
        name: size for name, size in spread_over.items() if name != "DTCM"
    }
    text = report_table(report)
    assert all(f"{name} {size:,}" in text for name, size in report["regions"].items())
    assert sum(row["stall_cycles"] for row in report["layers"]) > 0


def test_the_project_of_two_regions_on_the_imitated_board(large):
    """The very image, at the addresses of the chip. D2's memory answers only once its clocks are on."""
    folder, found, _, expected = large
    run("make", "-j2", cwd=folder)
    elf = folder / "build/firmware.elf"
    board = Stm32("stm32h743", (folder / "build/firmware.bin").read_bytes())
    board.run(120, DONE)
    _, *lines = [json.loads(line) for line in bytes(board.sent).decode().splitlines()]
    assert all(map(np.array_equal, parse_report(lines)["outputs"], expected))
    places, at = sections(elf), symbols(elf)
    for part in found.parts:
        region = next(r for r in H743.regions if r.name == part.region)
        array = at[f"mcu_arena_{part.region.lower()}"]
        assert array.size == part.size == places[f".arena_{part.region.lower()}"].size and array.address % 8 == 0
        assert region.at <= array.address and array.address + array.size <= region.at + region.bytes
    assert places[".stack"].address == 0x20000000  # lowest of the first memory
    assert sum(region_bytes(elf, H743).values()) == elf_report(elf)["sram_bytes"] == sum(sram_parts(elf).values())
    readme = (folder / "README.txt").read_text()
    assert all(f"{part.size} bytes in {part.region}" in readme for part in found.parts)
    run("make", "clean", cwd=folder)


def test_a_board_that_lacks_the_region_is_told(large):
    folder, _, picture, _ = large
    with pytest.raises(UserError, match=r"has a part of its arena in .*, which stm32f746 lacks: generate it for that"):
        build_firmware(folder, get_board("f746"), picture)
    less = replace(H743, regions=tuple(replace(r, bytes=r.bytes // 2) for r in H743.regions))
    with pytest.raises(Infeasible, match=r"does not fit stm32h743 .*: it lacks \d+ bytes of"):
        build_firmware(folder, less, picture)


@pytest.mark.parametrize("prefix", ["mcu", "seen"])
def test_without_a_linker_script(tmp_path, prefix):
    """One array for all regions by MCU_SHARED_ARENA, or a section of the user's own by MCU_REGION_R1: the same bytes.
    Nothing warns."""
    graph, rng = gated(40), np.random.default_rng(2)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    found = plan_for_board(graph, board_of(30, 28))
    write_sources(found, model, tmp_path, prefix)
    (expected,) = reference.run(plan(graph), model, (picture.astype(np.int16) - 128).astype(np.int8)).values()
    body = f"""#include "{prefix}_model.h"
#include <stdio.h>
#if defined(MCU_SHARED_ARENA)
int8_t MCU_SHARED_ARENA[{prefix.upper()}_ARENA_BYTES];
#endif
static void tile(void *ctx, int y, int x, int h, int w, int8_t *dst) {{
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w * 3; j++)
            *dst++ = (int8_t)(((const unsigned char *)ctx)[((y + i) * 40 + x) * 3 + j] - 128);
}}
int main(void) {{
    static unsigned char picture[40 * 40 * 3];
    if (fread(picture, 1, sizeof picture, stdin) != sizeof picture)
        return 1;
    {prefix}_run(tile, picture);
    fwrite({prefix}_output(0), 1, (size_t){prefix}_output_bytes(0), stdout);
    return 0;
}}
"""
    (tmp_path / "build").mkdir(exist_ok=True)
    (tmp_path / "build/user.c").write_text(body)
    own = '-DMCU_REGION_R1=__attribute__((section("mine")))'
    sources = [*objects(HOST), str(tmp_path / f"{prefix}_model.c"), str(tmp_path / "build/user.c")]
    for flags in ([], ["-DMCU_SHARED_ARENA=everything"], [own]):
        program = tmp_path / "build/program"
        command = ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", *SANITIZERS, *flags, f"-I{tmp_path}"]
        subprocess.run([*command, *sources, "-o", str(program)], check=True)
        done = subprocess.run([str(program)], input=picture.tobytes(), capture_output=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected.tobytes(), flags
    names = run("readelf", "-SW", program)
    assert " mine " in names


def test_three_regions_in_one_array():
    parts = tuple(Part(f"R{i}", 16 * i, 16) for i in range(3))
    text = declared(replace(plan(gated(40)), parts=parts), Names("mcu", gated(40)))
    for i, sum_ in enumerate(("MCU_SHARED_ARENA", "(MCU_SHARED_ARENA + MCU_ARENA_R0_BYTES)",
                              "(MCU_SHARED_ARENA + MCU_ARENA_R0_BYTES + MCU_ARENA_R1_BYTES)")):  # fmt: skip
        assert f"#define mcu_arena_r{i} {sum_}\n" in text


def test_emulated_in_a_board_of_the_users_own(tmp_path):
    """A Cortex-M4 of two memories, by its file, with --regions all."""
    (tmp_path / "b.yml").write_text(YAML.replace("cortex-m7", "cortex-m4"))
    board, graph, rng = get_board(str(tmp_path / "b.yml")), gated(36), np.random.default_rng(4)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (36, 36, 3)).astype(np.uint8)
    found = plan_for_board(graph, board, regions="all")
    assert [part.region for part in found.parts] == ["FAST", "BIG"]
    write_library(tmp_path / "fw", found, model, board)
    ran = run_emulated(build_firmware(tmp_path / "fw", board, picture), board)
    expected = reference.run(plan(graph), model, (picture.astype(np.int16) - 128).astype(np.int8))
    assert all(np.array_equal(a, b.ravel()) for a, b in zip(ran["outputs"], expected.values(), strict=True))


def test_the_adjoining_memories_of_the_f746_apart(tmp_path):
    """One array may lie across both; with --regions all nothing does, and the report says each."""
    board, graph, rng = get_board("f746"), gated(64), np.random.default_rng(5)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert not plan_for_board(graph, board).parts
    found = plan_for_board(graph, board, regions="all")
    assert [part.region for part in found.parts] == ["DTCM", "SRAM12"]
    write_library(tmp_path / "fw", found, model, board, project=True)
    elf = build_firmware(tmp_path / "fw", board, picture)
    expected = reference.run(plan(graph), model, (picture.astype(np.int16) - 128).astype(np.int8))
    ran = run_emulated(elf, board)["outputs"]
    assert all(np.array_equal(a, b.ravel()) for a, b in zip(ran, expected.values(), strict=True))
    assert set(region_bytes(elf, board)) == {"DTCM", "SRAM12"}
    memory = (tmp_path / "fw/board/memory.ld").read_text()
    assert "DTCM (rwx) : ORIGIN = 0x20000000, LENGTH = 64K" in memory
    assert "SRAM12 (rwx) : ORIGIN = 0x20010000, LENGTH = 256K" in memory


# --- the picture's source


def test_a_source_lies_where_dma_writes():
    """Its bytes are kept free in AXI SRAM of an H743, whose DTCM no camera's DMA reaches, and in DTCM of an F746."""
    for name, where in (("h743", "AXI"), ("f746", "DTCM")):
        board = get_board(name)
        bare = {room.name: room.bytes for room in board.rooms}
        left = {room.name: room.bytes for room in regions.rooms_beside(board, 5000)}
        assert {n: bare[n] - left[n] for n in bare} == {n: 5000 * (n == where) for n in bare}
    kinds = ((64, False), (4, True), (8, True))
    memories = [Region(f"R{i}", 0x20000000 + (i << 24), kb * KB, 0, dma) for i, (kb, dma) in enumerate(kinds)]
    small = Board("small", "cortex-m7", 10**8, 64 * KB, 1 << 20, 0, regions=tuple(memories))
    assert [room.bytes for room in regions.rooms_beside(small, 5000)] == [64 * KB, 4 * KB, 8 * KB - 5000]
    assert regions.rooms_beside(small, 9000) == ()
    with pytest.raises(BoardError, match="dma is 'no'"):
        Region("R", 0, KB, 0, "no")


def test_a_spread_network_leaves_room_for_its_source():
    """The bytes of the source stay free, and a network that needs them is not placed."""
    graph, board = gated(40), board_of(32, 32)
    bare = plan_for_board(graph, board)
    assert len(bare.parts) == 2
    fits = []
    for source in (0, 400, 2000, 8000):
        found = spread(plan(graph, bare.schedule), board, source=source)
        fits.append(found is not None)
        if found:
            assert {part.region: part.size for part in found.parts}["R0"] + source <= 32 * KB
    assert fits == [True, True, True, False]
