"""A saved model applied: predictions, attention maps, reconstructed signals, export to ONNX."""
