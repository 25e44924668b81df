"""Compile somebody's .onnx or .tflite for a board and run it there, emulated.

python examples/foreign_model.py MODEL PHOTOS [BOARD] [FOLDER]

PHOTOS is a folder: a float model is calibrated on its pictures, and the first of them is what the board sees. A model
that is int8 already keeps its integers.
"""

import sys
from pathlib import Path

import nni_mcunet as mcu


def main(model, photos, board="stm32f412", folder="out/foreign"):
    network = mcu.load(model)
    int8 = network if network.kind == "int8" else mcu.quantize(network, pictures=photos)
    fw = mcu.compile(int8, board, folder)
    print(fw)
    photo = next(path for path in sorted(Path(photos).iterdir()) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    result = fw.run(photo, on="emulator")  # checked against this machine's C, byte for byte
    print(f"{photo.name}: {result.facts['instructions']:,} instructions on the {board}")
    for name, values in result.named.items():
        print(f"{name} {values.shape}: {values.min():.3f} to {values.max():.3f}")
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
