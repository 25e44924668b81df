"""Compile generated C to WebAssembly, for a page that runs the network itself."""

import tempfile
from pathlib import Path

from .generated import build_folder, content_of, sources
from .toolchain import RUNTIME, ZIG, compile_c

# A reactor is a library: its functions are called, it has no main. It asks the page for nothing.
FLAGS = ["-O2", "-s", "-target", "wasm32-wasi", "-mexec-model=reactor"]


def build_wasm(folder: str | Path) -> bytes:
    """Return the module of the model in `folder`, whose functions boards/page.c names. Raises UserError where the
    compiler is not installed, FirmwareError where the C does not compile."""
    folder = Path(folder)
    # The compiler's cache knows a header by the place where it found it first: boards/page.c of another model, with the
    # same words, would be the object of that header's sizes.
    content = f"-DMCU_CONTENT=0x{content_of(folder)}"
    with tempfile.TemporaryDirectory(dir=build_folder(folder)) as fresh:
        out = Path(fresh) / "model.wasm"
        compile_c(ZIG, [*FLAGS, content], [*sources(folder), RUNTIME / "page.c"], folder, out)
        return out.read_bytes()
