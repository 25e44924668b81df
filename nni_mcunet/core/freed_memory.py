"""Keep freed memory for the next training step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes: glibc takes no more


def keep_freed_memory() -> None:
    """Let glibc's allocator keep what is freed. It gives tensors of a few megabytes back to the system, which zeroes
    the same pages again for the next layer: a quarter of a training step on a CPU. Nothing happens where there is no
    glibc."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
