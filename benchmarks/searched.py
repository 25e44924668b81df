"""Does a search find a better detector than mcunet-in3? The three best candidates for each board, trained as it was:

    python benchmarks/searched.py [--board f412]     (an hour for the super-network, two to five for each board)

The space is configs/nni/spaces/animals.yml: slices of mcunet-in3 at six sizes of pictures, with no more MACs than it
has at its size on that board. The candidates are the best means of `mcunet search rescore`, judged on held-out
photographs of the training set. Each is trained from its slice on the whole training set by the config of the board's
animals and tested once on the validation set. It skips whatever out/searched has already. Writes
docs/results/searched.json and the table in docs/detectors.md. The photographs are in $MCUNET_SHARED (default
../shared).
"""

import argparse
import json
import os
from pathlib import Path

from readme import into_page, python

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.nni.experiment_file import load_config as load_experiment
from nni_mcunet.search.run.export import Exporter
from nni_mcunet.search.run.history import read_history
from nni_mcunet.search.run.rescored import read_rescored

ROOT = Path(__file__).parents[1]
OUT, SUPERNET = ROOT / "out/searched", ROOT / "out/supernet/animals.pth"
PARTS = {  # board -> the configs that its detector of animals is trained by, one going on from the other
    "f412": ("yolov3_animals_f412",),
    "h743": ("yolov3_animals_h743_mosaic", "yolov3_animals_h743"),
}
CANDIDATES = 3
PAGE, BEGIN, END = "detectors.md", "<!-- searched, by benchmarks/searched.py -->\n", "<!-- end of searched -->\n"


def candidates(board: str) -> list[tuple[Path, dict]]:
    """Search, unless it was done, and write the best networks. Returns for each the path of its .json, with a .pth
    beside it, and its row of rescored.json."""
    in3 = ROOT / "configs/arch/mcunet_in3.json"
    if not SUPERNET.exists():
        weights = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared")) / "models/mcunet-in3/weights.pth"
        python(
            "-m",
            "nni_mcunet",
            "train-supernet",
            "--config",
            "configs/det/supernet_animals.yml",
            "--start",
            in3,
            weights,
        )
    experiment = f"configs/nni/animals_{board}.yml"
    config = SearchConfig.from_dict(load_experiment(ROOT / experiment)["tuner"]["classArgs"], ROOT)
    out = ROOT / config.out
    if not (out / "done.json").exists():
        python("-m", "nni_mcunet", "search", "run", "--config", experiment)
    if read_rescored(out) is None:
        python("-m", "nni_mcunet", "search", "rescore", "--out", out)
    exporter, lines = Exporter(config, out), {line["index"]: line for line in read_history(out)}
    best = []
    for place, row in enumerate(read_rescored(out).rows[:CANDIDATES]):
        path = OUT / f"{board}_{place}" / "arch.json"
        if not path.with_suffix(".pth").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            exporter.write(lines[row["index"]], path.with_suffix(""))
        best.append((path, row))
    return best


def run(board: str, arch: Path, found: dict) -> dict:
    """Train and deploy a candidate, what of it is not there, and gather what was measured."""
    folder, last = arch.parent, None
    for part in PARTS[board]:
        config = folder / f"{part}.py"
        text = f'_base_ = "{ROOT}/configs/det/{part}.py"\nmodel = dict(backbone=dict(arch="{arch}", '
        text += f'init_cfg=dict(checkpoint="{arch.with_suffix(".pth")}")))\n'
        write_atomic(config, text + (f'load_from = "{last}"\n' if last else ""))
        last = folder / part / "last.pth"
        if not last.exists():
            python("tools/train.py", config, "--work-dir", last.parent, "--resume")
    python("tools/deploy.py", config, last, "--boards", f"stm32{board}", "-o", folder)
    report, spec = json.loads((folder / "report.json").read_text()), ArchSpec.load(arch)
    row = report["boards"][f"stm32{board}"]
    return {
        "board": board, "place": int(folder.name[-1]), "arch": spec.to_dict(), "found": found["mean"],
        **{kind: {key: round(report["metrics"][kind][key], 4) for key in ("map50", "map50_95")}
           for kind in ("float", "int8")},
        "params": report["params"],
        **{key: row[key] for key in ("macs", "sram_bytes", "flash_bytes", "milliseconds_estimated")},
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    """Return the candidates of each board below mcunet-in3, whose figures are those of detection.json."""
    lines = [
        "| board | backbone | input | blocks | mAP50 of the slice | mAP50 float | mAP50 int8 | mAP50:95 float "
        "| MACs, M | parameters | SRAM, kB | ms |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    trained = {row["config"]: row for row in json.loads((ROOT / "docs/results/detection.json").read_text())}
    for board in sorted({row["board"] for row in rows}):
        own = trained[f"configs/det/{PARTS[board][-1]}.py"]
        own = own | {"milliseconds_estimated": own["boards"][own["board"]]["milliseconds_estimated"]}
        size = {"f412": "256x192", "h743": "320x256"}[board]
        lines.append(_line(board, "mcunet-in3", size, "18", "-", own))
        for row in (row for row in rows if row["board"] == board):
            h, w = row["arch"]["resolution"]
            blocks = str(sum(map(len, row["arch"]["stages"])))
            lines.append(_line(board, f"candidate {row['place'] + 1}", f"{w}x{h}", blocks, f"{row['found']:.3f}", row))
    return "\n".join(lines) + "\n"


def _line(board: str, name: str, size: str, blocks: str, found: str, row: dict) -> str:
    scores = (row["float"]["map50"], row["int8"]["map50"], row["float"]["map50_95"])
    return (
        f"| stm32{board} | {name} | {size} | {blocks} | {found} | {' | '.join(f'{score:.3f}' for score in scores)} | "
        f"{row['macs'] / 1e6:.1f} | {row['params']:,} | {row['sram_bytes'] / 1024:.1f} | "
        f"{row['milliseconds_estimated']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", choices=PARTS, help="only this one; default both")
    args = parser.parse_args()
    path = ROOT / "docs/results/searched.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for board in [args.board] if args.board else PARTS:
        best = candidates(board)
        rows = [row for row in rows if row["board"] != board]
        for arch, found in best:
            rows = sorted([*rows, run(board, arch, found)], key=lambda row: (row["board"], row["place"]))
            write_json(path, rows)  # each is worth keeping
            into_page(PAGE, BEGIN, table(rows), END)
    print(table(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
