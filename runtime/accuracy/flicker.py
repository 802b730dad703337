"""Flicker: labels against those of the frame before, moved along the optical flow."""

from __future__ import annotations

import cv2
import numpy as np

_FLOW_WIDTH = 320  # of the frames that optical flow is computed on


class Flicker:
    """Share of pixels whose label is not the one that moved there, frame by frame.

    The labels before are warped along the optical flow (DIS, Kroeger et al., ECCV 2016), computed
    at 320 pixels' width; pixels that came from outside the frame do not count. What is uncovered
    by a moving object does, so that a model without any flicker is above 0: compare two models.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: np.ndarray | None = None
        self._map: np.ndarray | None = None

    def follow(self, image: np.ndarray) -> None:
        """Take the next (H, W, 3) uint8 BGR frame."""
        size = scaled_size(image, _FLOW_WIDTH)
        now = cv2.cvtColor(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
        )
        self._map = None
        if self._before is not None and self._before.shape == now.shape:
            grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1)
            back = self._flow.calc(now, self._before, None)
            self._map = (grid + back).astype(np.float32)
        self._before = now

    def share(self, before: np.ndarray, labels: np.ndarray) -> float | None:
        """Of (H, W) uint8 ``labels`` against those of the frame before; None without flow."""
        if self._map is None or before.shape != labels.shape:
            return None
        size = (self._map.shape[1], self._map.shape[0])
        old, new = (cv2.resize(x, size, interpolation=cv2.INTER_NEAREST) for x in (before, labels))
        moved = cv2.remap(old, self._map, None, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, 255)
        inside = moved != 255
        return float((moved != new)[inside].mean()) if inside.any() else None


def scaled_size(image: np.ndarray, width: int) -> tuple[int, int]:
    """(width, height) of at most ``width``, in the proportions of ``image``."""
    scale = min(1.0, width / image.shape[1])
    return max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
