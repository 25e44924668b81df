"""The Cortex-M cores: what the compiler and the emulator need to know of each, whatever board carries it."""

from dataclasses import dataclass

__all__ = ["CORES", "Core"]


@dataclass(frozen=True)
class Core:
    """Hold a core by gcc's -mcpu name. fpu: whether every device of ours with it has one, so that floats are passed in
    its registers; qemu: the machine that emulates it. A Cortex-M0+ runs on a Cortex-M3, which has all of its
    instructions, and needs as many of them."""

    fpu: bool
    qemu: str


CORES = {
    "cortex-m0plus": Core(False, "mps2-an385"),
    "cortex-m3": Core(False, "mps2-an385"),
    "cortex-m4": Core(True, "mps2-an386"),
    "cortex-m7": Core(True, "mps2-an500"),
}
