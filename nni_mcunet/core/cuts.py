"""Where a patch stage may end, and the schedules that follow from it."""

from .arch import Schedule
from .errors import ScheduleError
from .graph import Graph, Op

GLOBAL = ("gap",)  # ops that see the whole map end the patch stage


def split(graph: Graph, n: int) -> tuple[tuple[Op, ...], str]:
    """Ops of the first n blocks and the one tensor they hand on. Raises ScheduleError when n is no possible cut."""
    ops = tuple(op for op in graph.ops if op.block < n)
    if not 0 < n <= graph.ops[-1].block + 1:
        raise ScheduleError(f"n = {n}: {graph.name} has {graph.ops[-1].block + 1} blocks")
    for op in ops:
        if op.kind in GLOBAL:
            raise ScheduleError(f"n = {n}: {op.name} needs the whole map; end the patch stage before block {op.block}")
    handed = next((names for size, names in _handed_on(graph) if size == len(ops)), ())
    if len(handed) != 1:
        raise ScheduleError(f"n = {n}: the patch stage must hand on one tensor, not {', '.join(sorted(handed))}")
    return ops, next(iter(handed))


def cuts(graph: Graph) -> dict[int, tuple[int, str]]:
    """Every n that `split` accepts -> (number of ops in the patch stage, the tensor it hands on), rising."""
    found = {}
    for size, handed in _handed_on(graph):
        op = graph.ops[size - 1]
        if op.kind in GLOBAL:
            break
        if len(handed) == 1 and (size == len(graph.ops) or graph.ops[size].block > op.block):
            for n in range(op.block + 1, graph.ops[size].block + 1 if size < len(graph.ops) else op.block + 2):
                found[n] = size, next(iter(handed))
    return found


def _handed_on(graph: Graph):
    """(size, the tensors of the first `size` ops, and of the image they read, that later ops or the user read)."""
    last, alive = graph.last_use(), set()
    for index, op in enumerate(graph.ops):
        alive = {name for name in (*alive, *op.reads, op.name) if last[name] > index}
        yield index + 1, alive


def schedules(graph: Graph, p_choices=(1, 2, 3, 4), n_max: int | None = None) -> list[Schedule]:
    """Per layer, then every grid of `p_choices` at every cut the graph allows up to block `n_max`.

    A choice is an integer p for a p x p grid, or a pair (p_h, p_w). A grid finer than the map it divides is left out.
    """
    found = [Schedule()]
    grids = [(p, p) if isinstance(p, int) else tuple(p) for p in p_choices]
    for n, (_, out) in cuts(graph).items():
        tensor = graph.tensors[out]
        if n_max is None or n <= n_max:
            found += [Schedule(p, n) for p in grids if p != (1, 1) and p[0] <= tensor.h and p[1] <= tensor.w]
    return found
