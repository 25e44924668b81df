"""The bound of the stack read out of an ELF's code: by hand for a few functions, above the painted one on a board."""

import subprocess

import pytest

from nni_mcunet.core.errors import FirmwareError
from nni_mcunet.engine.run import toolchain
from nni_mcunet.engine.run.stack_bound import functions_of, stack_bound

ASSEMBLY = """
.syntax unified
.thumb
.global mcu_reset
.type mcu_reset, %function
mcu_reset: push {r7, lr}
  bl outer
  pop {r7, pc}
.type outer, %function
outer: stmdb sp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}
  vpush {d8-d10}
  sub sp, #44
1: cbz r0, 2f
  ldr r3, =pointed
  blx r3
  b 1b
2: add sp, #44
  vpop {d8-d10}
  ldmia sp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}
  b.w last
.type last, %function
last: str lr, [sp, #-8]!
  sub.w sp, sp, #500
  add.w sp, sp, #500
  ldr pc, [sp], #8
.type pointed, %function
pointed: push {r0}
  EXTRA
  strd r4, r5, [sp, #-16]!
  ldrd r4, r5, [sp], #16
  pop {r0}
  bx lr
"""


def elf_of(tmp_path, extra="nop"):
    source, elf = tmp_path / "a.s", tmp_path / "a.elf"
    source.write_text(ASSEMBLY.replace("EXTRA", extra))
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-nostdlib", "-Wl,-emcu_reset"]
    subprocess.run([toolchain.tool("arm-none-eabi-gcc"), *flags, str(source), "-o", str(elf)], check=True)
    return elf


def test_by_hand(tmp_path):
    elf = elf_of(tmp_path)
    text = toolchain.output("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(elf))
    frames = {name: f.frame for name, f in functions_of(text).items()}
    assert frames == {"mcu_reset": 8, "outer": 36 + 24 + 44, "last": 8 + 500, "pointed": 4 + 16}
    assert stack_bound(elf) == 8 + 104 + 508  # a jump at the end counts as a call


@pytest.mark.parametrize(
    "extra, word", [("bl outer", "recursive"), ("bl pointed", "recursive"), ("sub sp, r3", "no bound")]
)
def test_what_has_no_bound(extra, word, tmp_path):
    with pytest.raises(FirmwareError, match=word):
        stack_bound(elf_of(tmp_path, extra))
