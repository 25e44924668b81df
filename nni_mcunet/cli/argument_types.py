"""Check the numbers that flags are given, before a command's work begins. No command: types for argparse, which makes
one line and exit code 2 of what they raise."""

import argparse
import math

from ..core.validate import short

BOARD = "a name that mcunet boards lists, such as stm32f412, or a board's .yml"  # help of --board


def positive(text: str) -> int:
    """Return an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a positive integer")
    return int(text)


def fraction(text: str) -> float:
    """Return a number from 0 to 1."""
    if not 0 <= _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a number from 0 to 1")
    return float(text)


def seconds(text: str) -> float:
    """Return a finite number above 0."""
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{short(text)}: expected seconds above 0")
    return float(text)


def _number(text: str) -> float:
    """Return the number that a text is, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
