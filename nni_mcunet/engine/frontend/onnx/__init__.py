"""ONNX in and out. Of the engine the onnx_*.py files alone import onnx."""

from .read import load_onnx
from .write import save_onnx, to_onnx

__all__ = ["load_onnx", "save_onnx", "to_onnx"]
