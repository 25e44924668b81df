"""Print the C initialisers that several operators share. It knows no operator."""

import numpy as np

from ...core.ir.graph import Op
from .requantise import Factor


def window(op: Op) -> str:
    """Initialise kernel and stride of a struct."""
    return f".kh = {op.k[0]}, .kw = {op.k[1]}, .sh = {op.s[0]}, .sw = {op.s[1]}"


def factor(f: Factor) -> str:
    """Initialise an mcu_factor."""
    return f"{{{f.mult}, {f.left}, {f.right}}}"


def array(ctype: str, name: str, values: np.ndarray) -> str:
    """Define a static array of the values, flat, at an address that words can be read from."""
    flat = [str(int(v)) for v in np.asarray(values).ravel()]
    rows = [",".join(flat[i : i + 32]) for i in range(0, len(flat), 32)]
    body = ",\n    ".join(rows)
    return f"static const {ctype} {name}[{len(flat)}] __attribute__((aligned(4))) = {{\n    {body}}};\n"
