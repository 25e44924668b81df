"""Run generated C on this machine: as a library of this process, and as the board's program under the sanitizers."""

import ctypes
import subprocess
import tempfile
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ...core.types import PlainDict
from ..codegen.names import DEFAULT
from ..detect.boxes import BOX
from ..model import checked_picture
from .generated import build_folder, content_of, prefix_of, sources, write_picture
from .run_report import parse_run
from .toolchain import PROGRAM, RUNTIME, compile_c

SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


class HostModel:
    """Hold a generated model as a library of this process. Outputs are flat int8 arrays in the model's order."""

    def __init__(self, path: Path, prefix: str = DEFAULT):
        self.lib = ctypes.CDLL(str(path))
        self._output, self._output_bytes = (self.lib[f"{prefix}_output{end}"] for end in ("", "_bytes"))
        self._output.restype = ctypes.POINTER(ctypes.c_int8)
        self._detect = f"{prefix}_detect"
        self.arena_bytes = ctypes.c_int.in_dll(self.lib, "mcu_host_arena_bytes").value
        self.outputs = ctypes.c_int.in_dll(self.lib, "mcu_host_outputs").value

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        """Return (h, w, c) of the picture that the model reads."""
        h, w, c = (ctypes.c_int * 3).in_dll(self.lib, "mcu_host_input")
        return h, w, c

    def run(self, picture: np.ndarray) -> list[np.ndarray]:
        """Return the outputs, each (bytes,) int8, for a picture (h, w, c) uint8. Raises UserError for another shape."""
        pixels = checked_picture(picture, self.input_shape)
        self.lib.mcu_host_run(pixels.ctypes.data_as(ctypes.c_void_p))
        sizes = [self._output_bytes(i) for i in range(self.outputs)]
        return [np.ctypeslib.as_array(self._output(i), (n,)).copy() for i, n in enumerate(sizes)]

    @property
    def is_detector(self) -> bool:
        """Say whether the model finds boxes."""
        return hasattr(self.lib, self._detect)

    def detect(self) -> np.ndarray:
        """Return the boxes (dtype detect.BOX) of the last run's picture. For a model with a detector only."""
        boxes = np.zeros(ctypes.c_int.in_dll(self.lib, "mcu_host_most_boxes").value, BOX)
        return boxes[: self.lib[self._detect](boxes.ctypes.data_as(ctypes.c_void_p), len(boxes))].copy()


def build_host(folder: str | Path) -> HostModel:
    """Compile the model in `folder` as a library (gcc -O2) and load it. Raises UserError for a folder without a model
    or a missing compiler, FirmwareError where the C does not compile."""
    folder = Path(folder)
    c_files = [*sources(folder), RUNTIME / "frame.c", RUNTIME / "host.c"]
    # A new name each time: the loader would give an already loaded library of the same name back.
    with tempfile.TemporaryDirectory(dir=build_folder(folder)) as fresh:
        out = Path(fresh) / "model.so"
        compile_c("gcc", ["-O2", "-shared", "-fPIC"], c_files, folder, out)
        return HostModel(out, prefix_of(folder))


def host_of(folder: str | Path) -> HostModel:
    """Return the model in `folder` as build_host does, compiled once in this process for what the folder holds by now:
    a call may find the outputs of another call in it until it runs. Raises what build_host raises."""
    return _built(Path(folder).resolve(), content_of(Path(folder)))


@lru_cache(maxsize=8)
def _built(folder: Path, content: str) -> HostModel:
    return build_host(folder)


def run_sanitized(folder: str | Path, picture: np.ndarray) -> PlainDict:
    """Run the board's program on this host under the address and undefined-behaviour sanitizers, and return its report,
    see emulator.run_emulated. picture: (h, w, c) uint8. Raises FirmwareError with the sanitizer's words where one
    complains, and what build_host raises."""
    folder = Path(folder)
    out = build_folder(folder) / "sanitized"
    c_files = [*sources(folder), *PROGRAM, RUNTIME / "host.c"]
    write_picture(folder, picture)
    compile_c("gcc", ["-O1", *SANITIZERS], c_files, folder, out)
    done = subprocess.run([str(out)], capture_output=True, text=True, encoding="utf-8", timeout=300)
    return parse_run(done)
