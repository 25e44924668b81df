"""Check the TCP ports of NNI's web server on this machine."""

import errno
import socket

from ...core.errors import UserError, exit_on_user_error

NEXT_TOO = ("remote", "kubeflow", "frameworkcontroller")  # NNI takes the port behind its own for these services


class PortError(UserError):
    """Report a port that NNI cannot have."""


def free_port() -> int:
    """Return a port that no process has at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def check_port(port: int, platform: str = "local") -> None:
    """Raise PortError unless NNI's server can have the port, and the next one where the training service needs that,
    too."""
    for number in (port, port + 1) if platform in NEXT_TOO else (port,):
        if not 1 <= number <= 65535:
            raise PortError(f"port is {number}: expected a number from 1 to 65535")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as NNI's: a port that is only being closed
            try:
                sock.bind(("127.0.0.1", number))
            except OSError as error:
                reason = "in use" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
                need = "" if number == port else f", which NNI needs beside {port},"
                raise PortError(f"port {number}{need} is {reason}: name another one with --port") from None


def exit_if_busy(port: int, message: str | None = None) -> None:
    """Check a port for nnictl, whose own check ends in a traceback."""
    with exit_on_user_error():
        check_port(port)
