"""The Cortex-M cores: what the compiler, the emulator and the estimates need to know of each, on whatever board."""

from dataclasses import dataclass

__all__ = ["CORES", "Core"]


@dataclass(frozen=True)
class Core:
    """Hold a core by gcc's -mcpu name.

    fpu     whether devices with it have one, so that floats are passed in its registers
    weights how convolutions' weights lie best for it: "raw" for the DSP extension, "rows" for vectors (Helium), ""
            for neither, see mcu.h
    pairs   whether it issues a load together with the multiplication before it, for which the kernels have an order
    qemu    the machine that emulates it. A Cortex-M0+ runs on a Cortex-M3, which has all of its instructions
    board   the board of ours whose memory stands for one that states none; None: a memory that never waits
    timing  the core of latency.json whose table stands for its own; None: there is none. An estimate: Arm states no
            timings of the Cortex-M33 and M55, which need fewer cycles than a Cortex-M4 for the same code, if any differ
    """

    fpu: bool
    weights: str
    pairs: bool
    qemu: str
    board: str | None = None
    timing: str | None = None


CORES = {
    "cortex-m0plus": Core(False, "", False, "mps2-an385"),
    "cortex-m3": Core(False, "", False, "mps2-an385"),
    "cortex-m4": Core(True, "raw", False, "mps2-an386", "stm32f412", "cortex-m4"),
    "cortex-m7": Core(True, "raw", True, "mps2-an500", "stm32h743", "cortex-m7"),
    "cortex-m33": Core(True, "raw", False, "mps2-an505", "stm32u575", "cortex-m4"),
    "cortex-m55": Core(True, "rows", False, "mps3-an547", "stm32n657", "cortex-m4"),
}
