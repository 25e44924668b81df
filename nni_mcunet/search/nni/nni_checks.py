"""Ask NNI before anything is started: which class a tuner's name stands for, whether a configuration is right.

Nothing of the search is known here.
"""

import traceback
from pathlib import Path

from nni.experiment.config import ExperimentConfig
from nni.tools.package_utils import get_algo_meta

from ...core.types import PlainDict


def registered_class(name: str) -> str | None:
    """Return the class that `nnictl algo register` has made known by `name`; None where there is none."""
    meta = get_algo_meta(name)
    return meta and meta.class_name


def refusal(config: PlainDict) -> str | None:
    """Say in one line what NNI finds wrong with an experiment's configuration; None where it finds nothing."""
    try:
        ExperimentConfig(**config).validate()
    except Exception as error:  # NNI's checks raise whatever came to hand, some of them without a word
        last = traceback.extract_tb(error.__traceback__)[-1]
        return " ".join(str(error).split()) or f"a check in NNI's {Path(last.filename).stem}.py, line {last.lineno}"
    return None
