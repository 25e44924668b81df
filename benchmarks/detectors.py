"""Detectors trained here, from their configs to boards: docs/results/detection.json, detection.md, curves and
pictures, and the table in docs/detectors.md.

    python benchmarks/detectors.py [--only yolov3_bccd_f412]     (ten to fifteen minutes of one core each)

Each is trained by mcunet train, deployed and measured by mcunet deploy; what out/detection has already is not done
again. The data sets are in $MCUNET_SHARED (default ../shared).
"""

import argparse
import json
from pathlib import Path

from readme import into_page, python

from detection import input_pictures, load_config
from detection.training.learning_curve import draw_curve
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.engine.int8_detector import compiled, load_int8_detector
from nni_mcunet.profiling.pictures import sheet_figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
ANIMALS = "six animals of Pascal VOC 2012, 1,697 / 1,729 photographs"
RUNS = {  # config -> (boards, the first of which its row shows; the data and how many; do their terms let us show them)
    "yolov3_bccd_f412": (["stm32f412", "stm32f746", "stm32h743"], "BCCD, 292 / 72 photographs", True),
    "yolov3_bccd_f412_ema": (["stm32f412", "stm32f746", "stm32h743"], "BCCD, 292 / 72 photographs", True),
    "yolox_bccd_f412": (["stm32f412", "stm32f746", "stm32h743"], "BCCD, 292 / 72 photographs", True),
    "yolov3_animals_f412": (["stm32f412", "stm32f746", "stm32h743"], ANIMALS, False),
    "yolox_animals_f412": (["stm32f412", "stm32f746", "stm32h743"], ANIMALS, False),
    "yolov3_animals_h743": (["stm32h743"], ANIMALS, False),
    "s3fd_faces_f412": (["stm32f412"], "WIDER FACE, 480 / 150 photographs of it", False),
    "s3fd_faces_h743": (["stm32h743"], "WIDER FACE, 480 / 150 photographs of it", False),
    "s3fd_widerface_mini_h743": (["stm32h743"], "WIDER FACE, 60 / 40 photographs of it", False),
    "yolov3_voc_mini": (["stm32f412"], "Pascal VOC 2012, 98 / 46 photographs of it", False),
}
BEGINS = {"yolov3_animals_h743": "yolov3_animals_h743_mosaic"}  # whose weights it goes on from
WEIGHTS_OF = {"s3fd_faces_f412": "s3fd_faces_h743"}  # whose weights it takes as they are
PAGE, BEGIN, END = "detectors.md", "<!-- trained, by benchmarks/detectors.py -->\n", "<!-- end of trained -->\n"
HEAD = """# Detectors trained here

The column "data" counts the pictures for training / for the test. SRAM and flash are read from the board's ELF;
MACs are those of the schedule with which the network fits; ms are estimated. 0.5 px and 2 px: the share of the
float network's boxes of score 0.3 and more that the compiled int8 finds so near on all four sides, in pixels of the
network's input; before NMS: the share within 0.5 px, even if NMS keeps another box. The pictures show eight of each
test set, evenly spread, with the boxes of score 0.3 and more. The terms of WIDER FACE and VOC keep theirs out of
this folder: the line below a curve says where the benchmark draws them.

"""
SHOWN = {
    "map50": "mAP50",
    "map50_95": "mAP50:95",
    "widerface/easy": "easy",
    "widerface/medium": "medium",
    "widerface/hard": "hard",
}


def trained(name: str) -> Path:
    """Return a config's checkpoint. Train it, and before it the one that it goes on from, unless they are there."""
    last = ROOT / "out/detection" / name / "det/last.pth"
    if not last.exists():
        options = ["--cfg-options", f"load_from={trained(BEGINS[name])}"] if name in BEGINS else []
        python("tools/train.py", f"configs/det/{name}.py", "--work-dir", last.parent, "--resume", *options)
    return last


def run(name: str) -> dict:
    """Train and deploy, what of it is not there, and gather what was measured."""
    (boards, data, free), out, config = RUNS[name], ROOT / "out/detection" / name, f"configs/det/{name}.py"
    source = WEIGHTS_OF.get(name, name)
    last = trained(source)
    python("tools/deploy.py", config, last, "--boards", *boards, "-o", out)
    report, cfg = json.loads((out / "report.json").read_text()), load_config(str(ROOT / config))
    draw_curve(last.parent, RESULTS / f"{name}_curve.png", source)
    draw_sheet(cfg, out / "model.int8.onnx", (RESULTS if free else out) / f"{name}.png")
    board, boxes = report["boards"][boards[0]], report["box_agreement"]["score"]["0.3"]
    kept = ("macs", "patch_overhead", "arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "instructions")
    return {
        "config": config, "data": data, "epochs": cfg.train_cfg.max_epochs, "board": boards[0],
        **{kind: {short: round(report["metrics"][kind][key], 4) for key, short in SHOWN.items()
                  if key in report["metrics"][kind]} for kind in ("float", "int8")},
        "params": report["params"], **{key: board[key] for key in kept},
        "boards": {name: {key: row[key] for key in (*kept, "milliseconds_estimated")}
                   for name, row in report["boards"].items()},
        "boxes_within": {key: round(share, 4) for key, share in boxes["within"].items()},
        "boxes_before_nms": {key: round(share, 4) for key, share in boxes["before_nms"].items()},
        "box_errors": {key: round(mean, 4) for key, mean in boxes["mean"].items()},
        "command": f"python benchmarks/detectors.py --only {name}",
    }  # fmt: skip


def draw_sheet(cfg, model: Path, path: Path, pictures: int = 8, score: float = 0.3) -> None:
    """Test pictures, evenly spread over the set and not chosen, with the boxes that the compiled int8 finds on them."""
    int8 = load_int8_detector(model)
    names, detect, shown, found = int8.meta["detector"]["classes"], compiled(int8), [], []
    for rgb in input_pictures(cfg, pictures, "test_dataloader"):
        rows = zip(*detect(rgb), strict=True)
        shown.append(rgb)
        found.append([(*box, s, names[label]) for box, s, label in rows if s >= score])
    sheet_figure(shown, found, names, path, columns=4)


def table(rows: list[dict]) -> str:
    lines = [
        "| config | data | float | int8 | MACs, M | parameters | board | SRAM, kB | flash, kB | ms | 0.5 px "
        "| before NMS | 2 px |",
        "|---|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        shown = [", ".join(f"{k} {v:.3f}" for k, v in row[kind].items()) for kind in ("float", "int8")]
        lines.append(
            f"| {Path(row['config']).stem} | {row['data']} | {' | '.join(shown)} | {row['macs'] / 1e6:.1f} | "
            f"{row['params']:,} | {row['board']} | {row['sram_bytes'] / 1024:.1f} | {row['flash_bytes'] / 1024:.1f} | "
            f"{_time(row)} | {_share(row, '0.5')} | {_share(row, '0.5', 'boxes_before_nms')} | {_share(row, '2')} |"
        )
    return "\n".join(lines) + "\n"


def _time(row: dict) -> str:
    """The estimated milliseconds on the row's board, a dash where they were not measured."""
    found = row.get("boards", {}).get(row["board"], {}).get("milliseconds_estimated")
    return "-" if found is None else f"{found:.0f}"


def _share(row: dict, pixels: str, of: str = "boxes_within") -> str:
    found = row.get(of, {}).get(pixels)
    return "-" if found is None else f"{found:.1%}"


def markdown(rows: list[dict]) -> str:
    text = HEAD + table(rows)
    for row in rows:
        name = Path(row["config"]).stem
        found = (
            f"![boxes of the int8 network]({name}.png)"
            if RUNS[name][2]
            else f"The int8 network's boxes: out/detection/{name}/{name}.png"
        )
        text += f"\n![learning curve]({name}_curve.png)\n\n{found}\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    path = RESULTS / "detection.json"
    rows = {row["config"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    for name in args.only:
        row = run(name)
        rows[row["config"]] = row
    ordered = [rows[f"configs/det/{name}.py"] for name in RUNS if f"configs/det/{name}.py" in rows]
    write_json(path, ordered)
    write_atomic(RESULTS / "detection.md", markdown(ordered))
    into_page(PAGE, BEGIN, table(ordered), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
