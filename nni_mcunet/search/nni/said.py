"""Say what a user shall see of nnictl: without colours where no terminal shows them, its commands by the name that they
have here, and no warning that asks for nothing. With --verbose NNI's own lines."""

import re
from typing import TextIO

from ...core.errors import verbose

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OWN_NAME = re.compile(r"(?<![-\w/.])nnictl(?= [a-z])")
HIDDEN = "Timeout, retry..."  # NNI's manager is still starting: nnictl asks it again, for a minute


def plain(stream: TextIO) -> None:
    """Let a stream leave out what is not for a user."""
    write, coloured = stream.write, stream.isatty()

    def said(text: str) -> int:
        shown = text if coloured else COLOUR.sub("", text)
        if not verbose():
            shown = "" if HIDDEN in shown else OWN_NAME.sub("mcunet-nnictl", shown)
        write(shown)
        return len(text)

    stream.write = said  # type: ignore[method-assign]  # NNI's handlers keep the stream itself
