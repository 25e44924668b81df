"""Read a folder of generated C: which model it holds, what picture that reads, and what a build adds to the folder.

It compiles nothing. A folder holds mcu_model.h and mcu_model.c, or those of another prefix, and the kernels; objects
and programs go to its `build/`.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import UserError
from ...core.file_sets import MANIFEST, is_whole
from ...core.files import write_atomic
from ...core.types import Picture
from ...core.view import STRETCH, View
from ..model import checked_picture

MOST_BYTES = 1 << 26  # of an image; no board here has as many
API = ("read_tile", "run", "output", "output_bytes", "detect", "class_names", "arena")  # behind a model's prefix


def prefix_of(folder: str | Path) -> str:
    """Return the prefix of the names of the generated model in `folder`. Raises UserError where there is none, half
    of one or more than one."""
    if (Path(folder) / MANIFEST).exists() and not is_whole(folder):
        raise UserError(f"{folder}: mcunet generate was stopped while it wrote it; run it again")
    headers = {path: path.name.removesuffix("_model.h") for path in sorted(Path(folder).glob("*_model.h"))}
    found = [
        p for path, p in headers.items() if f"#define {p.upper()}_ARENA_BYTES" in path.read_text("utf-8", "replace")
    ]
    if not found:
        raise UserError(f"{folder}: no mcu_model.h; give a folder that mcunet generate has written")
    if len(found) > 1:
        raise UserError(
            f"{folder} holds the models {', '.join(found)}; generate the one to run into a folder of its own"
        )
    return found[0]


def input_shape(folder: str | Path) -> tuple[int, int, int]:
    """Return (h, w, c) of the picture that the generated model reads. Raises UserError where `folder` holds none."""
    prefix = prefix_of(folder)
    header = header_text(folder, prefix)
    found = dict(re.findall(rf"#define {prefix.upper()}_INPUT_([HWC]) +([1-9]\d{{0,8}})\n", header))
    if len(found) < 3:
        raise UserError(f"{folder}: {prefix}_model.h does not say the input's size: run mcunet generate again")
    shape = int(found["H"]), int(found["W"]), int(found["C"])
    if math.prod(shape) > MOST_BYTES:
        raise UserError(f"{folder}: {prefix}_model.h is damaged, its input is {shape}: run mcunet generate again")
    return shape


def input_view(folder: str | Path) -> View:
    """Return how the generated model sees a picture. Raises UserError where `folder` holds none."""
    found = re.search(r"^/\* view: (\S+)", header_text(folder, prefix_of(folder)), re.MULTILINE)
    return View.parse(found[1]) if found else STRETCH  # generated before there was a choice


def arena_regions(folder: str | Path) -> dict[str, int]:
    """Return the bytes of the model's arena in each region of a board; {} where it is one array. Raises UserError where
    `folder` holds no model."""
    prefix = prefix_of(folder)
    found = re.findall(rf"#define {prefix.upper()}_ARENA_(\w+)_BYTES (\d+)$", header_text(folder, prefix), re.MULTILINE)
    return {region: int(size) for region, size in found}


def is_detector(folder: str | Path) -> bool:
    """Tell whether the generated model finds boxes. Raises UserError where `folder` holds none."""
    prefix = prefix_of(folder)
    return f"#define {prefix.upper()}_DETECTOR 1\n" in header_text(folder, prefix)


def as_read(folder: str | Path, picture: Picture) -> Picture:
    """Return the bytes that `mcu_read_frame` copies, uint8 (h, w, c), of a photograph (h, w, c): the integers that
    MCU_PIXEL makes of it, plus 128. Raises UserError where `folder` holds no model."""
    prefix = prefix_of(folder)
    source = (Path(folder) / f"{prefix}_model.c").read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"const int8_t {prefix}_pixels\[\d+\]\[256\] = ([^;]+);", source)
    if not found:
        return picture  # MCU_PIXEL is byte - 128
    table = np.array(re.findall(r"-?\d+", found[1]), np.int16).reshape(-1, 256) + 128
    return table.astype(np.uint8)[np.arange(picture.shape[2]) % len(table), picture]


@dataclass(frozen=True)
class OutputMap:
    """An output of a generated model: its shape (h, w, c), and real = scale * (q - zero_point) / gain of an int8 q.
    gains: of each channel, (c,), or () for 1."""

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    gains: tuple[float, ...] = ()

    @property
    def is_vector(self) -> bool:
        """Tell whether it holds one value for each of several classes."""
        return self.shape[:2] == (1, 1) and self.shape[2] > 1

    @property
    def holds_shares(self) -> bool:
        """Tell whether its values are all from 0 to 1, as those of a softmax are."""
        least, most = (self.scale * (q - self.zero_point) for q in (-128, 127))
        return least >= 0 and most <= 1

    def real(self, q: np.ndarray) -> np.ndarray:
        """Return the real values (h, w, c) of the bytes (h * w * c,)."""
        real = self.scale * (q.astype(float) - self.zero_point).reshape(self.shape)
        return real / self.gains if self.gains else real


def output_maps(folder: str | Path) -> list[OutputMap]:
    """Return the outputs of the generated model, in the order of its header. Raises UserError where that does not say
    them."""
    prefix = prefix_of(folder)
    header = header_text(folder, prefix)
    said = re.search(rf"#define {prefix.upper()}_OUTPUTS (\d+)\n", header)
    form = r'^/\*   \d+: (".*") (\d+)x(\d+)x(\d+), real = ([\d.e+-]+) \* \(q - (-?\d+)\)'
    form += r"((?:, / [\d.e+-]+ in channels [\d ]+)*) \*/$"
    found = re.findall(form, header, re.MULTILINE)
    try:
        maps = [
            OutputMap(json.loads(n), (int(h), int(w), int(c)), float(s), int(z), _gains(int(c), rest))
            for n, h, w, c, s, z, rest in found
        ]
    except (ValueError, IndexError):
        maps = []
    if said is None or len(maps) != int(said[1]):
        raise UserError(f"{folder}: {prefix}_model.h does not say the outputs' scales: run mcunet generate again")
    return maps


def _gains(count: int, said: str) -> tuple[float, ...]:
    """Return the gains of an output's channels that its line in the header ends with. Raises ValueError or IndexError
    for a line that is damaged."""
    if not said:
        return ()
    gains = [1.0] * count
    for value, channels in re.findall(r", / ([\d.e+-]+) in channels ([\d ]+)", said):
        for channel in channels.split():
            gains[int(channel)] = float(value)
    if min(gains) <= 0 or max(gains) == 1:
        raise ValueError(said)
    return tuple(gains)


def aliases(header: str, prefix: str) -> str:
    """Return the text of a mcu_model.h that gives a model of another prefix, with this header, the names that the C in
    engine/boards knows."""
    macro = prefix.upper()
    macros = [name for name in re.findall(rf"#define {macro}_(\w+)", header) if name not in ("MODEL_H", "FILES")]
    lines = [f"#define MCU_{name} {macro}_{name}" for name in macros]
    lines += [f"#define mcu_{name} {prefix}_{name}" for name in API]
    guard = "#ifndef MCU_MODEL_H\n#define MCU_MODEL_H"
    return f'/* {prefix}_model.h under the names of one model. */\n{guard}\n#include "{prefix}_model.h"\n' + "\n".join(
        [*lines, "#endif\n"]
    )


def header_text(folder: str | Path, prefix: str) -> str:
    """Return the text of the model's header."""
    return (Path(folder) / f"{prefix}_model.h").read_text(encoding="utf-8", errors="replace")


def sources(folder: Path) -> list[Path]:
    """Return the C files of the model in `folder`. Raises UserError where it holds none."""
    prefix_of(folder)
    return sorted(folder.glob("*.c"))


def content_of(folder: Path) -> str:
    """Return 16 hex digits that change with what the C files and headers in `folder` hold."""
    files = sorted(path for pattern in ("*.c", "*.h") for path in folder.glob(pattern))
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def build_folder(folder: Path) -> Path:
    """Make the place for objects and programs, and return it."""
    (folder / "build").mkdir(exist_ok=True)
    return folder / "build"


def write_picture(folder: Path, picture: np.ndarray) -> None:
    """Write the file that engine/boards/picture.S includes. Raises UserError for a picture of another size."""
    write_atomic(folder / "build" / "picture.rgb", checked_picture(picture, input_shape(folder)).tobytes())
