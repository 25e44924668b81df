"""Evaluate the candidates of a trial: `python -m nni_mcunet.search.trial`, started by NNI.

One warm super-network, on the GPU if there is one, serves all candidates. Each is sliced out, its batch normalisation
re-calibrated, and its score on the held-out pictures reported, accuracy or a detector's mAP50. Reports are numbers
only: the web UI's charts take nothing else.
"""

import nni
import torch

from ...core.errors import UserError
from ...core.freed_memory import keep_freed_memory
from ...core.types import PlainDict
from ...core.validate import short
from ..data import open_data
from ..supernet.training import evaluate, load_supernet, to_device


def scores(parameters: PlainDict) -> list[float]:
    """Return the score of every candidate of a trial's parameters, in their order. Raises UserError."""
    if not isinstance(parameters, dict) or not parameters.get("candidates") or "supernet" not in parameters:
        raise UserError(
            f"the trial's parameters are {short(parameters)}: expected {{supernet, data, candidates: [{{candidate, "
            "...}]}; run it in an experiment whose tuner is EvolutionTuner"
        )
    data = open_data(parameters.get("data", {"kind": "digits"}))
    space, supernet = load_supernet(parameters["supernet"], data)
    supernet = to_device(supernet)
    entries = parameters["candidates"]
    candidates = [entry["candidate"] for entry in entries]
    found: dict[int, float] = {}
    # one resolution after the other, so that its pictures are read once
    for at in sorted(range(len(candidates)), key=lambda i: space.spec(candidates[i]).resolution):
        found[at] = evaluate(space, supernet, candidates[at], data)
        # the index, so that the score counts if the trial is lost
        nni.report_intermediate_result({"default": found[at], "index": entries[at]["index"]})
    return [found[at] for at in range(len(candidates))]


def main() -> None:
    """Evaluate what NNI has for this trial and report the scores."""
    keep_freed_memory()
    torch.set_num_threads(1)  # two threads on two cores that others use, too, wait for each other: 20 times slower
    parameters = nni.get_next_parameter()
    found = scores(parameters)
    best = max(range(len(found)), key=found.__getitem__)
    shown = {"sram_kb": parameters["candidates"][best]["sram"] / 1024}
    shown["mmacs"] = parameters["candidates"][best]["macs"] / 1e6
    nni.report_final_result({"default": found[best]} | shown | {f"c{i}": score for i, score in enumerate(found)})
