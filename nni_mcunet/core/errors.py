"""Define the errors a user can act on: each message names the thing and the remedy. Any other error is a bug and may
trace back."""

import contextlib
import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:  # it imports numpy, which `mcunet --help` does not wait for
    from .types import FilePath

VERBOSE = "MCUNET_VERBOSE"  # in the environment, so that the programs that a command starts have it, too
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class UserError(ValueError):
    """Base class: something in the input is wrong. Command lines print the message and exit with code 2."""


class ArchError(UserError):
    """A malformed architecture: unknown key, wrong type, impossible value."""


class GraphError(UserError):
    """A graph that cannot be computed: a shape that vanishes, a dangling name, a cycle."""


class UnsupportedOp(UserError):
    """An operator or attribute the engine does not know; the message says which and what to use instead."""


class Note(UserWarning):
    """Base class: what a user should know of a file, though it was read. Command lines print it as one line."""


class CutWarning(Note):
    """A file's network ends earlier than the file; the message says where and why."""


class PixelsWarning(Note):
    """Nobody said what the byte of a picture is to an int8 file of others; the message says what is assumed."""


class RoomWarning(Note):
    """The schedule of the least computation leaves no room for a picture's source; the message says what is taken."""


class PictureNote(Note):
    """A picture has more than the network reads of it: deeper pixels, or colours."""


class PassedOver(Note):
    """Files of a folder that are not read; the message counts and names them."""


class ScheduleError(UserError):
    """A patch schedule (p, n) that the graph does not allow."""


class Infeasible(UserError):
    """Nothing meets a limit: `what` ("sram", "flash", "macs"), the smallest figure reached `needed`, the `limit`."""

    what: str
    needed: float
    limit: float

    @classmethod
    def over(cls, what: str, needed: int, limit: int, where: str) -> "Infeasible":
        """Make the error of a network that needs more of `what` than `limit`."""
        unit = "MACs" if what == "macs" else "bytes"
        advice = "a smaller network or a larger board"
        if what == "sram":
            advice = f"patches over more blocks, finer ones, {advice}"
        error = cls(f"{where}: needs {needed:,} {unit} of {what}, {limit:,} are there; use {advice}")
        error.what, error.needed, error.limit = what, needed, limit
        return error


class BoardError(UserError):
    """An unknown board or a malformed board file."""


class FirmwareError(UserError):
    """Generated C that does not compile, or a program of it that does not come to its end or to the expected bytes."""


MOST = 1500  # characters of a message that are shown
LONGEST = 300  # of a word in it, such as the name of a file, which some programs and files have by mistake


def one_line(message: object) -> str:
    """Return `message` on one line and without control characters. The middle of a very long one is left out, since the
    remedy stands at the end. A message from a worker of a data loader loses the traceback before it."""
    text = str(message)
    if re.match(r"Caught \w+ in DataLoader worker", text):  # torch puts the worker's traceback before it
        text = text.strip().splitlines()[-1].partition(": ")[2]
    words = " ".join(text.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    text = re.sub(rf"\S{{{LONGEST + 1},}}", lambda found: _without_middle(found[0]), text)
    return text if len(text) <= MOST else f"{text[: MOST // 2]} ... {text[-MOST // 2 :]}"


def _without_middle(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 + 3 :]}"


def file_error(error: OSError) -> str:
    """Say which file could not be read or written, and why."""
    return f"{reason_of(error)}: {_without_middle(str(error.filename))}"


def reason_of(error: OSError) -> str:
    """Say in words why a file could not be read or written."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return "no such file"
    return error.strerror or type(error).__name__


@contextlib.contextmanager
def writing(path: "FilePath") -> Iterator[None]:
    """Guard others' code that writes below `path`. For a full or read-only disk Python names no file, or one that the
    user does not know: the error becomes a UserError naming `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UserError(f"cannot write {path}: {reason_of(error)}; make room or name another place") from None


def verbose() -> bool:
    """Say whether the lines of others (mmengine, mmdet, torch, NNI) are asked for, with --verbose."""
    return bool(os.environ.get(VERBOSE))


def _shown(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Print a Note as one line, and where they are asked for, warnings of others by the function that showed them
    before."""
    if issubclass(category, Note):
        print(f"note: {one_line(message)}", file=sys.stderr)
    elif verbose():
        others(message, category, *where)


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Guard a command's main(). A Note becomes one line on stderr. So does a UserError, a file that cannot be
    read or written or a lack of memory, with exit code 2. Ctrl-C exits with code 130, a reader that has gone away with
    141, as in a shell."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_shown, warnings.showwarning)
            yield
        sys.stdout.flush()  # a full disk behind it is said here, not behind Python's end
    except UserError as error:
        _exit(2, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
        sys.exit(141)
    except OSError as error:
        if error.filename is not None:
            _exit(2, file_error(error))
        if error.errno in DISK or isinstance(error, FileNotFoundError):  # no temporary folder anywhere
            _exit(2, reason_of(error))
        traceback.print_exc()  # not about a file
        sys.exit(1)
    except MemoryError as error:
        _exit(2, f"not enough memory ({error or 'of the system'}): use a smaller file or network")
    except KeyboardInterrupt:
        sys.exit(130)


def _exit(code: int, message: object) -> NoReturn:
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
