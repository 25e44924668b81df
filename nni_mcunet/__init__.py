"""MCUNetV2 (Lin et al., NeurIPS 2021): networks searched, trained and compiled to int8 C for microcontrollers.

    import nni_mcunet as mcu

    net = mcu.load("model.onnx")                                    # or a name of mcu.zoo(), an architecture, a config
    print(mcu.profile(net, board="stm32f412"))                      # where its memory goes, and what fits
    int8 = mcu.quantize(net, pictures="photos")
    fw = mcu.compile(int8, board="stm32f412", out="out/fw")         # C, under the schedule that fits
    print(fw.run("photo.jpg"))                                      # on="emulator", on="serial:/dev/ttyACM0"

Below it `core` says what a network is and whether it fits, `search` is the NNI plug-in, `engine` the compiler and C
runtime. A name is imported when it is first asked for: this module brings none of torch, mmdet or onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api.answer import Run
    from .api.classification import Accuracies, Accuracy, accuracies, accuracy
    from .api.deployment import Report, report
    from .api.firmware import Firmware, compile, run
    from .api.fitting import Fit, fits
    from .api.inspection import Inspection, inspect
    from .api.networks import Network, load, zoo
    from .api.pages import page
    from .api.planning import best_schedule, boards, plan, profile
    from .api.quantization import QuantizationWarning, quantize
    from .core.boards import Board
    from .core.errors import CutWarning, Infeasible, PixelsWarning, RoomWarning, UserError
    from .core.ir.arch import ArchSpec, Schedule

__all__ = [
    "Accuracies",
    "Accuracy",
    "ArchSpec",
    "Board",
    "CutWarning",
    "Firmware",
    "Fit",
    "Infeasible",
    "Inspection",
    "Network",
    "PixelsWarning",
    "QuantizationWarning",
    "Report",
    "RoomWarning",
    "Run",
    "Schedule",
    "UserError",
    "accuracies",
    "accuracy",
    "best_schedule",
    "boards",
    "compile",
    "fits",
    "front",
    "inspect",
    "load",
    "page",
    "plan",
    "profile",
    "quantize",
    "report",
    "run",
    "zoo",
]

__version__ = "0.2.0"  # pyproject.toml reads it here
_MODULES = {
    ".api.answer": ("Run",),
    ".api.classification": ("Accuracies", "Accuracy", "accuracies", "accuracy"),
    ".api.deployment": ("Report", "report"),
    ".api.firmware": ("Firmware", "compile", "run"),
    ".api.fitting": ("Fit", "fits"),
    ".api.inspection": ("Inspection", "inspect"),
    ".api.networks": ("Network", "load", "zoo"),
    ".api.pages": ("page",),
    ".api.planning": ("best_schedule", "boards", "front", "plan", "profile"),
    ".api.quantization": ("QuantizationWarning", "quantize"),
    ".core.boards": ("Board",),
    ".core.errors": ("CutWarning", "Infeasible", "PixelsWarning", "RoomWarning", "UserError"),
    ".core.ir.arch": ("ArchSpec", "Schedule"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name], __name__), name)
    return found


def __dir__() -> list[str]:
    """Return the names of the module, those not yet imported too."""
    return sorted({*globals(), *__all__})
