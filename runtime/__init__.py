"""Stream video through a bundle: numpy, OpenCV, PyAV and one engine library, never torch.

from runtime import Segmenter, stream
segmenter = Segmenter("bundles/dlse_hed-fp16")
labels = segmenter(image)  # (H, W, 3) uint8 BGR → (H, W) uint8

for prediction in stream("drive.mp4", "bundles/dlse_hed-fp16"):
    print(prediction.frame.time_s, prediction.labels.shape, prediction.infer_ms)
"""

from runtime.interrupt import end_quietly as end_quietly  # first: the imports below take a while
from runtime.pipeline import stream
from runtime.segment import Prediction, Segmenter

__all__ = ["Prediction", "Segmenter", "stream"]
