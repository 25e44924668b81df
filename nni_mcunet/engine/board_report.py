"""Where the time and the memory of a firmware go: per layer and by part, as data for JSON and as a table."""

import json
from pathlib import Path

from ..core.boards import Board
from .cycles import Layer
from .elf import flash_parts, sram_parts


def board_report(elf: str | Path, board: Board, layers: dict[str, Layer]) -> dict:
    """{"milliseconds_estimated", "cycles_estimated", "flash": bytes by part, "sram": bytes by part, "layers": [{"name",
    "calls", "instructions", "cycles_estimated", "stall_cycles", "live_bytes"}]}; mcu_detect's time is in its row
    alone. live_bytes: what the arena holds during the layer, where tools/generate.py has left it beside the sources."""
    live = _live_bytes(Path(elf).parent.parent)
    cycles = sum(layer.cycles for name, layer in layers.items() if name != "mcu_detect")
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
        "layers": rows,
    }


def _live_bytes(folder: Path) -> dict[str, int]:
    path = folder / "plan.json"
    return json.loads(path.read_text()).get("live_bytes", {}) if path.is_file() else {}


def report_table(report: dict) -> str:
    """Of what board_report gives."""
    lines = [f"{'layer':>22} {'calls':>5} {'instructions':>12} {'cycles, est.':>12} {'stalls':>12} {'live bytes':>10}"]
    for row in report["layers"]:
        live = f"{row['live_bytes']:,}" if "live_bytes" in row else ""
        lines.append(
            f"{row['name']:>22} {row['calls']:>5} {row['instructions']:>12,} {row['cycles_estimated']:>12,} "
            f"{row['stall_cycles']:>12,} {live:>10}"
        )
    for memory in ("flash", "sram"):
        parts = "  ".join(f"{name} {size:,}" for name, size in report[memory].items())
        lines.append(f"{memory:>22} {parts}")
    lines.append(
        f"{'in all':>22} {report['cycles_estimated']:,} cycles, {report['milliseconds_estimated']:.3g} ms: estimates"
    )
    return "\n".join(lines)
