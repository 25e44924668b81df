"""The compiler and the C runtime: ONNX in, int8 C with patch loops out. Stands on core, knows neither NNI nor mmdet."""
