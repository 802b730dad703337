"""One engine that several streams share."""

from __future__ import annotations

import threading

import numpy as np

from runtime.backends.base import Engine, OneAtATime
from runtime.backends.registry import computes


class SharedEngine(OneAtATime):
    """One of several callers' part in an engine; ``lock``, shared by all, says whose turn it is."""

    def __init__(self, engine: Engine, lock: threading.Lock) -> None:
        self.manifest, self.backend = engine.manifest, engine.backend
        self.computes = computes(engine)
        self._engine, self._lock = engine, lock

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 BGR → (N, H, W) uint8 labels; waits for its turn."""
        with self._lock:
            labels = self._engine.infer(batch)
            self.scores = self._engine.scores
            return labels

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        with self._lock:
            return self._engine.keep_scores()

    def close(self) -> None:
        """Nothing: it belongs to whoever loaded it."""
