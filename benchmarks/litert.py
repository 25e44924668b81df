"""Compare .tflite files with LiteRT's reference kernels: docs/results/tflite.json and the table of docs/tflite.md.

    python benchmarks/litert.py --tensorflow PYTHON [--inputs 100] [--only NAME ...]

The C runs on this machine and on the emulated Cortex-M4 and M7, layer by layer and in patches, on random inputs; every
output value is compared. PYTHON has TensorFlow and makes files of known networks with random weights (keras_files.py),
and tensorflow-model-optimization and ai-edge-quantizer, which quantise one more (quantised_files.py); the others are
published ones of $MCUNET_SHARED (default ../shared).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from readme import ROOT, into_page
from tqdm import tqdm

from nni_mcunet.core.errors import Infeasible, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.plan.plan import Plan, plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.tflite import load_tflite
from nni_mcunet.engine.run.host import build_host

sys.path.append(str(ROOT / "tests"))
from programs import run_series
from tflite_files import Reference

SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
PUBLISHED = ("tflite/kws_ref_model", "tflite/vww_96_int8", "mcunet-in3/int8")
RESULTS = ROOT / "docs/results/tflite.json"
MAKERS = ("keras", "quantised")  # NAME_files.py
TOOLS = {"tf_qat": "TensorFlow's QAT", "ai_edge_quantizer": "ai-edge-quantizer"}
CORES = ("cortex-m4", "cortex-m7")
PATCHES = [Schedule(grid, n) for grid in ((2, 2), (1, 2), (2, 1)) for n in (3, 2, 1)]


def patched(graph: Graph) -> Plan | None:
    """The plan of the first of PATCHES that the network allows."""
    for schedule in PATCHES:
        try:
            return plan(graph, schedule)
        except (Infeasible, ValueError):
            continue
    return None


def name(path: Path) -> str:
    return path.stem if path.stem != "int8" else path.parent.name


def compared(path: Path, inputs: int, source: str) -> dict:
    """The row of a file: how many values are compared under each plan and on each machine, and how many differ."""
    model, run = load_tflite(path), Reference(path.read_bytes())
    image, rng = model.graph.inputs[0], np.random.default_rng(0)
    pictures = rng.integers(0, 256, (inputs, image.h, image.w, image.c)).astype(np.uint8)
    wanted = [[value.ravel() for value in run((picture.astype(int) - 128).astype(np.int8))] for picture in pictures]
    plans = [found for found in (plan(model.graph), patched(model.graph)) if found]
    differ = dict.fromkeys(("host", *CORES), 0)
    for found in plans:
        with tempfile.TemporaryDirectory() as place:
            folder = write_sources(found, model, place)
            host = build_host(folder)
            answers = {"host": [host.run(picture) for picture in pictures]}
            answers |= {core: run_series(core, Path(folder), pictures) for core in CORES}
        for machine, given in answers.items():
            differ[machine] += sum(
                int((a != b).sum())
                for some, want in zip(given, wanted, strict=True)
                for a, b in zip(some, want, strict=True)
            )
    values = sum(value.size for some in wanted for value in some) * len(plans)
    return {"file": name(path), "source": source, "inputs": inputs, "plans": [str(p.schedule) for p in plans],
            "values": values, "differ": differ}  # fmt: skip


def table(rows: list[dict]) -> str:
    text = "| file | from | layer by layer, and in | inputs | values compared | differ on host, M4, M7 |\n"
    text += "|---|---|---|---:|---:|---|\n"
    for row in rows:
        patches = row["plans"][1] if len(row["plans"]) > 1 else "no patches, for it reads a vector"
        counts = ", ".join(str(count) for count in row["differ"].values())
        text += f"| {row['file']} | {row['source']} | {patches} | {row['inputs']} | {row['values']:,} | {counts} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensorflow", required=True, metavar="PYTHON", help="a Python that has TensorFlow")
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="measure these files anew")
    args = parser.parse_args()
    made = ROOT / "out/tflite"
    for maker in MAKERS:
        (made / maker).mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name(f"{maker}_files.py")
        subprocess.run([args.tensorflow, str(script), str(made / maker)], check=True)
    files = [(SHARED / "models" / f"{name}.tflite", "published") for name in PUBLISHED]
    files += [
        (path, TOOLS.get(path.stem, "Keras, random weights"))
        for maker in MAKERS
        for path in sorted((made / maker).glob("*.tflite"))
    ]
    known = {row["file"]: row for row in json.loads(RESULTS.read_text())} if args.only else {}
    rows = [
        known.get(name(path)) if args.only and name(path) not in args.only else compared(path, args.inputs, source)
        for path, source in tqdm(files, unit="file", disable=None)
    ]
    rows = [row for row in rows if row]
    write_json(RESULTS, rows)
    into_page("tflite.md", "compute, in every value:\n", f"\n{table(rows)}", "\n`python benchmarks/litert.py")
    sys.exit(any(any(row["differ"].values()) for row in rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
