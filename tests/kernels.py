"""The C kernels as a library of this process, and the same tests once more under the sanitizers."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from nni_mcunet.engine.codegen.sources import KERNELS
from nni_mcunet.engine.run.host import SANITIZERS
from nni_mcunet.engine.run.toolchain import WARNINGS

SANITIZED = "MCU_SANITIZED"  # set in the subprocess that repeats tests under sanitizers
I16, I32, U8, I8 = ctypes.c_int16, ctypes.c_int32, ctypes.c_uint8, ctypes.c_int8


def at(array):
    return None if array is None else array.ctypes.data


def kernel_library(folder: Path) -> ctypes.CDLL:
    path = folder / "kernels.so"
    flags = SANITIZERS if SANITIZED in os.environ else ["-O2"]
    command = ["gcc", *WARNINGS, *flags, "-shared", "-fPIC", *map(str, KERNELS.glob("*.c")), "-o", str(path)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


def run_sanitized(file: str, names: str) -> None:
    """The tests of a file whose names match `names`, with address and undefined-behaviour sanitizers in the kernels."""
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    env = {**os.environ, SANITIZED: "1", "LD_PRELOAD": asan.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", names]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
