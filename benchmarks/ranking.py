"""Do slices of a super-network rank networks as training each of them by itself does? Kendall's tau, by one command:

    python benchmarks/ranking.py --supernet out/supernet/demo.pth --networks 20 --epochs 20

Networks are drawn from the super-network's space, of one resolution or of any. Each is scored as a search scores it, as
a slice on the held-out pictures. Then it is trained by itself, from nothing or, as mcunet finetune does, from its slice
(--from-slice), and judged on the same pictures. Tau is 1 where both rank alike, 0 where one says nothing about the
other; its 95 % interval is of a bootstrap over the networks. --repeat trains each a second time, with another seed:
how well two trainings agree is the yardstick.

Goes on where it was stopped: every score is kept in --out/ranking.json, every training has its checkpoint there.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from tqdm import tqdm

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import sha256, write_json
from nni_mcunet.core.nn.net import Net
from nni_mcunet.search.data import Data, open_data, parse_data
from nni_mcunet.search.space import Candidate, Space
from nni_mcunet.search.supernet.recipe import Recipe
from nni_mcunet.search.supernet.supernet import slice_net
from nni_mcunet.search.supernet.training import evaluate, finetune, load_supernet

DRAWS = 1000  # of the bootstrap
RESULTS = Path(__file__).parents[1] / "docs/results/ranking.json"


def networks(space: Space, count: int, seed: int, resolutions: str = "one") -> list[Candidate]:
    """Draw so many different networks: of the space's middle resolution, so that pixels do not rank them, or of any."""
    middle = {"r": space.genes["r"][(len(space.genes["r"]) - 1) // 2]}
    rng, found, fixed = np.random.default_rng(seed), {}, middle if resolutions == "one" else {}
    for _ in range(1000 * count):
        if len(found) == count:
            return list(found.values())
        candidate = space.random(rng) | fixed
        found.setdefault(space.spec(candidate), candidate)
    raise UserError(
        f"space {space.name} has fewer than {count} networks of {resolutions} resolution: give fewer --networks"
    )


def trained(
    space: Space, candidate: Candidate, recipe: Recipe, data: Data, checkpoint: Path, supernet: Net | None
) -> float:
    """Train a candidate from nothing or from its slice of a super-network, from its checkpoint on where there is one.
    Returns its held-out score."""
    spec = space.spec(candidate)
    torch.manual_seed(recipe.seed)
    if supernet is None:
        net = Net(data.task.graph(spec))
        data.task.prepare(net)
    else:
        net = slice_net(supernet, data.task.graph(spec))
    net = finetune(replace(spec, classes=data.task.identity["classes"]), net, recipe, data, checkpoint)
    return data.task.score(net.eval(), data.held_out(spec.resolution))


def tau(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Return Kendall's tau-b of two scorings of the same networks, and its 95 % interval."""
    a, b, rng = np.array(first), np.array(second), np.random.default_rng(0)
    drawn = [kendalltau(a[at], b[at]).statistic for at in rng.integers(len(a), size=(DRAWS, len(a)))]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(kendalltau(a, b).statistic), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", required=True, help="checkpoint of mcunet train-supernet, of a classifier")
    parser.add_argument("--data", default="digits", help="as for its training")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--resolutions", choices=("one", "any"), default="one", help="of the networks drawn")
    parser.add_argument("--from-slice", action="store_true", help="each begins its training with its slice's weights")
    parser.add_argument("--epochs", type=int, default=5, help="of each network by itself")
    parser.add_argument("--steps", type=int, help="instead of epochs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--repeat", action="store_true", help="train each a second time, with another seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/ranking"))
    parser.add_argument("--result", metavar="NAME", help="keep the taus in --results by this name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    with exit_on_user_error():
        if args.networks < 3:
            raise UserError(f"--networks {args.networks}: a ranking needs 3 at least")
        torch.set_num_threads(1)
        data = open_data(parse_data(args.data))
        steps = args.steps or args.epochs * data.epoch(args.batch)
        recipe = Recipe(largest=steps, shared=0, batch=args.batch, lr=args.lr)
        known = measure(args, recipe, data)
        print(table(known))
        if args.result:
            found = json.loads(args.results.read_text()) if args.results.exists() else {}
            settings = known["settings"] | {"data": data.identity["kind"]}
            write_json(
                args.results, found | {args.result: {"settings": settings, "tau": taus(known), "rows": known["rows"]}}
            )


def measure(args: argparse.Namespace, recipe: Recipe, data: Data) -> dict:
    """Score every network in each way, and keep it. Returns what ranking.json says."""
    space, supernet = load_supernet(args.supernet, data)
    settings = {"supernet": sha256(args.supernet), "data": data.identity, "recipe": asdict(recipe), "seed": args.seed}
    settings |= {"resolutions": args.resolutions, "from_slice": args.from_slice}
    settings = json.loads(json.dumps(settings))
    path, ways = args.out / "ranking.json", ["slice", "trained", *(["again"] if args.repeat else [])]
    known = json.loads(path.read_text()) if path.exists() else {"settings": settings, "rows": []}
    if known["settings"] != settings:
        raise UserError(f"{path} is of another super-network, data, recipe or seed: give another --out")
    rows = known["rows"]
    drawn = networks(space, args.networks, args.seed, args.resolutions)
    for at, candidate in enumerate(tqdm(drawn, unit="network", disable=None)):
        if at == len(rows):
            rows.append({"candidate": candidate, "macs": data.task.graph(space.spec(candidate)).macs})
        for way in ways:
            if way in rows[at]:
                continue
            if way == "slice":
                rows[at][way] = evaluate(space, supernet, candidate, data)
            else:
                own = replace(recipe, seed=args.seed + 1000 * (way == "again"))
                start = supernet if args.from_slice else None
                rows[at][way] = trained(space, candidate, own, data, args.out / f"{at:03d}_{way}.ckpt", start)
            write_json(path, known)
    return known | {"rows": rows[: args.networks]}


def taus(known: dict) -> dict[str, tuple[float, float, float]]:
    """Return for each other way to score than "trained" its tau with it, and the interval."""
    rows = known["rows"]
    ways = [way for way in ("slice", "again", "macs") if all(way in row for row in rows)]
    return {way: tau(*([row[key] for row in rows] for key in (way, "trained"))) for way in ways}


def table(known: dict) -> str:
    """Return the taus as lines."""
    count = len(known["rows"])
    return "\n".join(
        f"{way} against trained: tau {value:.2f} ({low:.2f} to {high:.2f}), {count} networks"
        for way, (value, low, high) in taus(known).items()
    )


if __name__ == "__main__":
    main()
