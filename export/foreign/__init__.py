"""A network trained elsewhere: an ONNX file or a module, from image to logits or labels."""
