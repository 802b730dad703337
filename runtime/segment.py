"""Frame → labels: the runtime's Python API."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.backends.base import Engine, check_labels
from runtime.backends.registry import computes, load_engine
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.sources.base import Frame


@dataclass(frozen=True)
class Prediction:
    """A frame and what the engine answered.

    labels: (H, W) uint8 training ids at the frame's own size; infer_ms: host resize (where the
    frame is not of the graph's size), engine, and label resize, of the whole batch the frame went
    with, and waiting where several are in flight; read_ms: reading and decoding the frame, 0 where
    nobody measured it.
    """

    frame: Frame
    labels: np.ndarray
    infer_ms: float
    read_ms: float = 0.0


class Segmenter(Closing):
    """A bundle, loaded: call it on a (H, W, 3) uint8 BGR image, get (H, W) uint8 labels.

    bundle: its folder, or a shipped model's name ("street19"); device: "GPU", "NPU", "CUDA", …, as
    OpenVINO and ONNX Runtime name theirs, by default the CPU (TensorRT has its GPU). Images of
    another size than the graph's are resized to it (bilinear) and the labels back (nearest).
    ``manifest`` tells classes, colours, precision and measured accuracy; ``batch`` how many frames
    the graph takes at once (fewer are padded by repeating the last); ``in_flight`` how many batches
    the engine works on at once; ``computes`` the arithmetic it calculates in, "bf16" among others.
    Threads may share it: calls wait for each other. ``submit`` and ``results`` belong together and
    are for one thread. Raises HedgeError for a damaged bundle, a missing library, and in a process
    that was forked after the bundle was loaded.
    """

    def __init__(
        self,
        bundle: str | Path,
        backend: str = "auto",
        threads: int = 0,
        in_flight: int = 1,
        device: str = "",
    ) -> None:
        self._use(load_engine(find_bundle(Path(bundle)), backend, threads, in_flight, device))

    @classmethod
    def of(cls, engine: Engine) -> Segmenter:
        """A segmenter around an engine that is loaded already."""
        segmenter = cls.__new__(cls)
        segmenter._use(engine)
        return segmenter

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR → (H, W) uint8 training ids."""
        with self._turn:
            self._start([image])
            return _at_size(self._answers()[0], image.shape)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 BGR → (N, H, W) uint8 training ids, in the manifest's shapes."""
        with self._turn:
            labels = self._engine.infer(batch)
            check_labels(self.manifest, labels)
            return labels

    def multiply_adds(self) -> dict[str, int]:
        """Of a batch, by the arithmetic that computes them; empty where it does not say."""
        with self._turn:
            return self._engine.multiply_adds()

    def predict(self, frame: Frame) -> Prediction:
        """Segment ``frame`` and time it."""
        return self.predict_batch([frame])[0]

    def predict_batch(self, frames: Sequence[Frame]) -> list[Prediction]:
        """Segment 1 to ``batch`` frames in one run of the engine, and time it."""
        with self._turn:
            self.submit(frames)
            return self.results()

    def submit(self, frames: Sequence[Frame]) -> None:
        """Start on 1 to ``batch`` frames; at most ``in_flight`` times ahead of ``results``."""
        start = time.perf_counter()
        self._start([frame.image for frame in frames])
        self._running.append((frames, start))

    def results(self) -> list[Prediction]:
        """Wait for the frames submitted first."""
        frames, start = self._running.popleft()
        answers = self._answers()
        labels = [_at_size(answers[i], frame.image.shape) for i, frame in enumerate(frames)]
        infer_ms = (time.perf_counter() - start) * 1e3
        return [Prediction(f, answer, infer_ms) for f, answer in zip(frames, labels, strict=True)]

    def warm_up(self) -> None:
        """Run the engine once on black, so that no measured frame pays for first-use set-up."""
        self._engine.infer(np.zeros_like(self._input))

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self.manifest = engine.manifest
        self.backend = engine.backend
        self.computes = computes(engine)
        self.batch = self.manifest.input.shape[0]
        self.in_flight = engine.in_flight
        self._input = np.zeros(self.manifest.input.shape, np.uint8)
        self._turn = threading.RLock()
        self._process = os.getpid()
        self._running: deque[tuple[Sequence[Frame], float]] = deque()

    def _answers(self) -> np.ndarray:
        labels = self._engine.result()
        check_labels(self.manifest, labels)  # tens of µs; a class without a name would be painted
        return labels

    def _start(self, images: Sequence[np.ndarray]) -> None:
        if os.getpid() != self._process:
            raise HedgeError(
                "this process was forked after the bundle was loaded, and the engine's threads "
                "stayed behind; load the Segmenter in the process that uses it"
            )
        if not 0 < len(images) <= self.batch:
            raise ValueError(f"the graph takes 1 to {self.batch} images at once, not {len(images)}")
        for slot, image in zip(self._input, images, strict=False):
            fill(slot, image)
        self._input[len(images) :] = self._input[len(images) - 1]
        self._engine.submit(self._input)


def fill(slot: np.ndarray, image: np.ndarray) -> None:
    """Copy a uint8 BGR ``image`` into an (H, W, 3) slot of the input, resized (bilinear)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"expected (H, W, 3) uint8 BGR, got {image.dtype} {image.shape}")
    if image.shape == slot.shape:
        slot[:] = image
    else:
        size = (slot.shape[1], slot.shape[0])
        cv2.resize(image, size, slot, interpolation=cv2.INTER_LINEAR)


def _at_size(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) labels at the size of an image of ``shape``; never a class that was not there."""
    if labels.shape == shape[:2]:
        return labels
    # Columns first, then whole rows: OpenCV in one go takes twice as long.
    wide = cv2.resize(labels, (shape[1], len(labels)), interpolation=cv2.INTER_NEAREST)
    return wide.take(np.arange(shape[0]) * len(labels) // shape[0], axis=0)
