"""Go the whole way, once: NNI searches a network for a board, mmdet trains it, the exporter turns it into int8 C with
patch loops, and the firmware finds objects in a picture on an emulated Cortex-M7 and Cortex-M4.

Each step is a command of its own; it is printed before it runs. A step whose product exists is not run again, so that a
demo that was stopped goes on: `rm -rf out` starts over. out/demo.json says what the products are of: one of another
config is refused. Where there is no configs/, the demo brings its own.
"""

import argparse
import os
import shutil
from pathlib import Path

from ..core.errors import UserError, writing
from ..core.file_sets import named_folder
from ..core.files import sha256
from .steps import CONFIGS, Steps, claim

ARENA_KB = 96  # what the application leaves to the network: max_sram_kb of configs/nni/demo_h743.yml
BOARDS = ("stm32h743", "stm32f412")
SEARCH = ("configs/nni/demo_h743.yml", "configs/nni/demo_space.json")  # the file, and the one that it names
MARKER, WAY_OUT = Path("out/demo.json"), "delete it, or all of out, to make it again"


def bring_configs() -> None:
    """Copy the package's configs into this folder, whole or not: their paths begin here."""
    part = Path("configs.part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
    with writing(part):
        shutil.copytree(CONFIGS, part, ignore=shutil.ignore_patterns("__pycache__"))
        part.replace("configs")
    print("configs/ is a copy of the package's")


def check_made(product: Path, of: dict[str, str]) -> None:
    """Note that a product is of files and settings with these hashes. Raises UserError where it is there and is not, or
    is not known to be."""
    if other := claim(MARKER, {str(product): of}, {str(product): [product]}, WAY_OUT):
        raise UserError(f"{' and '.join(other)} is of other files: {WAY_OUT}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        choices=("digits", "bccd"),
        default="digits",
        help="digits (default), which it draws, or photographs of blood cells",
    )
    parser.add_argument("--out", help="default out/demo, or out/demo_bccd")


def main(args: argparse.Namespace) -> None:
    digits = args.data == "digits"
    out = named_folder(("out/demo" if digits else "out/demo_bccd") if args.out is None else args.out)
    step, supernet, search = Steps(), Path("out/supernet/demo.pth"), Path("out/search/demo_h743")
    bccd = Path(os.environ.get("MCUNET_SHARED", "../shared")) / "data/bccd/BCCD/ImageSets/Main"
    if not digits and not bccd.is_dir():
        raise UserError(f"{bccd} is missing: set MCUNET_SHARED to the folder that holds data/bccd")
    if not Path("configs").exists():
        bring_configs()
    config, checkpoint = f"configs/det/yolov3_{args.data}.py", out / "det/last.pth"
    options = ["--cfg-options", f"model.backbone.arch={search / 'best.json'}"]
    if digits:
        lists = Path("out/digits/VOC2007/ImageSets/Main/val.txt")
        step("scenes of handwritten digits", lists, "digits", "--out", "out/digits")
    step("super-network", supernet, "train-supernet")
    check_made(search / "best.pth", {str(path): sha256(path) for path in (supernet, *map(Path, SEARCH))})
    step("NNI searches a detector for the STM32H743", search / "best.pth", "search", "run",
         "--config", SEARCH[0])  # fmt: skip
    from detection import identity, load_config

    of = identity(load_config(config, {"model.backbone.arch": str(search / "best.json")}))
    check_made(checkpoint, of["config"] | of["data"])
    step("mmdet trains it", checkpoint, "train", config, "--work-dir", out / "det", *options)
    step("to the boards, all of it measured", out / "report.json", "deploy", config, checkpoint,
         "--boards", *BOARDS, "--arena-kb", ARENA_KB, "-o", out, *options, done=False)  # fmt: skip
    print(f"\nThe whole way took {step.minutes:.1f} minutes.")
