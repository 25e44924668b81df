"""Compile generated C to WebAssembly, for a page that runs the network itself."""

import hashlib
import tempfile
from pathlib import Path

from .generated import build_folder, sources
from .toolchain import RUNTIME, ZIG, compile_c

# A reactor is a library: its functions are called, it has no main. It asks the page for nothing.
FLAGS = ["-O2", "-s", "-target", "wasm32-wasi", "-mexec-model=reactor"]


def build_wasm(folder: str | Path) -> bytes:
    """Return the module of the model in `folder`, whose functions boards/page.c names. Raises UserError where the
    compiler is not installed, FirmwareError where the C does not compile."""
    folder = Path(folder)
    with tempfile.TemporaryDirectory(dir=build_folder(folder)) as fresh:
        out = Path(fresh) / "model.wasm"
        compile_c(
            ZIG, [*FLAGS, f"-DMCU_CONTENT={_content(folder)}"], [*sources(folder), RUNTIME / "page.c"], folder, out
        )
        return out.read_bytes()


def _content(folder: Path) -> str:
    """Return a number of what the folder's C holds. The compiler's cache knows a header by the place where it found it
    first: boards/page.c of another model, with the same words, would be the object of that header's sizes."""
    files = sorted(path for pattern in ("*.c", "*.h") for path in folder.glob(pattern))
    found = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    return f"0x{found.hexdigest()[:16]}"
