"""No command: --cfg-options KEY=VALUE ..., as mmengine reads them, with one line for what is no such pair."""

from mmengine.config import DictAction


class Options(DictAction):
    """mmengine's action for argparse, whose errors would be tracebacks."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, IndexError):
            parser.error(f"{option_string} {' '.join(values)[:200]}: expected KEY=VALUE pairs, brackets closed")
