"""ONNX in and out. Of the engine the onnx_*.py files alone import onnx."""

from .onnx_read import load_onnx
from .onnx_write import save_onnx, to_onnx

__all__ = ["load_onnx", "save_onnx", "to_onnx"]
