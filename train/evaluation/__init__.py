"""Accuracy of a checkpoint: image by image, and in parts on many machines."""
