"""Read .tflite files. No other part of the engine imports their schema; nothing here writes one."""

from .file import is_tflite
from .read import load_tflite

__all__ = ["is_tflite", "load_tflite"]
