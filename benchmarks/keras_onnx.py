"""Compare ONNX files that tf2onnx makes with onnxruntime: docs/results/keras_onnx.json and the table of docs/onnx.md.

    python benchmarks/keras_onnx.py --tensorflow PYTHON [--inputs 10]

PYTHON has TensorFlow and tf2onnx, and makes files of known networks with random weights (keras_files.py --onnx): in
float, and of .tflite files with a fixed and with an open batch. A float file and what is read of it are run by
onnxruntime. An int8 file is run by onnxruntime, and what is read of it in the engine's integers: op by op from the
same inputs, and at the outputs.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from models import against_onnxruntime
from readme import ROOT, into_page
from tqdm import tqdm

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel

KINDS = ("float", "fixed", "open")


def run(proto: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]  # channels last, as the engine counts
    return session.run(None, {given.name: image.reshape(shape)})


def row(path: Path, inputs: int) -> dict:
    """How far a file's outputs are from onnxruntime's, or why it is refused."""
    try:
        model = load_onnx(path)
    except UserError as error:
        return {"why": str(error).removeprefix(f"{path}: ")}
    proto, image, rng = onnx.load(path), model.graph.inputs[0], np.random.default_rng(0)
    shape, found = (image.h, image.w, image.c), []
    for _ in range(inputs):
        if isinstance(model, QuantModel):
            q = rng.integers(-128, 128, shape).astype(np.int8)
            ours = reference.run(plan(model.graph), model, q)
            for name, want in zip(model.graph.outputs, run(proto, q), strict=True):
                found.append(int(np.abs(ours[name].ravel().astype(int) - want.ravel()).max()))
        else:
            x = rng.random(shape, np.float32)
            session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
            given = session.run(None, {image.name: x.transpose(2, 0, 1)[None]})
            for ours, want in zip(given, run(proto, x), strict=True):
                found.append(
                    float(np.abs(ours.transpose(0, 2, 3, 1).ravel() - want.ravel()).max() / np.abs(want).max())
                )
    if not isinstance(model, QuantModel):
        return {"differs": max(found)}
    picture = rng.integers(0, 256, shape).astype(np.uint8)
    return {"steps": max(found), "op_steps": against_onnxruntime(plan(model.graph), model, picture)}


def cell(found: dict) -> str:
    if "why" in found:
        return found["why"].replace("|", "/")
    return f"{found['differs']:.0e}" if "differs" in found else f"{found['op_steps']}, {found['steps']}"


def table(rows: list[dict]) -> str:
    text = (
        "| network | float, relative | int8, fixed batch: steps an op, at the outputs | int8, open batch: the same |\n"
    )
    text += "|---|---:|---:|---:|\n"
    for found in rows:
        text += f"| {found['file']} | {' | '.join(cell(found[kind]) for kind in KINDS)} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensorflow", required=True, metavar="PYTHON", help="a Python with TensorFlow and tf2onnx")
    parser.add_argument("--inputs", type=int, default=10)
    args = parser.parse_args()
    made = ROOT / "out/keras_onnx"
    made.mkdir(parents=True, exist_ok=True)
    maker = Path(__file__).with_name("keras_files.py")
    subprocess.run([args.tensorflow, str(maker), str(made), "--onnx"], check=True)
    names = sorted({path.stem.rsplit("_", 1)[0] for path in made.glob("*.onnx")})
    rows = [
        {"file": name} | {kind: row(made / f"{name}_{kind}.onnx", args.inputs) for kind in KINDS}
        for name in tqdm(names, unit="network", disable=None)
    ]
    write_json(ROOT / "docs/results/keras_onnx.json", rows)
    into_page("onnx.md", "a share of the largest value:\n", f"\n{table(rows)}", "\n`python benchmarks/keras_onnx.py")
    sys.exit(any("why" in found[kind] for found in rows for kind in KINDS))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
