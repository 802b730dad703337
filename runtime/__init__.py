"""Stream video through a bundle: numpy, OpenCV, PyAV and one engine library, never torch.

from runtime import Segmenter, stream
segmenter = Segmenter("bundles/dlse_hed-fp16")
labels = segmenter(image)  # (H, W, 3) uint8 BGR → (H, W) uint8

for prediction in stream("drive.mp4", "bundles/dlse_hed-fp16"):
    print(prediction.frame.time_s, prediction.labels.shape, prediction.infer_ms)
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from runtime.interrupt import end_quietly as end_quietly  # first: all else takes a while

if TYPE_CHECKING:
    from runtime.pipeline import stream
    from runtime.segment import Prediction, Segmenter

# OpenVINO and NNCF report that they are used to a server of Google's, OpenVINO from a process that
# it forks beside our threads. Both go on without where the module that does it is not to be had.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# ONNX Runtime does so from 1.29 on, on Linux and Macs, to Microsoft: the model's names and hashes,
# and an id that it keeps of the machine. It looks here once, as it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Prediction", "Segmenter", "stream"]
# Imported on first use: a Segmenter alone needs no decoder of videos.
_HOMES = {
    "Prediction": "runtime.segment",
    "Segmenter": "runtime.segment",
    "stream": "runtime.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
