"""What an engine is, whatever library runs it."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.interrupt import Closing


class Engine(AbstractContextManager["Engine"], Protocol):
    """A loaded bundle. One caller at a time; ``close`` frees what the library holds.

    in_flight: how many batches may have been submitted without their results being taken; device:
    what computes, with all that its answers may depend on: full name, driver, the built engine.
    """

    manifest: Manifest
    backend: str
    in_flight: int
    device: str
    scores: np.ndarray | None

    def keep_scores(self) -> bool:
        """Keep, from now on, the scores of the last labels in ``scores``; False: it has none.

        They are (N, C, h, w) float32, smaller than the frames.
        """

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 BGR → (N, H, W) uint8 labels, in the manifest's shapes."""

    def submit(self, batch: np.ndarray) -> None:
        """Start on a batch, which is copied first; the results come in the same order."""

    def result(self) -> np.ndarray:
        """Wait for the oldest batch in flight: its labels."""

    def multiply_adds(self) -> dict[str, int]:
        """Of a batch, by the arithmetic that computes them, by the library's own word.

        Keys as of ``registry.computes``; empty where the library does not say.
        """

    def close(self) -> None:
        """Free the engine; calling it twice is harmless."""


class LabelsOnly:
    """``scores`` of an engine that answers labels alone."""

    scores: np.ndarray | None = None

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        return False


class OneAtATime(LabelsOnly, Closing):
    """``submit`` and ``result`` of an engine that only has ``infer``."""

    in_flight = 1
    device = ""
    _answer: np.ndarray | None = None

    def submit(self, batch: np.ndarray) -> None:
        """See ``Engine``."""
        assert self._answer is None, "a batch is in flight; take its result first"
        self._answer = self.infer(batch)

    def result(self) -> np.ndarray:
        """See ``Engine``."""
        assert self._answer is not None, "nothing is in flight"
        answer, self._answer = self._answer, None
        return answer

    @abstractmethod
    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""

    def multiply_adds(self) -> dict[str, int]:
        """See ``Engine``."""
        return {}

    def close(self) -> None:
        """See ``Engine``."""


def require_scores(engine: Engine, lost: str) -> None:
    """Let ``engine`` keep its scores; HedgeError, which tells what is ``lost``, if it has none."""
    if engine.keep_scores():
        return
    if engine.manifest.logits is None:
        raise HedgeError(
            f"{engine.manifest.name}: this bundle answers labels without scores, {lost}"
        )
    raise HedgeError(
        f"{engine.manifest.name}: {engine.backend} answers labels without scores, {lost}; "
        "take --backend openvino or onnxruntime"
    )


def check_batch(manifest: Manifest, batch: np.ndarray) -> None:
    """Raise ValueError unless ``batch`` is exactly what the graph was exported for."""
    if batch.shape != manifest.input.shape or batch.dtype != np.uint8:
        raise ValueError(
            f"the engine takes uint8 {manifest.input.shape}, got {batch.dtype} {batch.shape}"
        )


def check_labels(manifest: Manifest, labels: np.ndarray) -> None:
    """Raise HedgeError where ``labels`` hold a class that the manifest does not name."""
    if (highest := int(labels.max())) >= (count := len(manifest.classes)):
        raise HedgeError(
            f"{manifest.name}: its graph answers class {highest}, but its manifest names {count} "
            "classes; export it again"
        )
