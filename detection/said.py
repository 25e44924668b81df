"""Say what a user shall see of a training or a test: of all that mmengine's log file gets, our lines and errors; with
--verbose all of mmengine's and mmdet's, too."""

import contextlib
import logging
import os
from collections.abc import Iterator

from mmengine.logging import MMLogger

from nni_mcunet.core.errors import verbose

EMPTY = "The testing results of the whole dataset is empty"  # mmdet's error where a young detector finds nothing


def tell(text: str, level: int = logging.INFO) -> None:
    """Write a line of ours into mmengine's current log."""
    MMLogger.get_current_instance().log(level, text, extra={"told": True})


def only_ours(logger: MMLogger) -> None:
    """Leave mmengine's and mmdet's lines out of what a logger shows, not out of its file. --verbose keeps them."""
    if verbose():
        return
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(_is_shown)
            handler.setFormatter(_Plain())


def _is_shown(record: logging.LogRecord) -> bool:
    told = getattr(record, "told", False)
    return told or (record.levelno >= logging.ERROR and EMPTY not in record.getMessage())


@contextlib.contextmanager
def without_prints() -> Iterator[None]:
    """Leave out what pycocotools prints, unless --verbose was given. A logger that is there already writes on."""
    with contextlib.ExitStack() as stack:
        if not verbose():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{level}{record.getMessage()}"
