"""`mcunet COMMAND ...`: one door to every command, each of which is a module beside this one."""

import argparse
import importlib
import sys

from ..core.errors import exit_on_user_error

COMMANDS = {  # name -> (module, what it does)
    "search": ("search", "search a network with NNI: run, resume, export, report"),
    "train-supernet": ("train_supernet", "train the super-network that a search slices its candidates from"),
    "finetune": ("finetune", "train a classifier that a search found"),
    "train": ("train", "train a detector with mmdet"),
    "test": ("test", "evaluate a detector: float, int8, or its compiled C"),
    "accuracy": ("accuracy", "accuracy of a classifier as it is deployed"),
    "export": ("export", "write a trained network as float ONNX"),
    "quantize": ("quantize", "float ONNX to int8, calibrated on pictures"),
    "inspect": ("inspect", "ranges, scales and SQNR of an int8 model"),
    "generate": ("generate", "int8 ONNX to C for a board"),
    "run": ("run", "run generated C on a board or its emulator"),
    "deploy": ("deploy", "from a trained detector to measured boards"),
    "profile": ("profile", "where a network's memory goes and what patches save"),
    "anchors": ("anchors", "cluster anchors on real boxes"),
    "check-data": ("check_data", "look at every picture and box of a config's data sets"),
    "compare-boxes": ("compare_boxes", "the int8 engine's boxes against the float ones"),
    "digits": ("digits", "write the data set of handwritten digits"),
    "demo": ("demo", "the whole way, from search to emulated boards"),
    "report": ("report", "gather what the steps of deploy measured"),
    "tables": ("tables", "the paper's tables and figures"),
    "detector-table": ("detector_table", "the README's table of detectors"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that `arguments` (default: the program's own) name; exits with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    listed = "\n".join(f"  {name:15} {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "mcunet", description=f"{__doc__}\n\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    command = parser.parse_args(words[:1]).command
    sys.argv = [f"mcunet {command}", *words[1:]]
    with exit_on_user_error():
        importlib.import_module(f".{COMMANDS[command][0]}", __package__).main()
