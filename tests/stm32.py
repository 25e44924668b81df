"""STM32s for tests: the core is Unicorn's, memory as on the board, RCC, PWR, FLASH, USART, DWT and SCB imitated in
Python after ST's and Arm's manuals. At each clock switch the rules of the manuals are asserted."""

import contextlib
import os
import threading
import time
import tty
from collections import deque
from dataclasses import dataclass, field

from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc, UcError
from unicorn.arm_const import UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M4, UC_CPU_ARM_CORTEX_M7

RAM = {"stm32f410": [(0x20000000, 32)], "stm32f411": [(0x20000000, 128)], "stm32f412": [(0x20000000, 256)],
       "stm32f746": [(0x20000000, 320)],
       "stm32h743": [(0x20000000, 128), (0x24000000, 512), (0x38000000, 64)]}  # fmt: skip
# SRAM1, 2 and 3 of the H743's D2 in sequence: (address, kilobytes), the bits of RCC_AHB2ENR that clock them. Off
# after a reset: an access is then an error.
D2_RAM, D2_CLOCKS = (0x30000000, 288), 7 << 29
PERIPHERALS = (0x40000000, 0x51008000, 0x52002000, 0x58000000, 0x5C001000, 0xE0000000)
SIZES = (0x80000, 0x1000, 0x1000, 0x40000, 0x1000, 0x100000)
AIRCR, CCR, CCSIDR, ICIALLU, DCISW, CYCCNT = 0xE000ED0C, 0xE000ED14, 0xE000ED80, 0xE000EF50, 0xE000EF60, 0xE0001004
SETS, WAYS = 128, 4


@dataclass
class Stm32:
    """A board at reset with `image` (bytes) in flash. dead: registers (address, mask) whose bits never get ready."""

    name: str
    image: bytes
    revision: int = 0x2003
    dead: tuple[tuple[int, int], ...] = ()
    damage: int | None = None  # this byte of all that a terminal sends arrives with a wrong bit
    registers: dict[int, int] = field(default_factory=dict)
    writes: list[tuple[int, int]] = field(default_factory=list)
    sent: bytearray = field(default_factory=bytearray)
    received: deque = field(default_factory=deque)
    terminal: int | None = None  # the master of a pseudo-terminal, in place of sent and received
    came: int = 0
    core_hz: float = 16e6
    regulated: bool = False  # the program has seen PWR's VOSRDY
    clocked: bool = False  # the memories of D2
    stopping: bool = False
    failure: BaseException | None = None

    def __post_init__(self):
        self.h7, self.f7 = self.name == "stm32h743", self.name == "stm32f746"
        self.f4 = not (self.h7 or self.f7)
        self.rcc = 0x58024400 if self.h7 else 0x40023800
        self.flash = 0x52002000 if self.h7 else 0x40023C00
        self.port_a = self.name in ("stm32f410", "stm32f411")
        self.usart = 0x40004400 if self.port_a else 0x40004800
        self.core_hz = 64e6 if self.h7 else 16e6
        if self.h7:
            self.registers |= {0x5802480C: 6, 0x5C001000: self.revision << 16 | 0x450, self.flash: 0x37}
            self.registers |= {self.rcc + 0x28: 0x02020200, self.rcc + 0x2C: 0x01FF0000, 0x58024818: 1 << 14}
        self.registers[CCSIDR] = (SETS - 1) << 13 | (WAYS - 1) << 3 | 1
        self.uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4 if self.f4 else UC_CPU_ARM_CORTEX_M7)
        self.uc.mem_map(0x08000000, 2048 * 1024)
        self.uc.mem_write(0x08000000, self.image)
        for place in RAM[self.name]:
            self._map(*place)
        for base, size in zip(PERIPHERALS, SIZES, strict=True):
            self.uc.mmio_map(base, size, self._read, base, self._write, base)

    def _map(self, base, kilobytes):
        self.uc.mem_map(base, kilobytes * 1024)
        self.uc.mem_write(base, b"\x5c" * kilobytes * 1024)  # a board's memory is not zero at power-on

    def run(self, seconds: float, until: bytes = b"\n\n") -> list[tuple[int, int]]:
        """From reset until it has sent `until`, waits for an interrupt or restarts, so many seconds at most; its
        register writes."""
        self.until = until
        self.deadline = time.monotonic() + seconds
        stack, entry = (int.from_bytes(self.image[i : i + 4], "little") for i in (0, 4))
        self.uc.reg_write(UC_ARM_REG_SP, stack)
        try:
            self.uc.emu_start(entry | 1, 0)
        except UcError:
            if self.failure is None:
                raise
        if self.failure is not None:
            raise self.failure
        return self.writes

    def start(self, seconds: float) -> str:
        """Run in a thread behind a pseudo-terminal; its name."""
        self.terminal, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.terminal, False)
        threading.Thread(target=self.run, args=(seconds,), daemon=True).start()
        return os.ttyname(slave)

    def _read(self, uc, offset, size, base):
        address = base + offset
        value = self.registers.get(address, 0)
        if address == CYCCNT:
            return int(time.perf_counter() * self.core_hz) & 0xFFFFFFFF
        if address == self.usart + (0 if self.f4 else 0x1C):
            value = self._usart_status()
        elif address == self.usart + (4 if self.f4 else 0x24):
            return self.received.popleft() if self.received else 0
        elif address == self.rcc:
            ready = 4 if self.h7 else 2
            value = value & ~ready | (ready if value & 1 else 0) | (value >> 24 & 1) << 25
        elif address == self.rcc + (0x10 if self.h7 else 8):
            value |= (value & 7) << 3 if self.h7 else (value & 3) << 2
        elif address == 0x40007004:  # VOSRDY needs the PLL; over-drive, which only the F7 has, VOSRDY
            vos = (self.reg(self.rcc) >> 24 & 1) << 14
            value |= vos | (self.reg(0x40007000) & 3 << 16 if vos and self.f7 else 0)
        elif address in (0x58024804, 0x58024818):
            value |= 1 << 13
        value &= ~sum(mask for at, mask in self.dead if at == address)
        self.regulated |= address == 0x40007004 and bool(value & 1 << 14)
        return value

    def _usart_status(self):
        if self.stopping or time.monotonic() > self.deadline:
            self.uc.emu_stop()
        if self.terminal is not None and not self.received:
            with contextlib.suppress(OSError):  # nothing has come
                self._receive(os.read(self.terminal, 4096))
        return 0xC0 | (0x20 if self.received else 0)

    def _receive(self, data):
        data, at = bytearray(data), -1 if self.damage is None else self.damage - self.came
        if 0 <= at < len(data):
            data[at] ^= 4
        self.came += len(data)
        self.received += data

    def _write(self, uc, offset, size, value, base):
        address = base + offset
        self.writes.append((address, value))
        self.registers[address] = value
        try:
            if address == self.usart + (4 if self.f4 else 0x28):
                self._send(value)
                self.stopping |= self.sent.endswith(self.until)
            elif address == self.rcc + (0x10 if self.h7 else 8) and value & 3:
                self.core_hz = self.switched()
            elif address == 0x40007000 and value & 1 << 16:  # over-drive
                assert self.regulated
            elif self.h7 and address == self.rcc + 0xDC and value & D2_CLOCKS == D2_CLOCKS and not self.clocked:
                self.clocked = True
                self._map(*D2_RAM)
            elif address == AIRCR:
                uc.emu_stop()
        except BaseException as error:  # a callback cannot raise through the emulator
            self.failure = error
            uc.emu_stop()

    def _send(self, byte):
        self.check_pins()
        self.check_baud()
        self.sent.append(byte)
        while self.terminal is not None:
            try:
                os.write(self.terminal, bytes([byte]))
                return
            except BlockingIOError:
                time.sleep(0.001)

    def reg(self, address):
        return self.registers.get(address, 0)

    def check_pins(self):
        """UART and port clocked, both of the Nucleo's pins given to the UART."""
        port, pins, bit = (0, (2, 3), 17) if self.port_a else (3, (8, 9), 18)
        gpio = (0x58020000 if self.h7 else 0x40020000) + 0x400 * port
        assert self.reg(self.rcc + (0xE0 if self.h7 else 0x30)) >> port & 1
        assert self.reg(self.rcc + (0xE8 if self.h7 else 0x40)) >> bit & 1
        for pin in pins:
            assert self.reg(gpio) >> 2 * pin & 3 == 2
            assert self.reg(gpio + 0x20 + pin // 8 * 4) >> pin % 8 * 4 & 15 == 7

    def check_baud(self):
        """Within 1 % of 115200 with the clock that the UART has now; transmitter and receiver on."""
        if self.h7:
            assert self.reg(self.rcc + 0x54) & 7 == 3  # USART28SEL: HSI
            kernel = 64e6
        elif self.f7:
            assert self.reg(self.rcc + 0x90) >> 4 & 3 == 2  # USART3SEL: HSI
            kernel = 16e6
        else:
            kernel = self.core_hz / {0: 1, 4: 2}[self.reg(self.rcc + 8) >> 10 & 7]
        divider = self.reg(self.usart + (8 if self.f4 else 0xC))
        assert abs(kernel / divider / 115200 - 1) < 0.01, (kernel, divider)
        enabled = self.reg(self.usart + (0xC if self.f4 else 0))
        assert enabled & 12 == 12 and enabled & (1 << 13 if self.f4 else 1)

    def switched(self) -> float:
        """The core's frequency after the switch to the PLL, which must be within what the manual allows."""
        if self.h7:
            return self._switched_h7()
        pll, control, acr, cfgr = (self.reg(a) for a in (self.rcc + 4, self.rcc, self.flash, self.rcc + 8))
        m, n, p = pll & 63, pll >> 6 & 511, 2 * (1 + (pll >> 16 & 3))
        hz = 16e6 / m * n / p
        assert 1e6 <= 16e6 / m <= 2e6 and 100e6 <= 16e6 / m * n <= 432e6
        assert control & 1 << 24 and not pll & 1 << 22 and self.regulated  # on, from HSI
        assert pll >> 28 == 2  # F4: output R halves, its least; F7: reserved, 2 after a reset
        low, high = ({4: 2, 5: 4, 6: 8}.get(cfgr >> at & 7, 1) for at in (10, 13))
        if self.f7:
            assert hz == 216e6 and acr & 15 == 7 and acr & 3 << 8 == 3 << 8
            assert self.reg(0x40007000) >> 14 & 15 == 15  # VOS scale 1, over-drive on and switched
            assert hz / low <= 54e6 and hz / high <= 108e6
        else:
            assert hz == (96e6 if self.name == "stm32f411" else 100e6) and acr & 15 >= 3 and acr >> 8 & 7 == 7
            assert self.reg(0x40007000) >> 14 & 3 == 3 and hz / low <= 50e6 and hz / high <= 100e6
        return hz

    def _switched_h7(self):
        m, n = self.reg(self.rcc + 0x28) >> 4 & 63, (self.reg(self.rcc + 0x30) & 511) + 1
        p = (self.reg(self.rcc + 0x30) >> 9 & 127) + 1
        reference, acr = 64e6 / m, self.reg(self.flash)
        hz = reference * n / p
        fast = self.revision == 0x2003
        assert self.reg(self.rcc) >> 24 & 1 and self.reg(self.rcc + 0x28) & 3 == 0
        assert 8e6 <= reference <= 16e6 and self.reg(self.rcc + 0x2C) & 15 == 3 << 2
        assert 192e6 <= reference * n <= (960e6 if fast else 836e6)
        assert hz == (480e6 if fast else 400e6) and self.reg(0x58024818) >> 14 == 3
        assert (self.reg(0x5800042C) & 1) == fast and self.reg(0x5802480C) & 7 == 2
        d1 = self.reg(self.rcc + 0x18)
        assert d1 >> 8 & 15 == 0 and d1 & 15 == 8 and d1 >> 4 & 7 == 4
        assert self.reg(self.rcc + 0x1C) & 0x770 == 0x440 and self.reg(self.rcc + 0x20) & 0x70 == 0x40
        assert acr & 15 == (4 if fast else 2) and acr >> 4 & 3 == 2
        return hz
