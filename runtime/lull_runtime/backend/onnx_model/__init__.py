"""Serves an ONNX network where Triton's image has no ONNX Runtime backend."""
