"""From a checkpoint to a bundle: one ONNX graph from camera frame to labels, with its manifest."""

LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript")  # of the extra
