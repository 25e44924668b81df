"""Predict a candidate's score from its genes, as once-for-all does, to sift candidates before they cost an evaluation.

The features are the genes of the blocks that are there, each choice a 0 or 1, so that depth counts, too: what Cai et
al. (2020) feed to a small network. A ridge regression on a few hundred scores is fitted in milliseconds, has no seed
and gives the same answer again when a search is resumed.
"""

from collections.abc import Sequence

import numpy as np

from .space import Candidate, Space

STRENGTHS = tuple(10.0**power for power in range(-2, 4))  # of the ridge; cross-validation chooses
DIGITS = 9  # of a predicted score: what is beyond is rounding, which differs between machines


class Predictor:
    """Predict scores in a space from those that are known, one for each candidate in `known`."""

    def __init__(self, space: Space, known: Sequence[Candidate], scores: Sequence[float]):
        from sklearn.linear_model import RidgeCV  # imported here: it takes seconds, and most searches need none

        pairs = [(gene, choice) for gene, choices in space.genes.items() for choice in choices]
        self._columns = {pair: at for at, pair in enumerate(pairs)}
        self._ridge = RidgeCV(alphas=STRENGTHS).fit(self.features(known), np.array(scores))

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Return (candidates, choices of all genes), 1.0 where a candidate has the choice. A block that it has not is
        0 everywhere."""
        found = np.zeros((len(candidates), len(self._columns)))
        for row, candidate in zip(found, candidates, strict=True):
            for gene, choice in candidate.items():
                if is_there(gene, candidate):
                    row[self._columns[gene, choice]] = 1.0
        return found

    def predict(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Return the expected score of each candidate."""
        return np.round(self._ridge.predict(self.features(candidates)), DIGITS)


def is_there(gene: str, candidate: Candidate) -> bool:
    """Tell whether a gene says something about a candidate: one of a block beyond its stage's depth does not."""
    stage, *rest = gene.split("_")
    return len(rest) < 2 or int(rest[0][1:]) < candidate[f"{stage}_d"]
