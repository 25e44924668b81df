"""Errors a user can act on: each message names the thing and the remedy. The rest are bugs and may trace back."""

import contextlib
import sys
import traceback


class UserError(ValueError):
    """Base class: something in the input is wrong. Command lines print the message and exit with code 2."""


class ArchError(UserError):
    """A malformed architecture: unknown key, wrong type, impossible value."""


class GraphError(UserError):
    """A graph that cannot be computed: a shape that vanishes, a dangling name, a cycle."""


class UnsupportedOp(UserError):
    """An operator or attribute the engine does not know; the message says which and what to use instead."""


class ScheduleError(UserError):
    """A patch schedule (p, n) that the graph does not allow."""


class Infeasible(UserError):
    """Nothing meets a limit: `what` ("sram", "flash", "macs"), the smallest figure reached `needed`, the `limit`."""

    what: str
    needed: int
    limit: int

    @classmethod
    def over(cls, what: str, needed: int, limit: int, where: str) -> "Infeasible":
        unit = "MACs" if what == "macs" else "bytes"
        error = cls(f"{where}: needs {needed:,} {unit} of {what}, {limit:,} are there; use a smaller network or board")
        error.what, error.needed, error.limit = what, needed, limit
        return error


class BoardError(UserError):
    """An unknown board or a malformed board file."""


class FirmwareError(UserError):
    """Generated C that does not compile, or a program of it that does not come to its end or to the expected bytes."""


@contextlib.contextmanager
def exit_on_user_error():
    """Around a command's main(): a UserError or an unreadable file becomes one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:  # not about a file the user named
            traceback.print_exc()
            sys.exit(1)
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        print(f"error: {reason}: {error.filename}", file=sys.stderr)
        sys.exit(2)
