"""Ask NNI itself, before anything is started: which class a tuner's name stands for, whether a configuration is right.

Nothing of the search is known here.
"""

from pathlib import Path

from nni.experiment.config import ExperimentConfig
from nni.tools.package_utils import get_algo_meta


def registered_class(name: str) -> str | None:
    """The class that `nnictl algo register` has made known by `name`."""
    meta = get_algo_meta(name)
    return meta and meta.class_name


def refusal(config: dict) -> str | None:
    """What NNI itself finds wrong with an experiment's configuration, in one line."""
    try:
        ExperimentConfig(**config).validate()
    except Exception as error:  # NNI's checks raise whatever came to hand, some of them without a word
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        where = Path(frame.tb_frame.f_code.co_filename).stem
        return " ".join(str(error).split()) or f"a check in NNI's {where}.py, line {frame.tb_lineno}"
    return None
