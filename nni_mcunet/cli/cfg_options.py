"""Read --cfg-options KEY=VALUE ... as mmengine reads them. No command: an action for argparse.

mmengine is imported only when such an option is given."""

import argparse
from collections.abc import Sequence
from typing import Any

from ..core.yapf_import import import_yapf

HELP = "key=value pairs merged into the config"


class Options(argparse.Action):
    """Call mmengine's action, whose errors would be tracebacks; a word that is no such pair is one line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Put the pairs of one option into the namespace."""
        import_yapf()
        from mmengine.config import DictAction

        try:
            DictAction(self.option_strings, self.dest, nargs="+")(parser, namespace, values, option_string)
        except (ValueError, AssertionError, IndexError):
            parser.error(f"{option_string} {' '.join(values or ())[:200]}: expected KEY=VALUE pairs, brackets closed")


def add_options(parser: argparse.ArgumentParser, action: type[Options] = Options) -> None:
    """Add --cfg-options."""
    parser.add_argument("--cfg-options", nargs="+", action=action, metavar="KEY=VALUE", help=HELP)
