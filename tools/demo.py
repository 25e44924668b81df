"""The whole way, once: NNI searches a network for a board, mmdet trains it, the exporter turns it into int8 C with
patch loops, and the firmware finds objects in a picture on an emulated Cortex-M7 and Cortex-M4.

Each step is a command that works alone; it is printed before it runs. A step whose product exists is not run again, so
that a demo that was stopped goes on: `rm -rf out` starts over.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from nni_mcunet.core.errors import UserError, exit_on_user_error

ARENA_KB = 96  # what the application leaves to the network: max_sram_kb of configs/nni/demo_h743.yml
BOARDS = ("stm32h743", "stm32f412")


def data_paths(name: str) -> dict:
    """config, VOC folder, lists of training and validation pictures, and the command that makes them."""
    if name == "digits":
        root = Path("out/digits/VOC2007")
        lists, make = root / "ImageSets/Main", ["tools/make_digits.py", "--out", "out/digits"]
        return dict(config="configs/det/yolov3_digits.py", root=root, train=lists / "train.txt",
                    val=lists / "val.txt", make=make)  # fmt: skip
    shared = os.environ.get("MCUNET_SHARED", "../shared")
    root = Path(shared) / "data/bccd/BCCD"
    lists = root / "ImageSets/Main"
    if not lists.is_dir():
        raise UserError(f"{lists} is missing: set MCUNET_SHARED to the folder that holds data/bccd")
    return dict(config="configs/det/yolov3_bccd.py", root=root, train=lists / "trainval.txt", val=lists / "test.txt",
                make=None)  # fmt: skip


def busy_picture(root: Path, names: Path, objects: int = 3) -> Path:
    """The first validation picture with at least so many objects."""
    for name in names.read_text().split():
        if (root / f"Annotations/{name}.xml").read_text().count("<object>") >= objects:
            return root / f"JPEGImages/{name}.jpg"
    raise UserError(f"no picture of {names} has {objects} objects")


class Demo:
    def __init__(self, out: Path):
        self.out, self.start = out, time.monotonic()

    def step(self, title: str, product: Path, *command) -> None:
        minutes = (time.monotonic() - self.start) / 60
        print(f"\n[{minutes:4.1f} min] {title}", flush=True)
        if product.exists():
            print(f"  {product} is there: not run again")
            return
        words = [str(c) for c in command]
        print("  python " + " ".join(words), flush=True)
        code = subprocess.run([sys.executable, *words]).returncode
        if code or not product.exists():
            sys.exit(code or f"error: the step ended without writing {product}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "bccd"), default="digits")
    parser.add_argument("--out", type=Path, help="default out/demo, or out/demo_bccd")
    args = parser.parse_args()
    out = args.out or Path("out/demo" if args.data == "digits" else "out/demo_bccd")
    data, demo, search = data_paths(args.data), Demo(out), Path("out/search/demo_h743")
    options = ["--cfg-options", f"model.backbone.arch={search / 'best.json'}"]
    checkpoint = out / "det/last.pth"
    floats, int8 = out / "model.onnx", out / "model.int8.onnx"
    if data["make"]:
        demo.step("scenes of handwritten digits", data["val"], *data["make"])
    demo.step("super-network", Path("out/supernet/demo.pth"), "tools/train_supernet.py")
    demo.step("NNI searches a detector for the STM32H743", search / "best.pth", "tools/search.py", "run",
              "--config", "configs/nni/demo_h743.yml")  # fmt: skip
    demo.step("mmdet trains it", checkpoint, "tools/train.py", data["config"], "--work-dir", out / "det", *options)
    demo.step("float mAP50", out / "map_float.json", "tools/test.py", data["config"], checkpoint,
              "--work-dir", out / "det", "--out-json", out / "map_float.json", *options)  # fmt: skip
    demo.step("ONNX", floats, "tools/export.py", data["config"], checkpoint, "-o", floats, *options)
    demo.step("int8", int8, "tools/quantize.py", floats, "--calib", data["root"] / "JPEGImages",
              "--list", data["train"], "-o", int8)  # fmt: skip
    demo.step("int8 mAP50, on the compiled C", out / "map_int8.json", "tools/test.py", data["config"], int8,
              "--work-dir", out / "det", "--out-json", out / "map_int8.json", *options)  # fmt: skip
    picture = busy_picture(data["root"], data["val"])
    for board in BOARDS:
        folder = out / board
        demo.step(f"C for the {board}", folder / "plan.json", "tools/generate.py", int8, "--board", board,
                  "--arena-kb", ARENA_KB, "-o", folder)  # fmt: skip
        demo.step(f"its firmware, emulated {board}", out / f"{board}.json", "tools/run_board.py", folder,
                  "--board", board, "--emulate", "--picture", picture, "--json", out / f"{board}.json",
                  "--png", out / f"{board}.png")  # fmt: skip
    (out / "report.json").unlink(missing_ok=True)  # gathered anew each time
    demo.step("report", out / "report.json", "tools/report.py", out, "--boards", *BOARDS)
    print(f"\nThe whole way took {(time.monotonic() - demo.start) / 60:.1f} minutes.")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
