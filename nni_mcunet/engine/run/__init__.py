"""Build the generated C and run it: on this machine, under QEMU, on a board."""
