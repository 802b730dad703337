"""Frame → labels: the runtime's Python API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.engine import load_engine
from runtime.frames import Frame


@dataclass(frozen=True)
class Prediction:
    """A frame and what the engine answered.

    labels: (H, W) uint8 training ids at the frame's own size; infer_ms: host resize (where the
    frame is not of the graph's size), engine, and label resize.
    """

    frame: Frame
    labels: np.ndarray
    infer_ms: float


class Segmenter:
    """A bundle, loaded: call it on a (H, W, 3) uint8 BGR image, get (H, W) uint8 labels.

    Images of another size than the graph's are resized to it (bilinear) and the labels back
    (nearest). ``manifest`` tells classes, colours, precision and measured accuracy. Raises
    HedgeError for a damaged bundle or a missing library.
    """

    def __init__(self, bundle: str | Path, backend: str = "auto", threads: int = 0) -> None:
        self._engine = load_engine(Path(bundle), backend, threads)
        self.manifest = self._engine.manifest
        self.backend = self._engine.backend
        self._batch = np.empty(self.manifest.input.shape, np.uint8)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 BGR, got {image.dtype} {image.shape}")
        _, height, width, _ = self._batch.shape
        if image.shape[:2] == (height, width):
            self._batch[:] = image
        else:
            self._batch[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        labels = self._engine.infer(self._batch)[0]
        if labels.shape != image.shape[:2]:
            size = (image.shape[1], image.shape[0])
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        return labels

    def predict(self, frame: Frame) -> Prediction:
        """Segment ``frame`` and time it."""
        start = time.perf_counter()
        labels = self(frame.image)
        return Prediction(frame, labels, (time.perf_counter() - start) * 1e3)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
