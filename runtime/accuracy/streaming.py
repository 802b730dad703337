"""Accuracy at the deadline: what a viewer sees who cannot wait for the engine.

A mask that comes late is right about a street that has moved on. So each frame's truth is scored
against the mask that is there when the frame's deadline strikes: its own, or the last one finished
before (streaming accuracy; Li, Wang and Ramanan, ECCV 2020).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from runtime.accuracy.metrics import ConfusionMatrix, known
from runtime.bundle.classes import ClassSet
from runtime.segment import Prediction


@dataclass(frozen=True)
class Deadline:
    """What a ``Clock`` found; mIoU in 0..1, None before the first scored pixel."""

    fps: float
    deadline_ms: float
    miou: float | None
    frames_late: int
    frames_dropped: int
    frames_blank: int


@dataclass
class Clock:
    """Frames that arrive at ``fps`` and an engine that takes the newest whenever it is free.

    The times are those the engine took in this very run; arrivals are counted, not waited for, so
    that offline accuracy and accuracy at the deadline come from the same answers. deadline_ms:
    from a frame's arrival. late: frames whose own mask was not there; dropped: those of them that
    the engine never started, because a newer one had arrived; blank: frames before any mask, which
    are not scored.
    """

    classes: ClassSet
    fps: float
    deadline_ms: float
    matrix: ConfusionMatrix = field(init=False)
    late: int = 0
    dropped: int = 0
    blank: int = 0
    _free_ms: float = 0.0
    _arrived: int = 0
    _masks: deque[tuple[float, np.ndarray]] = field(default_factory=deque)  # by time finished

    def __post_init__(self) -> None:
        self.matrix = ConfusionMatrix(self.classes)

    def update(self, prediction: Prediction, target: np.ndarray | None) -> None:
        """Let the next frame arrive; ``target``: its (H, W) uint8 training ids, None if unknown."""
        arrival = self._arrived * 1e3 / self.fps
        self._arrived += 1
        start = max(arrival, self._free_ms)
        finished = float("inf")
        if start < self._arrived * 1e3 / self.fps:
            finished = self._free_ms = start + prediction.infer_ms
            self._masks.append((finished, prediction.labels))
        else:
            self.dropped += 1
        due = arrival + self.deadline_ms
        self.late += finished > due
        while len(self._masks) > 1 and self._masks[1][0] <= due:
            self._masks.popleft()
        if self._masks and self._masks[0][0] <= due:
            if target is not None:
                self.matrix.update(target, self._masks[0][1])
        else:
            self.blank += 1

    def report(self) -> Deadline:
        """The figures so far."""
        miou = known(self.matrix.miou())
        return Deadline(self.fps, self.deadline_ms, miou, self.late, self.dropped, self.blank)
