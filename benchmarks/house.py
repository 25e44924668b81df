"""Count the house: rooms, floors, arrows, circles, and the walk of a candidate from the tuner to C.

  python benchmarks/house.py --rev 4c01720 --rev HEAD --out docs/results/rooms.json

A room is a folder of Python files. A file directly in nni_mcunet is a room of its own, and so are the doors of a part,
which lead into its rooms, see DOORS. Files stand on floors: a file is one floor above the highest file of the same part
(core, engine, search, ...) that it imports. An arrow goes from a room to another one that a file of it imports, inside
a function or not. A circle is a set of modules, or of rooms, from each of which imports lead to every other.

The walk has fixed stations, what a candidate becomes in turn: STATIONS. From one station to the next it takes the
shortest way along imports, in either direction: that is what a reader opens who follows a candidate. It does not go
over TOOLS, which all files import. Its rooms are counted as they are entered; a room entered again is one that the data
pass twice. The more files the rooms on the walk have, the longer the reader looks for the next one.

The depth is the longest of all shortest ways along imports, from the tuner and from the printing of C down to whatever
they stand on.

Without --rev the files of the working tree are counted.
"""

import argparse
import ast
import io
import subprocess
import tarfile
from collections import Counter
from collections.abc import Collection
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean

import networkx as nx

from nni_mcunet.core.files import write_json

ROOT = Path(__file__).parents[1]
TOPS = ("nni_mcunet", "detection")
# File -> what it opens: where that is not there, in an older state, the file is no door.
DOORS = {
    "nni_mcunet/search/nnictl.py": "nni_mcunet/search/nni/nnictl.py",
    "nni_mcunet/search/strategy.py": "nni_mcunet/search/nni/strategy.py",
    "nni_mcunet/search/trial.py": "nni_mcunet/search/nni/trial.py",
    "nni_mcunet/search/tuner.py": "nni_mcunet/search/nni/tuner.py",
    "nni_mcunet/engine/board_run.py": "nni_mcunet/engine/timing/report.py",
    "nni_mcunet/engine/frontend/__init__.py": "nni_mcunet/engine/frontend/onnx/read.py",
    "nni_mcunet/engine/int8_classifier.py": "nni_mcunet/engine/run/firmware.py",
    "nni_mcunet/engine/int8_detector.py": "nni_mcunet/engine/run/firmware.py",
    "nni_mcunet/engine/library.py": "nni_mcunet/engine/run/board_project.py",
}
TOOLS = {f"nni_mcunet.core.{name}" for name in ("errors", "files", "validate", "outputs")}
STATIONS = {  # what a candidate is -> the file that makes it, under its names of today and of before
    "asked for": ("search/nni/tuner.py", "search/tuner.py"),
    "genes": ("search/evolution.py",),
    "a spec": ("search/space.py",),
    "blocks": ("core/ir/arch.py", "core/arch.py"),
    "a graph": ("core/ir/build.py", "core/build.py"),
    "a plan": ("core/plan/plan.py", "core/plan.py"),
    "integers": ("engine/lower/program.py", "engine/lower/integers.py", "engine/integers.py"),
    "C": ("engine/codegen/sources.py", "engine/emit.py"),
    "a run": ("engine/run/host.py", "engine/run/firmware.py", "engine/firmware.py"),
}


def read_tree(rev: str | None = None, root: Path = ROOT) -> dict[str, str]:
    """Map each path to its text: the Python files of TOPS, of a git revision or of the working tree."""
    if rev is None:
        paths = [path for top in TOPS for path in sorted((root / top).rglob("*.py"))]
        return {str(path.relative_to(root)): path.read_text() for path in paths}
    packed = subprocess.run(["git", "archive", rev, *TOPS], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = [member for member in archive if member.name.endswith(".py")]
        return {member.name: archive.extractfile(member).read().decode() for member in files}


def module_of(path: str) -> str:
    """Return the dotted name of a file: a/b.py is a.b, a/__init__.py is a."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def folder_of(path: str) -> str:
    """Return the folder of a file, dotted."""
    return path.rpartition("/")[0].replace("/", ".")


def room_of(path: str, files: Collection[str]) -> str:
    """Return the room of a file among `files`."""
    folder = folder_of(path)
    if folder == "nni_mcunet":
        return module_of(path)
    return f"{folder} (doors)" if DOORS.get(path) in files else folder


def imported(path: str, text: str, modules: set[str]) -> set[str]:
    """Return the absolute names of what a file imports, at its top, inside functions and by import_module("NAME").
    `from a import b` is a.b where that is one of `modules`, else a."""
    package, found = folder_of(path).split("."), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            parts = {f"{name}.{alias.name}" for alias in node.names}
            found |= (parts & modules) | (set() if parts <= modules else {name})
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def import_graph(files: dict[str, str]) -> nx.DiGraph:
    """Build the graph of modules, each with its room, and an edge from a module to each of `files` that it imports."""
    graph, modules = nx.DiGraph(), {module_of(path) for path in files}
    for path in sorted(files):
        graph.add_node(module_of(path), room=room_of(path, files), path=path)
    for path, text in sorted(files.items()):
        own = module_of(path)
        graph.add_edges_from((own, name) for name in sorted(imported(path, text, modules) & (modules - {own})))
    return graph


def room_graph(graph: nx.DiGraph) -> nx.DiGraph:
    """Build the graph of rooms and their arrows."""
    rooms, room = nx.DiGraph(), graph.nodes(data="room")
    rooms.add_nodes_from(sorted({name for _, name in room}))
    rooms.add_edges_from((room[a], room[b]) for a, b in graph.edges if room[a] != room[b])
    return rooms


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """List the sets of more than one node, each reached from every other; the largest first."""
    found = [sorted(nodes) for nodes in nx.strongly_connected_components(graph) if len(nodes) > 1]
    return sorted(found, key=lambda nodes: (-len(nodes), nodes))


def part_of(room: str) -> str:
    """Name the part of the house that a room belongs to: core, engine, ... or detection."""
    return ".".join(room.removesuffix(" (doors)").split(".")[:2])


def floors(graph: nx.DiGraph) -> dict[str, int]:
    """Count the floors that each part's files stand on."""
    found = {}
    for part in sorted({part_of(room) for _, room in graph.nodes(data="room")}):
        within = graph.subgraph([module for module, room in graph.nodes(data="room") if part_of(room) == part])
        found[part] = len(list(nx.topological_generations(nx.condensation(within))))
    return found


def walk(graph: nx.DiGraph) -> list[str]:
    """List the modules of a candidate's way from the tuner to a run."""
    by_path = {path: module for module, path in graph.nodes(data="path")}
    stations = [next(by_path[f"nni_mcunet/{p}"] for p in names if f"nni_mcunet/{p}" in by_path)
                for names in STATIONS.values()]  # fmt: skip
    both = nx.Graph()
    both.add_edges_from(sorted(graph.subgraph(set(graph) - TOOLS).edges))
    way = stations[:1]
    for a, b in pairwise(stations):
        way += nx.shortest_path(both, a, b)[1:]
    return way


def depth(graph: nx.DiGraph) -> list[str]:
    """Find the longest of the shortest ways along imports from the tuner and from the printing of C."""
    by_path = {path: module for module, path in graph.nodes(data="path")}
    begins = [by_path[f"nni_mcunet/{p}"] for key in ("asked for", "C") for p in STATIONS[key]
              if f"nni_mcunet/{p}" in by_path]  # fmt: skip
    ways = [way for begin in begins for way in nx.single_source_shortest_path(graph, begin).values()]
    return max(ways, key=lambda way: (len(way), way))


def figures(files: dict[str, str]) -> dict:
    """Count what the module's docstring names, in the files of one state."""
    graph = import_graph(files)
    rooms = room_graph(graph)
    way, inside = walk(graph), Counter(room for _, room in graph.nodes(data="room"))
    entered = [room for room, _ in groupby(graph.nodes[module]["room"] for module in way)]
    return {
        "files": len(files),
        "rooms": dict(sorted(inside.items())),
        "floors": floors(graph),
        "arrows": {"modules": graph.number_of_edges(), "rooms": rooms.number_of_edges()},
        "circles": {"modules": circles(graph), "rooms": circles(rooms)},
        "walk": {"modules": way, "rooms": entered, "entered again": len(entered) - len(set(entered))},
        "depth": depth(graph),
    }


def rows(found: dict) -> dict[str, str]:
    """Return the lines of the table for one state."""
    walked, largest = found["walk"], max(found["rooms"], key=found["rooms"].get)
    lines = {
        "files / rooms": f"{found['files']} / {len(found['rooms'])}",
        "largest room": f"{found['rooms'][largest]} ({largest})",
        "files of engine, rooms, floors": " / ".join(map(str, _of_part(found, "nni_mcunet.engine"))),
        "files of core, rooms, floors": " / ".join(map(str, _of_part(found, "nni_mcunet.core"))),
        "files of search, rooms, floors": " / ".join(map(str, _of_part(found, "nni_mcunet.search"))),
        "arrows between rooms / modules": f"{found['arrows']['rooms']} / {found['arrows']['modules']}",
        "circles of modules": _sizes(found["circles"]["modules"]),
        "circles of rooms": _sizes(found["circles"]["rooms"]),
        "walk: modules / rooms": f"{len(walked['modules'])} / {len(walked['rooms'])}",
        "walk: rooms entered again": str(walked["entered again"]),
        "walk: files in a room, mean": f"{fmean(found['rooms'][room] for room in walked['rooms']):.1f}",
        "depth: modules": str(len(found["depth"])),
    }
    return lines


def _of_part(found: dict, part: str) -> tuple[int, int, int]:
    inside = [count for room, count in found["rooms"].items() if part_of(room) == part]
    return sum(inside), len(inside), found["floors"][part]


def _sizes(found: list[list[str]]) -> str:
    return f"{len(found)} ({', '.join(str(len(nodes)) for nodes in found)})" if found else "0"


def table(states: dict[str, dict]) -> str:
    """Write a table in Markdown, a column a state."""
    columns = [rows(found) for found in states.values()]
    lines = [f"| | {' | '.join(states)} |", "|---" * (len(states) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rev", action="append", help="a git revision; may be given more than once")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    args = parser.parse_args()
    states = {rev or "working tree": figures(read_tree(rev)) for rev in args.rev or [None]}
    print(table(states))
    if args.out:
        write_json(args.out, states)


if __name__ == "__main__":
    main()
