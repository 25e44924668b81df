"""Pictures as the network reads them: uint8 RGB of its size, resized as mmdet's Resize(keep_ratio=False) does."""

from pathlib import Path

import cv2
import numpy as np

from ..core.errors import UserError
from ..core.validate import file_text, short

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def load_picture(path, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 RGB. Raises FileNotFoundError, or UserError for a file that is no picture."""
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UserError(f"{path}: not a picture that OpenCV reads; give a JPEG or PNG file")
    return cv2.cvtColor(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)


def list_pictures(folder, names: str | None = None, most: int | None = None) -> list[Path]:
    """Pictures of a folder by name, or those that the text file `names` lists (one stem a line, as VOC's ImageSets);
    at most `most`, evenly spread. Raises UserError where none is found."""
    files = {p.stem: p for p in sorted(Path(folder).iterdir()) if p.suffix.lower() in SUFFIXES}
    if names is not None:
        wanted = [line.split()[0] for line in file_text(names).splitlines() if line.strip()]
        absent = [n for n in wanted if n not in files]
        if absent:
            raise UserError(f"{names} lists {short(absent[0])}, which {folder} has not as {', '.join(SUFFIXES)}")
        files = {n: files[n] for n in wanted}
    found = list(files.values())
    if not found:
        raise UserError(f"{folder}: no picture ({', '.join(SUFFIXES)}) to read")
    if most is not None and len(found) > most:
        found = [found[i * len(found) // most] for i in range(most)]
    return found
