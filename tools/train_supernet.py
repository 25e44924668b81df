"""Train a super-network: python tools/train_supernet.py [--space demo] [--out out/supernet/demo.pth]

Goes on where an earlier run with the same settings stopped; does nothing when that one was finished.
"""

import argparse

import numpy as np
import torch
from tqdm import tqdm

from nni_mcunet.core.build import build_graph
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.search.data import digit_batch
from nni_mcunet.search.space import load_space
from nni_mcunet.search.training import Recipe, evaluate, load_supernet, train


def report(path: str, candidates: int = 4) -> None:
    """Held-out accuracy of the largest, the smallest and a few random sub-networks."""
    space, net = load_supernet(path)
    rng = np.random.default_rng(0)
    rows = [("largest", space.largest()), ("smallest", space.smallest())]
    rows += [("random", space.random(rng)) for _ in range(candidates)]
    for name, candidate in rows:
        held_out = digit_batch([0], "val", 256, candidate["r"])
        macs = build_graph(space.spec(candidate)).macs / 1e6
        accuracy = evaluate(space, net, candidate, held_out)
        print(f"{name:9} r {candidate['r']:3}  {macs:6.2f} million MACs  accuracy {accuracy:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Recipe()
    parser.add_argument("--space", default="demo", help="preset or file of the search space")
    parser.add_argument("--out", default="out/supernet/demo.pth", help="checkpoint")
    parser.add_argument("--largest", type=int, default=default.largest, help="steps of the largest network alone")
    parser.add_argument("--shared", type=int, default=default.shared, help="steps of random sub-networks")
    parser.add_argument("--batch", type=int, default=default.batch, help="pictures a network and step")
    parser.add_argument("--lr", type=float, default=default.lr, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--threads", type=int, default=1, help="more help only on cores that nothing else uses")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe(args.largest, args.shared, batch=args.batch, lr=args.lr, seed=args.seed)
    space = load_space(args.space)
    with tqdm(total=recipe.steps, unit="step", desc=f"super-network of {args.space}") as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            bar.update(step - bar.n)

        train(space, recipe, args.out, progress=progress)
    report(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
