"""Print the C sources of a model and its plan. It formats and decides nothing: plan() or lower() has computed every
number that it prints."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from ...core.errors import Infeasible
from ...core.file_sets import Files, Seal, write_set
from ...core.plan.plan import Plan
from ..detect import detector_params
from ..lower.c_limits import BYTES
from ..lower.program import Program, laid_out, lower
from ..model import QuantModel, class_names, view_of
from . import arenas
from .constants import weights
from .header import header, pixel_table, summary
from .names import DEFAULT, Names, c_string, check_beside, check_prefix, commented
from .picture_callbacks import pictures
from .run_function import run_lines, tables
from .stamp import fingerprint, stamp, stamped

KERNELS = Path(__file__).parents[1] / "kernels"
SHARED = "kernels"  # the set of files that every model of a folder calls; a model's own set has its prefix for a name


def write_sources(
    plan: Plan, model: QuantModel, folder: str | Path, prefix: str = DEFAULT, weights_lie: str = ""
) -> Path:
    """Write the library into `folder`, without plan.json: see `generated` and core.file_sets.write_set."""
    check_beside(Path(folder), prefix)
    sets: dict[str, Files] = {SHARED: {**shared_files()}, prefix: {**generated(plan, model, prefix, weights_lie).files}}
    return write_set(folder, sets, seal(prefix))


def seal(prefix: str) -> Seal:
    """Return the text of a model's header until its library is whole."""
    return Seal(model_files(prefix)[0], '#error "mcunet generate was stopped while it wrote this: run it again"\n')


@cache
def shared_files() -> dict[str, str]:
    """Return {file: text} of the kernels, which are the same for every model."""
    return stamped(_kernels(), "MCU_KERNELS")


@cache
def _kernels() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.[ch]"))}


def model_files(prefix: str) -> tuple[str, str, str]:
    """Return the names of a model's own header, source and constants."""
    return f"{prefix}_model.h", f"{prefix}_model.c", f"{prefix}_weights.h"


class Generated(NamedTuple):
    """Hold a model's own files, {name: text}, and its call sites: line of its source -> the row of a report in which
    the calls of that line are counted (program.row)."""

    files: dict[str, str]
    sites: dict[int, str]


def sources(plan: Plan, model: QuantModel, prefix: str = DEFAULT) -> dict[str, str]:
    """Return {file: text} of the model's own files, see `generated`."""
    return generated(plan, model, prefix).files


def generated(plan: Plan, model: QuantModel, prefix: str = DEFAULT, weights_lie: str = "") -> Generated:
    """Return the model's header, source, constants and pictures/, which has the ready callbacks. With shared_files()
    they make a self-contained C11 library. They end in a common mark, and the header in that of the kernels, too.
    prefix: what all its names begin with, those of files as well; weights_lie: see Core.weights; plain C gives the
    same bytes, slower. Raises UserError for a prefix that cannot be one, Infeasible
    for an arena of more than 32 bits, and what `lower` raises."""
    names = Names(check_prefix(prefix), plan.graph)
    if plan.arena > BYTES:
        raise Infeasible.over("sram", plan.arena, BYTES, f"{plan.graph.name} with offsets of 32 bits")
    program = laid_out(lower(plan, model), weights_lie)
    source, sites = _source(program, model, names)
    texts = header(plan, model, names), source, weights(program, names)
    files = {**dict(zip(model_files(prefix), texts, strict=True)), **pictures(prefix, view_of(model))}
    files, first = stamped(files, f"{names.macro}_FILES"), model_files(prefix)[0]
    files[first] += stamp(first, "MCU_KERNELS", fingerprint(_kernels()))
    return Generated(files, sites)


def _source(program: Program, model: QuantModel, names: Names) -> tuple[str, dict[int, str]]:
    """Return the C of the model, and its call sites."""
    p, (model_h, _, weights_h) = names.prefix, model_files(names.prefix)
    found = tables(program, names)
    head = "".join([
        summary(program.plan),
        f'#include "{model_h}"\n#include "mcu.h"\n#include "{weights_h}"\n\n',
        arenas.defined(program.plan, names),
        found.text,
        f"\nvoid {p}_run({p}_read_tile read, void *ctx) {{\n{arenas.bases(program.plan, names)}",
    ])  # fmt: skip
    lines = run_lines(program, names, found.axes)
    tail = "}\n\n" + _outputs(program, names) + pixel_table(model, names)
    if post := detector_params(model):
        tail += post.to_c(p)
    if classes := class_names(model):
        tail += _class_names(classes, names)
    first = head.count("\n") + 1
    sites = {first + at: row for at, (_, row) in enumerate(lines) if row is not None}
    return head + "".join(f"{text}\n" for text, _ in lines) + tail, sites


def _class_names(classes: list[str], names: Names) -> str:
    lines = []
    for name in classes:
        literal = c_string(name)
        comment = f" /* {commented(name)} */" * (literal != f'"{name}"')
        lines.append(f"    {literal},{comment}\n")
    table = f"const char *const {names.prefix}_class_names[{names.macro}_CLASSES]"
    return f"\n{table} = {{\n{''.join(lines)}}};\n"


def _outputs(program: Program, names: Names) -> str:
    table, found = arenas.table(program.plan, names, [room.offset for room in program.outputs])
    sizes = ", ".join(str(room.size) for room in program.outputs)
    p, known = names.prefix, f"i >= 0 && i < {names.macro}_OUTPUTS"
    return (
        f"const int8_t *{p}_output(int i) {{\n    {table}\n"
        f"    return {known} ? {found} : 0;\n}}\n\n"
        f"int {p}_output_bytes(int i) {{\n    static const int32_t bytes[] = {{{sizes}}};\n"
        f"    return {known} ? bytes[i] : 0;\n}}\n\n"
    )
