"""Stream video through a bundle: numpy, OpenCV, PyAV and one engine library, never torch.

from runtime import Segmenter
segmenter = Segmenter("bundles/dlse_hed-fp16")
labels = segmenter(image)  # (H, W, 3) uint8 BGR → (H, W) uint8
"""

from runtime.segment import Prediction, Segmenter

__all__ = ["Prediction", "Segmenter"]
