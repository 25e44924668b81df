"""Report where the time and the memory of a firmware go: per layer and by part, as data for JSON and as a table."""

from pathlib import Path

from ...core.boards import Board
from ...core.types import PlainDict
from ..lower.program import DETECT
from ..run.elf import flash_parts, region_bytes, sram_parts
from .layer_cycles import Layer
from .plan_file import planned


def board_report(elf: str | Path, board: Board, layers: dict[str, Layer]) -> PlainDict:
    """Return {"milliseconds_estimated", "cycles_estimated", "flash": bytes by part, "sram": bytes by part, "regions":
    bytes of SRAM by region of the board, "callback_bytes", "layers": [{"name", "calls", "instructions",
    "cycles_estimated", "stall_cycles", "live_bytes"}]}.

    The time of mcu_detect is only in its row. The plan.json of mcunet generate, where it lies next to the sources,
    gives callback_bytes (that each ready callback for the picture takes besides the arena) and live_bytes (that the
    arena holds during the layer). Raises UserError for a damaged one."""
    facts = planned(Path(elf).parent.parent)
    live = facts.get("live_bytes", {})
    cycles = sum(layer.cycles for name, layer in layers.items() if name != DETECT)
    rows = []
    for name, layer in layers.items():
        row = {"name": name, "calls": layer.calls, "instructions": layer.instructions}
        row |= {"cycles_estimated": layer.cycles, "stall_cycles": layer.stalls}
        rows.append(row | ({"live_bytes": live[name]} if name in live else {}))
    return {
        "milliseconds_estimated": round(cycles / board.clock_hz * 1e3, 3),
        "cycles_estimated": cycles,
        "flash": flash_parts(elf),
        "sram": sram_parts(elf),
        "regions": region_bytes(elf, board),
        "callback_bytes": facts.get("callback_bytes", {}),
        "layers": rows,
    }


def report_table(report: PlainDict) -> str:
    """Return the text of a board_report."""
    wide = max(22, *(len(row["name"]) for row in report["layers"]))
    columns = f"{'calls':>5} {'instructions':>12} {'cycles, est.':>12} {'stalls':>12} {'live bytes':>10}"
    lines = [f"{'layer':>{wide}} {columns}"]
    for row in report["layers"]:
        live = f"{row['live_bytes']:,}" if "live_bytes" in row else ""
        lines.append(
            f"{row['name']:>{wide}} {row['calls']:>5} {row['instructions']:>12,} {row['cycles_estimated']:>12,} "
            f"{row['stall_cycles']:>12,} {live:>10}"
        )
    for key, part in (
        ("flash", "flash"),
        ("sram", "sram"),
        ("regions", "regions"),
        ("callback_bytes", "and one callback of"),
    ):
        parts = "  ".join(f"{name} {size:,}" for name, size in report[key].items())
        lines += [f"{part:>{wide}} {parts}"] if parts else []
    lines.append(
        f"{'total':>{wide}} {report['cycles_estimated']:,} cycles, {report['milliseconds_estimated']:.3g} ms: estimates"
    )
    return "\n".join(lines)
