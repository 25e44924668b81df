"""Plan a network for a board in ten lines: python examples/plan.py [NETWORK] [BOARD]"""

import sys

import nni_mcunet as mcu

name, board = [*sys.argv[1:], *("mcunet_in3", "stm32f412")[len(sys.argv) - 1 :]][:2]
network = mcu.load(name)
whole, best = mcu.plan(network), mcu.best_schedule(network, board, objective="sram", max_overhead=0.05)
print(f"{name}, {whole.macs / 1e6:.1f} M MACs, {whole.flash / 1024:.0f} kB of weights")
print(f"layer by layer: {whole.arena / 1024:.1f} kB of SRAM")
print(f"{best.schedule}: {best.arena / 1024:.1f} kB, {best.overhead:+.1%} MACs")
print(f"{board} has {mcu.boards()[board].sram / 1024:.0f} kB")
