"""Compare the estimate of core/plan/latency.py with the emulated boards, per class and in total:
docs/results/latency.json.

    python benchmarks/latency.py [--only mcunet-vww1]

Networks of the zoo that had no part in the fit (benchmarks/calibrate_cycles.py), layer by layer and with the least SRAM
at no more than 5 % more computation. Instructions are counted under QEMU; cycles are the estimate of
engine/timing/layer_cycles.py from the same run, so their error is only that of the table, not that against a board.
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from calibrate_cycles import profiled, samples
from engine import LARGE, plans, schedule_text
from networks import NAMES, network

from nni_mcunet.core.boards import CORE_BOARDS, get_board
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan import latency

RESULTS = Path(__file__).parents[1] / "docs/results/latency.json"
DEFAULT = ("mcunet-vww1", "mcunet-in0", "mcunet-in1", "mbv2-w0.35-r144", "proxyless-w0.3-r176")


def compared(name: str) -> list[dict]:
    """One row for each core, schedule and class of layer, and for all layers."""
    model, rows = network(name), []
    for found in plans(model).values():
        for core, board_name in CORE_BOARDS.items():
            board = replace(get_board(board_name), sram=LARGE, flash=4 * LARGE)
            layers = profiled(found, model, board)
            for what, table in (("instructions", latency.INSTRUCTIONS), ("cycles", latency.cycle_table(board))):
                sums = _sums(found, {n: getattr(layer, what) for n, layer in layers.items()}, table)
                head = {"network": name, "core": core, "patches": schedule_text(found), "what": what}
                rows += [head | {"class": row, "run": run, "table": round(guess), "error": round(guess / run - 1, 4)}
                         for row, (guess, run) in sums.items()]  # fmt: skip
                print(f"{name:>20} {core} {head['patches']:>60.60} {what:>12}: {rows[-1]['error']:+.1%}", flush=True)
    return rows


def _sums(found, counts: dict[str, int], table: latency.Table) -> dict[str, tuple[float, int]]:
    """Class -> (by the table, counted); "total" is last and holds what belongs to no class, too."""
    guess, run = defaultdict(float), defaultdict(int)
    for row, features, count in samples(found, counts):
        guess[row] += sum(rate * features[name] for name, rate in table[row].items())
        run[row] += count
    return {row: (guess[row], run[row]) for row in guess} | {"total": (sum(guess.values()), sum(counts.values()))}


def summary(rows: list[dict]) -> str:
    """Error of each class over all networks."""
    lines = [f"{'class':>12} {'M4 insns':>9} {'M4 cycles':>9} {'M7 insns':>9} {'M7 cycles':>9}"]
    for kind in dict.fromkeys(row["class"] for row in rows if row["class"] != "total"):
        lines.append(_line(rows, kind))
    return "\n".join([*lines, _line(rows, "total")])


def _line(rows: list[dict], kind: str) -> str:
    cells = []
    for core in CORE_BOARDS:
        for what in ("instructions", "cycles"):
            own = [r for r in rows if (r["class"], r["core"], r["what"]) == (kind, core, what)]
            cells.append(f"{sum(r['table'] for r in own) / sum(r['run'] for r in own) - 1:>+9.1%}")
    return f"{kind:>12} {' '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=DEFAULT)
    parser.add_argument("--json", default=RESULTS, help="file to write (default docs/results/latency.json)")
    args = parser.parse_args()
    rows = [row for name in args.only for row in compared(name)]
    write_json(args.json, rows)
    print(summary(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
