"""Compile ONNX to int8 C with patch loops, and run it. The engine stands on core and knows neither NNI nor mmdet."""
