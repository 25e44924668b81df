"""The cached halo, played through with the integers of the reference: what stream.py and the plan promise holds."""

import numpy as np
import pytest
from nets import random_graph, random_model

from nni_mcunet.core.arch import Schedule, mobilenet_v2
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.build import build_graph
from nni_mcunet.core.errors import ScheduleError
from nni_mcunet.core.kernels import ANALYTIC
from nni_mcunet.core.plan import best_schedule, pareto, plan, schedules
from nni_mcunet.core.stages import Axis
from nni_mcunet.core.tiles import window
from nni_mcunet.engine import reference
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.integers import integers

GRIDS = (2, 3, (1, 3), (4, 1), (3, 5))


class Streamer:
    """Runs the patch stage of a plan with cached halo. All that a patch finds it reads out of the plan's one arena, at
    the offsets of the plan's buffers."""

    def __init__(self, p, model, image):
        self.plan, self.stage, self.table, self.image = p, p.stages[0], integers(model), image
        self.index = {b.name: i for i, b in enumerate(p.buffers)} | p.home
        self.arena = np.zeros(p.arena, np.int8)
        self.computed = {op.name: np.zeros(self.full(op.name)[:2], int) for op in self.stage.ops}

    def full(self, name):
        t = self.plan.graph.tensors[name]
        return t.h, t.w, t.c

    def view(self, name, shape):
        """The buffer of a tensor or cache as an array that shares the arena's bytes."""
        buffer, size = self.plan.buffers[self.index[name]], int(np.prod(shape))
        assert size <= buffer.size, name
        return self.arena[buffer.offset : buffer.offset + size].reshape(shape)

    def run(self):
        for i in range(self.stage.grid[0]):
            for j in range(self.stage.grid[1]):
                self.patch(i, j)
        return self.view(self.stage.out, self.full(self.stage.out))

    def patch(self, i, j):
        held = [self.stage.spans[axis][at] for axis, at in enumerate((i, j))]
        new = [self.stage.new[axis][at] for axis, at in enumerate((i, j))]

        def tile(name):
            return self.view(name, (held[0][name].length, held[1][name].length, self.full(name)[2]))

        (image,) = self.plan.graph.inputs
        tile(image.name)[:] = self.image[tuple(slice(*h[image.name]) for h in held)]
        for op in self.stage.ops:
            sides = [self.axis(op, h, n, axis) for axis, (h, n) in enumerate(zip(held, new, strict=True))]
            result = np.zeros((sides[0].n_out, sides[1].n_out, op.cout), np.int8)
            if result.size:
                result = reference.run_op(op, self.table[op.name], [tile(name) for name in op.reads], [sides])
            if op.name in self.plan.scratch:  # whatever the kernel leaves there must harm nobody
                scratch = self.plan.buffers[self.plan.scratch[op.name]]
                self.arena[scratch.offset : scratch.offset + scratch.size] = 85
            region = tuple(slice(*n[op.name]) for n in new)
            self.computed[op.name][region] += 1
            if op.name == self.stage.out:
                self.view(op.name, self.full(op.name))[region] = result
            else:
                self.fill(op.name, tile(op.name), result, i, j)

    def axis(self, op, held, new, axis):
        """The kernel's view: new positions of the output from the tile of the input."""
        out, source = new[op.name], held[op.inputs[0]]
        first = window(op, out, axis).lo - source.lo
        if op.kind == "upsample":
            first = out.lo - source.lo * op.s[axis]
        res = held[op.residual] if op.residual is not None else out
        return Axis(source.length, first, out.length, out.length, 0, res.length, out.lo - res.lo)

    def fill(self, name, tile, result, i, j):
        """Old columns from the one cache, old rows above the new columns from the other, then what was computed; and
        its right and lower edges into the caches, for the next patch and the next row of patches."""
        rows, cols = ([spans[name] for spans in side] for side in self.stage.spans)
        y, x = self.stage.new[0][i][name], self.stage.new[1][j][name]
        top, left, edge = y.lo - rows[i].lo, x.lo - cols[j].lo, cols[0].lo
        across = cols[-1].hi - edge
        tile[top:, left:] = result
        if j and (width := max(0, cols[j - 1].hi - cols[j].lo)):
            tile[:, :width] = self.view(f"{name}:cols", (rows[i].length, width, tile.shape[2]))
        if i and (height := max(0, rows[i - 1].hi - rows[i].lo)):
            cache = self.view(f"{name}:rows", (height, across, tile.shape[2]))
            tile[:height, left:] = cache[:, x.lo - edge : x.hi - edge]
        if j + 1 < len(cols) and (width := max(0, cols[j].hi - cols[j + 1].lo)):
            self.view(f"{name}:cols", (rows[i].length, width, tile.shape[2]))[:] = tile[:, tile.shape[1] - width :]
        if i + 1 < len(rows) and (height := max(0, rows[i].hi - rows[i + 1].lo)):
            cache = self.view(f"{name}:rows", (height, across, tile.shape[2]))
            cache[:, x.lo - edge : x.hi - edge] = tile[tile.shape[0] - height :, left:]


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_streaming_equals_the_whole_and_computes_once(first):
    for seed in range(first, first + 10):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, blocks=int(rng.integers(2, 7)))
        model = random_model(rng, graph)
        t = graph.inputs[0]
        image = rng.integers(-128, 128, (t.h, t.w, t.c)).astype(np.int8)
        whole = reference.run(plan(graph), model, image, keep=True)
        every = [s for s in schedules(graph, GRIDS) if s.n]
        for at in rng.permutation(len(every))[:4]:
            p = plan(graph, every[at], halo="cache")
            streamer = Streamer(p, model, image)
            assert np.array_equal(streamer.run(), whole[p.stages[0].out]), (seed, every[at])
            counts = streamer.computed
            assert all(count.max() <= 1 for count in counts.values())
            assert p.stages[0].macs() == sum(graph.op_macs(op, int(counts[op.name].sum())) for op in p.stages[0].ops)


def test_same_padding_computes_every_position_exactly_once():
    """So that the overhead of a network of the paper is nothing, at any cut and grid."""
    graph = build_graph(mobilenet_v2(96, 0.35))
    for schedule in schedules(graph, GRIDS):
        p = plan(graph, schedule, halo="cache")
        assert p.macs == graph.macs and p.arena >= p.peak


def test_caches_of_mobilenet_v2():
    """By hand, n = 2: the depth-wise of block 1 alone has a halo; it reads 2 rows and columns of the 112 x 112 x 32 map
    again, of which each patch of a 2 x 2 grid holds 57 rows at most in the second row and 57 in the first."""
    p = plan(build_graph(mobilenet_v2()), Schedule(2, 2), ANALYTIC, "cache")
    sizes = {b.name: b.size for b in p.buffers if ":rows" in b.name or ":cols" in b.name}
    rows = [spans["stem"] for spans in p.stages[0].spans[0]]
    assert [tuple(span) for span in rows] == [(0, 57), (55, 112)]
    assert sizes == {"stem:rows": 2 * 112 * 32, "stem:cols": 2 * 57 * 32}


def test_the_cheapest_plan_may_cache():
    graph, board = build_graph(mobilenet_v2(width=0.5)), get_board("H743")
    halos = ("clip", "cache")
    clip, best = best_schedule(graph, board), best_schedule(graph, board, halos=halos)
    assert best.halo == "cache" and best.macs == graph.macs < clip.macs and best.arena <= board.arena_limit
    small = best_schedule(graph, board, "sram", halos=halos)
    front = pareto(graph, halos=halos)
    assert front[-1].arena == small.arena and front[0].macs == graph.macs


def test_the_engine_refuses_what_it_does_not_execute(tmp_path):
    rng = np.random.default_rng(0)
    graph = random_graph(rng)
    model, schedule = random_model(rng, graph), schedules(graph, GRIDS)[1]
    p = plan(graph, schedule, halo="cache")
    with pytest.raises(ScheduleError, match="does not execute halo 'cache'"):
        reference.run(p, model, None)
    with pytest.raises(ScheduleError, match="does not execute halo 'cache'"):
        write_sources(p, model, tmp_path)
    with pytest.raises(ScheduleError, match="halo 'keep': one of clip, full, cache"):
        plan(graph, schedule, halo="keep")
    assert plan(graph, halo="cache").executable()  # per layer there is no halo
