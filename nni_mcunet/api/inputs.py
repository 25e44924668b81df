"""Check what a Python user hands in: every mistake becomes a UserError of one line that says what was expected."""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeGuard, TypeVar

from ..core.boards import Board, get_board
from ..core.errors import UserError, file_error
from ..core.ir.arch import Schedule
from ..core.types import FilePath
from ..core.validate import integer, short

if TYPE_CHECKING:
    import torch

    Module: TypeAlias = torch.nn.Module | torch.export.ExportedProgram

P = ParamSpec("P")
T = TypeVar("T")


def user_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` with a UserError instead of the OSError of a file that cannot be read or written."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.filename is None:
                raise
            raise UserError(file_error(error)) from None

    return called


def path_of(value: object, what: str) -> Path:
    """Return a name of a file or folder as Path. Raises UserError for any other type, an empty name or a NUL byte."""
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip() or "\0" in str(value):
        raise UserError(f"{what} is {short(value)}: expected the name of a file or folder")
    return Path(value)


def board_of(board: FilePath | Board, arena_kb: int | None = None) -> Board:
    """Return a board by name or from its file, with at most `arena_kb` kB of SRAM for the network. Raises BoardError
    for an unknown one, UserError for any other type."""
    if not isinstance(board, Board):
        if not isinstance(board, (str, os.PathLike)):
            raise UserError(f"board is {short(board)}: expected a name such as 'stm32f412', or a board's file")
        board = get_board(str(board))
    return board.with_arena(None if arena_kb is None else 1024 * integer(arena_kb, "arena_kb"))


def schedule_of(schedule: Schedule | None) -> Schedule | None:
    """Return the schedule. Raises UserError for any other type."""
    if schedule is not None and not isinstance(schedule, Schedule):
        raise UserError(f"schedule is {short(schedule)}: expected one such as mcu.Schedule(p=(3, 3), n=5)")
    return schedule


def number(name: str, value: float) -> float:
    """Return the argument `name`. Raises UserError unless it is a number; its bounds are for those who use it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{name} is {short(value)}: expected a number")
    return value


def numbers(name: str, values: Iterable[float] | None) -> list[float] | None:
    """Return the argument `name` as a list, None as it is. Raises UserError unless it holds finite numbers."""
    if values is None:
        return None
    found = list(values) if isinstance(values, Iterable) else [values]
    try:
        finite = all(math.isfinite(value) for value in found)
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        raise UserError(f"{name} is {short(values)}: expected a number for each channel, such as [0, 0, 0]")
    return found


def each_channel(name: str, value: float | Iterable[float], channels: int = 1) -> list[float]:
    """Return the argument `name`, one number for all channels or one each, as a list. Raises UserError unless it holds
    finite numbers; how many they must be is for those who use it."""
    if isinstance(value, (int, float)):
        return [float(v) for v in numbers(name, [value]) or []] * channels
    return numbers(name, value) or []


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return the argument `name`. Raises UserError unless it is one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise UserError(f"{name} is {short(value)}: expected one of {', '.join(known)}")
    return value


def is_module(source: object) -> "TypeGuard[Module]":
    """Tell whether it is a torch.nn.Module or a torch.export.ExportedProgram. This imports no torch: who has a module,
    has imported it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(source, torch.nn.Module) or type(source).__name__ == "ExportedProgram"
