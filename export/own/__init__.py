"""A checkpoint of our own training, wrapped from frame to labels and written as ONNX."""
