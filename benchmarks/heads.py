"""Does a head without anchors find as much as one with? YOLOX against YOLOv3 at equal MACs, on one backbone, recipe and
data set:

    python benchmarks/heads.py                   (BCCD, three seeds: six trainings of a quarter of an hour of one core)
    python benchmarks/heads.py --data animals    (six animals of VOC 2012, one seed)

Each is trained by mcunet train and measured by mcunet deploy in out/heads/CONFIG_SEED. A finished run is not run again,
a stopped one goes on. Writes docs/results/heads.json and the table in docs/detectors.md. The data sets are in
$MCUNET_SHARED (default ../shared).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from readme import into_page, python

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json

ROOT = Path(__file__).parents[1]
STUDIES = {  # data -> what it is called, configs, seeds
    "bccd": ("BCCD", ("yolov3_bccd_f412", "yolox_bccd_f412"), (0, 1, 2)),
    "animals": ("VOC 2012, six animals", ("yolov3_animals_f412", "yolox_animals_f412"), (0,)),
}
BOARD = "stm32f412"
METRICS = ("map50", "map50_95")
SHARES = (("within", "0.5"), ("before_nms", "0.5"), ("within", "2"))  # as mcunet compare-boxes calls them
PAGE, BEGIN, END = "detectors.md", "<!-- heads, by benchmarks/heads.py -->\n", "<!-- end of heads -->\n"


def run(data: str, config: str, seed: int, out: Path, epochs: int | None) -> dict:
    """Train and deploy, what of it is not there, and gather what was measured."""
    folder, path = out / f"{config}_{seed}", f"configs/det/{config}.py"
    options = [f"randomness.seed={seed}"]
    if epochs is not None:
        options += [f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}"]
    if not (folder / "det/last.pth").exists():
        python("tools/train.py", path, "--work-dir", folder / "det", "--resume", "--cfg-options", *options)
    python("tools/deploy.py", path, folder / "det/last.pth", "--boards", BOARD, "-o", folder)
    report = json.loads((folder / "report.json").read_text())
    board, boxes = report["boards"][BOARD], report["box_agreement"]["score"]["0.3"]
    kept = ("macs", "sram_bytes", "flash_bytes", "instructions")
    return {
        "data": data, "config": config, "seed": seed,
        **{kind: {key: round(report["metrics"][kind][key], 4) for key in METRICS} for kind in ("float", "int8")},
        "params": report["params"], **{key: board[key] for key in kept},
        "boxes": {kind: {key: share and round(share, 4) for key, share in boxes[kind].items()} for kind, _ in SHARES},
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [
        "| data | config | seeds | mAP50 float | mAP50 int8 | mAP50:95 float | mAP50:95 int8 | boxes within 0.5 px "
        "| before NMS | within 2 px | MACs, M | parameters | SRAM, kB | flash, kB | instructions, M |",
        "|---|---|---:|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, configs, _ in STUDIES.values():
        for config in configs:
            if found := [row for row in rows if row["config"] == config]:
                lines.append(f"| {name} | {config} | {len(found)} | " + " | ".join(_cells(found)) + " |")
    return "\n".join(lines) + "\n"


def _cells(rows: list[dict]) -> Iterator[str]:
    """Say the mean of the seeds, and where there are several the lowest and the highest."""
    for metric in METRICS:
        for kind in ("float", "int8"):
            found = [row[kind][metric] for row in rows]
            spread = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
            yield f"{np.mean(found):.3f}{spread}"
    for kind, pixels in SHARES:
        shares = [share for row in rows if (share := row["boxes"][kind][pixels]) is not None]  # None: no such box
        yield f"{np.mean(shares):.1%}" if shares else "-"
    yield f"{rows[0]['macs'] / 1e6:.1f}"
    yield f"{rows[0]['params']:,}"
    for key, unit in (("sram_bytes", 1024), ("flash_bytes", 1024), ("instructions", 1e6)):
        yield f"{np.mean([row[key] for row in rows]) / unit:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=STUDIES, default="bccd")
    parser.add_argument("--out", type=Path, default=ROOT / "out/heads", help="holds the folders of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", help="default those of the data's study")
    parser.add_argument("--epochs", type=int, help="a trial of so many; prints its table and writes no results")
    args = parser.parse_args()
    _, configs, seeds = STUDIES[args.data]
    path = ROOT / "docs/results/heads.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [row for row in rows if row["data"] != args.data]
    for seed in seeds if args.seeds is None else args.seeds:
        for config in configs:
            rows.append(run(args.data, config, seed, args.out, args.epochs))
            if args.epochs is None:  # each is worth keeping
                write_json(path, rows)
                into_page(PAGE, BEGIN, table(rows), END)
    print(table(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
