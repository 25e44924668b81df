"""Search a classifier for your own pictures: folders PHOTOS/train/CLASS/*.jpg, by NNI on this machine.

python examples/search_pictures.py PHOTOS [FOLDER] [BOARD]

The super-network is small and its training short, so that the script ends in minutes; the numbers to raise are marked.
It writes FOLDER/search/best.json, the architecture and its schedule, with its weights beside it.
"""

import sys
from pathlib import Path

import yaml

from nni_mcunet.cli.main import run
from nni_mcunet.search.space import load_space

BASE = "demo"  # mobilenetv2, proxyless, mcunet384: the paper's


def main(photos, folder="out/pictures", board="stm32f412", largest=200, shared=400, population=20, iterations=4):
    out = Path(folder).resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = {"kind": "folder", "root": str(Path(photos).resolve())}
    classes = sum(folder.is_dir() for folder in Path(photos, "train").iterdir())
    space, supernet = out / "space.yml", out / "supernet.pth"
    space.write_text(yaml.safe_dump({"base": BASE, "name": "pictures", "classes": classes}))
    steps = ["--largest", str(largest), "--shared", str(shared)]  # thousands, for real
    run("train-supernet", ["--space", str(space), "--data", f"folder:{data['root']}", "--out", str(supernet), *steps])
    search = {
        "experimentName": "pictures",
        "experimentWorkingDirectory": str(out / "nni"),
        "searchSpace": load_space(str(space)).to_nni(),
        "trialCommand": "python -m nni_mcunet.search.trial",
        "trialCodeDirectory": str(out),
        "trialConcurrency": 1,  # as many as there are GPUs or free cores
        "tuner": {
            "className": "nni_mcunet.search.tuner.EvolutionTuner",
            "classArgs": {
                "space": str(space),
                "board": board,
                "max_sram_kb": 64,  # the application wants the rest
                "data": data,
                "supernet": str(supernet),
                "out": str(out / "search"),
                "population": population,  # 100 in the paper
                "parents": population // 4,
                "iterations": iterations,  # 30 in the paper
            },
        },
        "trainingService": {"platform": "local"},
    }
    path = out / "experiment.yml"
    path.write_text(yaml.safe_dump(search, sort_keys=False))
    run("search", ["run", "--config", str(path)])
    return out / "search/best.json"


if __name__ == "__main__":
    main(*sys.argv[1:])
