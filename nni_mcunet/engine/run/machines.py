"""QEMU's machines whose memory map, UART and timer the programs of boards/mps2.* know."""

from dataclasses import dataclass

from .toolchain import RUNTIME

MB = 1 << 20


@dataclass(frozen=True)
class Machine:
    """Hold addresses of a machine's memories and devices. picture: of the memory that stands for the camera; script:
    the linker's; counter: the address of what the timer shows, where that is no timer of the MPS2 boards; quarters:
    the length of a tick, in quarters of a nanosecond."""

    flash: int = 0x00000000
    picture: int = 0x21000000
    picture_bytes: int = 16 * MB
    sram: int = 0x20000000
    sram_bytes: int = 8 * MB
    uart: int = 0x40004000
    timer: int = 0x40000000
    counter: int = 0
    quarters: int = 160
    script: str = "mps2.ld"

    @property
    def defines(self) -> list[str]:
        """Return the compiler's flags for boards/mps2.c."""
        values = {"MCU_UART": self.uart, "MCU_TIMER": self.timer, "MCU_COUNTER": self.counter}
        return [*(f"-D{name}={value:#x}u" for name, value in values.items()), f"-DMCU_QUARTERS={self.quarters}u"]

    @property
    def link(self) -> list[str]:
        """Return the linker's flags of a program for the machine."""
        places = {"FLASH_AT": self.flash, "PICTURE_AT": self.picture, "SRAM_AT": self.sram}
        symbols = places | {"PICTURE_BYTES": self.picture_bytes}
        addresses = [f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()]
        return [*addresses, f"-L{RUNTIME}", "-T", str(RUNTIME / self.script)]


MPS2 = Machine()
SECURE = 0x10000000  # on the TrustZone machines, which begin in the secure state, what is not so lies this much lower
MACHINES = {
    "mps2-an385": MPS2,
    "mps2-an386": MPS2,
    "mps2-an500": Machine(picture=0x60000000),
    "mps2-an511": MPS2,
    "mps2-an505": Machine(
        SECURE, SECURE + 3 * MB, MB, 0x28000000 + SECURE, 4 * MB, 0x40200000 + SECURE, 0x40000000 + SECURE, quarters=200
    ),
    "mps3-an547": Machine(
        0x60000000 + SECURE, 0x6F000000 + SECURE, 16 * MB, 0x21000000 + SECURE, 4 * MB, 0x49303000 + SECURE,
        0x48000000 + SECURE, 0x48100000 + SECURE, 125, "mps3.ld",
    ),
}  # fmt: skip
