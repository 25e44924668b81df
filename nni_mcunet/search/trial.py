"""A trial: `python -m nni_mcunet.search.trial`, started by NNI. Slices its candidates from the trained super-network,
re-calibrates their batch normalisation and reports their accuracy on held-out pictures. Numbers only: the web UI's
charts take nothing else.
"""

import nni
import torch

from ..core.errors import exit_on_user_error
from .data import digit_batch
from .training import evaluate, load_supernet

HELD_OUT = 256  # pictures of the split "val", the same for every candidate of a resolution


def main() -> None:
    torch.set_num_threads(1)  # two that share the machine's two cores with others wait for each other, 20 times slower
    parameters = nni.get_next_parameter()
    space, supernet = load_supernet(parameters["supernet"])
    scores, held_out = [], {}
    for entry in parameters["candidates"]:
        r = entry["candidate"]["r"]
        if r not in held_out:
            held_out[r] = digit_batch([0], "val", HELD_OUT, r)
        scores.append(evaluate(space, supernet, entry["candidate"], held_out[r]))
        nni.report_intermediate_result(scores[-1])
    best = max(range(len(scores)), key=scores.__getitem__)
    shown = {"sram_kb": parameters["candidates"][best]["sram"] / 1024}
    shown["mmacs"] = parameters["candidates"][best]["macs"] / 1e6
    nni.report_final_result({"default": scores[best]} | shown | {f"c{i}": score for i, score in enumerate(scores)})


if __name__ == "__main__":
    with exit_on_user_error():
        main()
