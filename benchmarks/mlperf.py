"""Measure MLPerf Tiny's networks beside published results: docs/results/mlperf.json and the table of docs/results.md.

    python benchmarks/mlperf.py

Each runs layer by layer under an emulated Cortex-M4 and M7 with the clock and memories of the boards that the published
results name, STM32L4R5 and STM32H7A3. Instructions are counted, cycles estimated from them, and every output byte is
held against the numpy reference, as in engine.py. The published cycles are a board's clock divided by its measured
inferences a second: a measurement and our estimate share no column. The networks are MLPERF of networks.py.
"""

from pathlib import Path
from typing import NamedTuple

from engine import measured
from networks import FILES, MLPERF, network
from readme import into_page

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan.plan import plan

RESULTS = Path(__file__).parents[1] / "docs/results/mlperf.json"
PAGE, BEGIN, END = "results.md", "<!-- mlperf, by benchmarks/mlperf.py -->\n", "<!-- end of mlperf -->\n"
BOARDS = {"m4": "stm32l4r5", "m7": "stm32h7a3"}


class Published(NamedTuple):
    """Another engine's results on a board: inferences a second or cycles of each network, in MLPERF's order."""

    engine: str
    core: str
    board: str
    mhz: int
    source: str
    per_second: tuple[float, ...] = ()
    cycles: tuple[int, ...] = ()

    def cycles_of(self, index: int) -> int:
        return self.cycles[index] if self.cycles else round(self.mhz * 1e6 / self.per_second[index])


ROUND = "https://github.com/mlcommons/tiny_results_{0}/tree/main/closed/{1}/results"
PUBLISHED = (
    Published("ST", "m4", "NUCLEO-L4R5ZI-P, X-CUBE-AI 10.2", 120, ROUND.format("v1.3", "STMicroelectronics"),
              per_second=(6.036, 11.181, 23.032, 208.608)),
    Published("Plumerai", "m4", "NUCLEO-L4R5ZI, Plumerai 2023.05", 120, ROUND.format("v1.1", "plumerai"),
              per_second=(5.961, 10.126, 20.929, 246.814)),
    Published("CMSIS-NN", "m4", "NUCLEO-L4R5ZI, microTVM with CMSIS-NN 51263182", 120, ROUND.format("v1.1", "Krai"),
              per_second=(2.567, 3.324, 10.019, 116.212)),
    Published("ST", "m7", "NUCLEO-H7A3ZI-Q, ST Edge AI Core 4.0, round v1.4, cycles noted by hand", 280,
              "https://mlcommons.org/benchmarks/inference-tiny/", cycles=(11_670_000, 6_840_000, 3_210_000, 328_000)),
    Published("Plumerai", "m7", "NUCLEO-H7A3ZI-Q, Plumerai", 280, ROUND.format("v1.1", "plumerai"),
              per_second=(19.636, 37.290, 72.141, 742.001)),
)  # fmt: skip


def row_of(name: str) -> dict:
    model, index = network(name), MLPERF.index(name)
    found = plan(model.graph)
    row = {"network": name, "weights": "published" if name in FILES else "random", "schedule": str(found.schedule)}
    row |= {core: measured(found, model, get_board(board)) | {"board": board} for core, board in BOARDS.items()}
    published = [
        {"engine": p.engine, "core": p.core, "board": p.board, "mhz": p.mhz, "cycles": p.cycles_of(index),
         "source": p.source}
        for p in PUBLISHED
    ]  # fmt: skip
    return row | {"published": published, "command": "python benchmarks/mlperf.py"}


def table(rows: list[dict]) -> str:
    names = ["network", "weights", "MACs, M"]
    for core in BOARDS:
        board = core.upper()
        names += [f"{board} instructions, M", f"{board} cycles, M: ours, est."]
        names += [f"{board}: {p.engine}, measured" for p in PUBLISHED if p.core == core]
    names += ["SRAM, kB", "flash, kB", "exact"]
    text = f"| {' | '.join(names)} |\n|---|---|{'---:|' * (len(names) - 3)}---|\n"
    for row in rows:
        figures = [row["network"], row["weights"], f"{row['m4']['macs'] / 1e6:.2f}"]
        for core in BOARDS:
            figures += [f"{row[core][field] / 1e6:.2f}" for field in ("instructions", "cycles_estimated")]
            figures += [f"{p['cycles'] / 1e6:.2f}" for p in row["published"] if p["core"] == core]
        figures += [f"{row['m4'][field] / 1024:.1f}" for field in ("sram_bytes", "flash_bytes")]
        figures += ["yes" if row["m4"]["exact"] and row["m7"]["exact"] else "NO"]
        text += f"| {' | '.join(figures)} |\n"
    text += "\nThe measured columns, in millions of cycles:\n\n"
    for p in PUBLISHED:
        text += f"- {p.engine} on the {p.core.upper()}: {p.board}, {p.mhz} MHz ([results]({p.source})).\n"
    return text


def main() -> None:
    rows = []
    for name in MLPERF:
        rows.append(row_of(name))
        print(rows[-1], flush=True)
    write_json(RESULTS, rows)
    into_page(PAGE, BEGIN, table(rows), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
