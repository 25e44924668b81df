"""Read and write ONNX files. No other part of the engine imports onnx."""

from .read import load_exported, load_onnx
from .write import save_onnx, to_onnx

__all__ = ["load_exported", "load_onnx", "save_onnx", "to_onnx"]
