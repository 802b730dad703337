"""How sure a model is: the highest of its classes' probabilities, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np

from runtime.bundle.classes import IGNORE, ClassSet

_ROUNDING = 0.02  # INT8's, of a few classes that share a pixel


def confidences(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32 scores → (H, W) float32: the softmax's maximum, at ``size`` (H, W).

    Networks of others may answer probabilities, of which no softmax is made again. Scores are
    upsampled bilinearly first, as they are for labels. One class after the other, twice: all of
    them at full size would be hundreds of megabytes.
    """
    wide = (size[1], size[0])
    peak = np.full(size, -np.inf, np.float32)
    for plane in scores:
        cv2.max(peak, cv2.resize(plane, wide, interpolation=cv2.INTER_LINEAR), peak)
    if _are_shares(scores):
        return peak
    total = np.zeros(size, np.float32)
    for plane in scores:
        total += cv2.exp(cv2.resize(plane, wide, interpolation=cv2.INTER_LINEAR) - peak)
    return 1 / total


def _are_shares(scores: np.ndarray) -> bool:
    """Whether the scores of each pixel are none below 0 and add up to 1, but for rounding."""
    return bool(scores.min() >= -_ROUNDING and abs(scores.sum(0) - 1).max() <= _ROUNDING)


def certain(labels: np.ndarray, confidence: np.ndarray, least: float) -> np.ndarray:
    """(H, W) uint8 ``labels``, but 255 where the ``confidence`` is below ``least``."""
    return np.where(confidence < least, np.uint8(IGNORE), labels)


class ClassConfidence:
    """The mean confidence of each class, over all pixels that were given to it so far."""

    def __init__(self, classes: ClassSet) -> None:
        self._names = classes.names
        self._pixels = np.zeros(len(classes), np.int64)
        self._sums = np.zeros(len(classes))

    def update(self, labels: np.ndarray, confidence: np.ndarray) -> None:
        """Count a frame: (H, W) uint8 labels and their (H, W) float32 confidences."""
        values, count = labels.ravel(), len(self._names)
        self._pixels += np.bincount(values, minlength=count)
        self._sums += np.bincount(values, confidence.ravel(), count)

    def means(self) -> dict[str, float | None]:
        """0..1 by class name; None of a class that no pixel was given to."""
        pairs = zip(self._names, self._sums, self._pixels, strict=True)
        return {name: float(total / n) if n else None for name, total, n in pairs}
