"""Put a trained and deployed detector into zoo/, the networks that come with this project, or refresh it there: its
int8 file, its card, its picture where the terms of its data allow one, and float weights of its backbone.

    python benchmarks/detectors.py --only yolov3_bccd_f412
    python benchmarks/zoo.py blood-cells-f412 yolov3_bccd_f412 --data bccd --weights
    python benchmarks/zoo.py --recipes      those of docs/results/detection.json whose weights stay here
    python benchmarks/zoo.py --check        what is in zoo/ agrees with its list

Figures are those of docs/results/detection.json, files those of out/detection/CONFIG. --first makes the weights those
that mcunet new-detector begins with for a backbone of this architecture.
"""

import argparse
import io
import json
from pathlib import Path

import torch
from PIL import Image

from detection import load_config, read_checkpoint
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import sha256, write_atomic, write_json
from nni_mcunet.core.outputs import marked
from nni_mcunet.engine.int8_detector import load_int8_detector

ROOT = Path(__file__).parents[1]
ZOO, RESULTS = ROOT / "zoo", ROOT / "docs/results"
# Data -> (what they are, where from, their licence, whether pictures of them may be shown)
DATA = {
    "bccd": ("blood cells under a microscope", "github.com/Shenggan/BCCD_Dataset", "MIT", True),
    "voc2012": ("photographs of Pascal VOC 2012", "host.robots.ox.ac.uk/pascal/VOC/voc2012",
                "Flickr's terms of use: for non-commercial research", False),
    "widerface": ("photographs of WIDER FACE", "shuoyang1213.me/WIDERFACE", "for non-commercial research", False),
}  # fmt: skip
HEADS = {"yolov3": "YOLOv3", "yolox": "YOLOX", "s3fd": "S3FD"}
BEGUN = (
    "The backbone began with the ImageNet weights that MCUNet's authors published (github.com/mit-han-lab/mcunet, MIT)."
)
QUALITY = 85  # of the picture, a JPEG


def figures(config: str) -> dict:
    """The row of a config in docs/results/detection.json. Raises UserError where there is none."""
    path = RESULTS / "detection.json"
    rows = {row["config"]: row for row in json.loads(path.read_text())}
    name = f"configs/det/{config}.py"
    if "boards" not in rows.get(name, {}):
        raise UserError(f"{path} has no figures of {config} on its boards: run benchmarks/detectors.py --only {config}")
    return rows[name]


def entry(name: str, config: str, data: str, model: Path) -> dict:
    """The entry of a network in index.json, all of it from its figures and its int8 file."""
    row, int8 = figures(config), load_int8_detector(model)
    image, meta = int8.graph.inputs[0], int8.meta["detector"]
    kept = ("config", "data", "epochs", "float", "int8", "params", "macs", "boxes_within", "boxes_before_nms", "boards")
    what, source, licence, free = DATA[data]
    return {
        "sha256": sha256(model), "bytes": model.stat().st_size, "input": f"{image.w}x{image.h}",
        "head": HEADS[meta["type"]], "classes": meta["classes"], **{key: row[key] for key in kept},
        "pictures": what, "source": source, "licence": licence, "shown": free,
        "command": f"{row['command']} && python benchmarks/zoo.py {name} {config} --data {data}",
    }  # fmt: skip


def backbone(checkpoint: Path, path: Path) -> None:
    """Write the float weights of a checkpoint's backbone, in half precision."""
    state = read_checkpoint(str(checkpoint))
    state = state.get("state_dict", state)
    own = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.layers.")}
    buffer = io.BytesIO()
    torch.save({key: v.half() if v.is_floating_point() else v for key, v in own.items()}, buffer)
    write_atomic(path, marked(buffer.getvalue()))


def card(name: str, e: dict) -> str:
    """The Markdown of a network's card, from its entry."""
    board = next(iter(e["boards"]))
    scores = "; ".join(
        f"{key} {e['float'][key]:.3f} float, {e['int8'][key]:.3f} int8 (its compiled C)" for key in e["float"]
    )
    lines = [
        f"# {name}\n",
        f"Finds {', '.join(e['classes'])} in a picture of {e['input']}: {e['head']}, {e['params']:,} parameters, "
        f"{e['macs'] / 1e6:.1f}M MACs, {e['bytes'] / 1000:,.0f} kB as int8 ONNX.\n",
        "| board | SRAM, kB | flash, kB | instructions, M | ms, estimated |\n|---|---:|---:|---:|---:|",
        *(f"| {b} | {r['sram_bytes'] / 1024:.1f} | {r['flash_bytes'] / 1024:.1f} | {r['instructions'] / 1e6:.1f} | "
          f"{'-' if r['milliseconds_estimated'] is None else format(r['milliseconds_estimated'], '.0f')} |"
          for b, r in e["boards"].items()),
        "\nSRAM and flash are read from the firmware, instructions counted in the emulator, times estimated: no real "
        "board was at hand.\n",
        f"- **Data**: {e['data']}: {e['pictures']}, {e['source']}",
        f"- **Licence of the data**: {e['licence']}" + ("" if e["shown"] else
          ". The network is for the same use. No picture of theirs is shown here."),
        f"- **Metric**, on the pictures for the test: {scores}",
        f"- **Boxes** of score >= 0.3: int8 finds {e['boxes_within']['0.5']:.1%} of the float one's within half "
        f"a pixel of its input, {e['boxes_within']['2']:.1%} within two. Before NMS it predicts "
        f"{e['boxes_before_nms']['0.5']:.1%} within half a pixel",
        f"- **Trained** {e['epochs']} epochs by `{e['config']}`. {BEGUN}",
        f"- **Made by** `{e['command']}`",
        f"- **sha256** of `{name}.onnx`: `{e['sha256']}`",
    ]  # fmt: skip
    if weights := e.get("weights"):
        lines.append(f"- **Float weights** of the backbone, {weights['arch']}: `--weights zoo:{name}` of "
                     f"`mcunet new-detector`; sha256 `{weights['sha256']}`")  # fmt: skip
    lines.append(f"\n```\nmcunet generate zoo:{name} --board {board} -o out/fw\nmcunet detect zoo:{name} photos -o "
                 "out/boxes\n```")  # fmt: skip
    if e["shown"]:
        lines.append(f"\n![boxes that the int8 network finds on eight test pictures]({name}.jpg)")
    return "\n".join(lines) + "\n"


def add(args: argparse.Namespace) -> None:
    """Write one network's files, its card and its entry."""
    made, path = ROOT / "out/detection" / args.config, ZOO / "index.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    found = entry(args.name, args.config, args.data, made / "model.int8.onnx")
    write_atomic(ZOO / f"{args.name}.onnx", (made / "model.int8.onnx").read_bytes())
    if args.weights:
        found["command"] += " --weights" + " --first" * args.first
        arch = load_config(str(ROOT / found["config"])).model.backbone.arch
        weights = ZOO / "weights" / f"{args.name}.pth"
        backbone(made / "det/last.pth", weights)
        found["weights"] = {"arch": Path(arch["base"] if isinstance(arch, dict) else arch).stem,
                            "sha256": sha256(weights), "first": args.first}  # fmt: skip
        if args.first:
            for other in known.values():
                other.get("weights", {})["first"] = False
    if found["shown"]:
        buffer = io.BytesIO()
        Image.open(RESULTS / f"{args.config}.png").convert("RGB").save(buffer, "JPEG", quality=QUALITY)
        write_atomic(ZOO / f"{args.name}.jpg", buffer.getvalue())
    known[args.name] = found
    write_json(path, dict(sorted(known.items())))
    for name, e in known.items():
        write_atomic(ZOO / f"{name}.md", card(name, e))


def recipes() -> list[dict]:
    """The detectors of docs/results/detection.json that are not in the zoo, without the small trials."""
    ours = {e["config"] for e in json.loads((ZOO / "index.json").read_text()).values()}
    kept = ("config", "data", "float", "int8", "board", "sram_bytes", "flash_bytes")
    rows = json.loads((RESULTS / "detection.json").read_text())
    return [
        {key: row[key] for key in kept} for row in rows if row["config"] not in ours and "mini" not in row["config"]
    ]


def check() -> None:
    """Raise UserError where a file in zoo/ is not what the list says."""
    known = json.loads((ZOO / "index.json").read_text())
    if json.loads((ZOO / "recipes.json").read_text()) != recipes():
        raise UserError("zoo/recipes.json is not of docs/results/detection.json: run benchmarks/zoo.py --recipes")
    expected = {Path("index.json"), Path("recipes.json")}
    for name, e in known.items():
        hashes = {Path(f"{name}.onnx"): e["sha256"]}
        if "weights" in e:
            hashes[Path(f"weights/{name}.pth")] = e["weights"]["sha256"]
        for path, value in hashes.items():
            if not (ZOO / path).is_file() or sha256(ZOO / path) != value:
                raise UserError(f"zoo/{path} is not the file that zoo/index.json names")
        if (ZOO / f"{name}.md").read_text() != card(name, e):
            raise UserError(f"zoo/{name}.md is not the card of its entry: run benchmarks/zoo.py again")
        expected |= {*hashes, Path(f"{name}.md")} | ({Path(f"{name}.jpg")} if e["shown"] else set())
    there = {path.relative_to(ZOO) for path in ZOO.rglob("*") if path.is_file()}
    if there != expected:
        raise UserError(f"zoo/: {', '.join(map(str, sorted(there ^ expected)))} differ from zoo/index.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="of the network in the zoo")
    parser.add_argument("config", nargs="?", help="stem of its config, such as yolov3_bccd_f412")
    parser.add_argument("--data", choices=DATA, help="what it was trained on")
    parser.add_argument("--weights", action="store_true", help="also the float weights of its backbone")
    parser.add_argument("--first", action="store_true", help="with --weights: those to begin with by default")
    parser.add_argument("--recipes", action="store_true", help="write zoo/recipes.json again, and nothing else")
    parser.add_argument("--check", action="store_true", help="write nothing; look whether all agrees")
    args = parser.parse_args()
    if args.check:
        check()
    elif args.recipes:
        write_json(ZOO / "recipes.json", recipes())
    elif not (args.name and args.config and args.data) or (args.first and not args.weights):
        raise UserError("expected a name, a config and --data, and --first only with --weights; or --check")
    else:
        add(args)
        write_json(ZOO / "recipes.json", recipes())
        check()


if __name__ == "__main__":
    with exit_on_user_error():
        main()
