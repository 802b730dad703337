"""Frame → labels: the runtime's Python API."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from runtime import images
from runtime.accuracy.confidence import certain, confidences
from runtime.backends.base import Engine, check_labels, require_scores
from runtime.backends.registry import computes, load_engine
from runtime.backends.tiled import tiled
from runtime.bundle.classes import ClassSet
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.outputs.overlay import Look, Overlay, Style
from runtime.sources.base import Frame

Picture = np.ndarray | str | Path  # (H, W, 3) uint8 BGR, or an image file


@dataclass(frozen=True, repr=False)
class Prediction:
    """A frame and what the engine answered.

    labels: (H, W) uint8 training ids at the frame's own size; infer_ms: host resize (where the
    frame is not of the graph's size), engine, and label resize, of the whole batch the frame went
    with, and waiting where several are in flight; read_ms: reading and decoding the frame, 0 where
    nobody measured it; confidence: (H, W) float32, each label's probability (softmax), where it was
    asked for.
    """

    frame: Frame
    labels: np.ndarray
    infer_ms: float
    read_ms: float = 0.0
    confidence: np.ndarray | None = None

    def __repr__(self) -> str:
        """One line: the frame's name and time, the labels' size, how many classes they hold."""
        height, width = self.labels.shape
        count = np.count_nonzero(np.bincount(self.labels.ravel(), minlength=256))
        where = f"{self.frame.name!r} at {self.frame.time_s:.2f} s"
        return f"Prediction({where}, {height}×{width}, {count} classes, {self.infer_ms:.1f} ms)"

    def certain(self, least: float | None) -> Prediction:
        """Itself, but with labels of 255 where its confidence is below ``least``."""
        if least is None or self.confidence is None:
            return self
        return replace(self, labels=certain(self.labels, self.confidence, least))


@dataclass(eq=False)
class Submitted:
    """Frames that the engine works on, since ``start``; then what came of them."""

    frames: Sequence[Frame]
    start: float
    predictions: list[Prediction] = field(default_factory=list)
    failure: BaseException | None = None


class Segmenter(Closing):
    """A bundle, loaded: call it on a (H, W, 3) uint8 BGR image, get (H, W) uint8 labels.

    An image file by its path, or a list of either, will do as well; ``draw`` lays the labels over
    the image, ``classes`` has their names and colours.

    bundle: its folder, or a shipped model's name ("street19"); device: "GPU", "NPU", "CUDA", …, as
    OpenVINO and ONNX Runtime name theirs, by default the CPU (TensorRT has its GPU). Images of
    another size than the graph's are resized to it (bilinear) and the labels back (nearest).
    ``manifest`` tells classes, colours, precision and measured accuracy; ``batch`` how many frames
    the graph takes at once (fewer are padded by repeating the last); ``in_flight`` how many batches
    the engine works on at once; ``computes`` the arithmetic it calculates in, "bf16" among others.
    confidence: also tell how sure it is of each pixel, in predictions; HedgeError without scores.
    tiles: rows and columns of overlapping tiles, each of the graph's size, that images are cut into
    after they were resized to what the tiles cover; HedgeError without scores, which are blended.
    Threads may share it, and the loop over a ``stream`` may call it: each gets its own answers.
    Raises HedgeError for a damaged bundle, a missing library, and in a process
    that was forked after the bundle was loaded.
    """

    def __init__(
        self,
        bundle: str | Path,
        backend: str = "auto",
        threads: int = 0,
        in_flight: int = 1,
        device: str = "",
        confidence: bool = False,
        tiles: tuple[int, int] | None = None,
    ) -> None:
        engine = load_engine(find_bundle(Path(bundle)), backend, threads, in_flight, device)
        self._use(tiled(engine, tiles), confidence)

    @classmethod
    def of(cls, engine: Engine, confidence: bool = False) -> Segmenter:
        """A segmenter around an engine that is loaded already."""
        segmenter = cls.__new__(cls)
        segmenter._use(engine, confidence)
        return segmenter

    @overload
    def __call__(self, image: Picture) -> np.ndarray: ...  # type: ignore[overload-overlap]  # a str is one of str

    @overload
    def __call__(self, image: Sequence[Picture]) -> list[np.ndarray]: ...

    def __call__(self, image: Picture | Sequence[Picture]) -> np.ndarray | list[np.ndarray]:
        """(H, W, 3) uint8 BGR, or an image file → (H, W) uint8 training ids; of a list, a list.

        Raises HedgeError for a file that is no readable image, ValueError for another array,
        TypeError for what is neither.
        """
        if not isinstance(image, Sequence) or isinstance(image, str | bytes):
            return self._labels([image])[0]
        groups = (image[i : i + self.batch] for i in range(0, len(image), self.batch))
        return [labels for group in groups for labels in self._labels(group)]

    def draw(
        self,
        image: Picture,
        labels: np.ndarray,
        style: Style = "fill",
        opacity: float | None = None,
        only: str | Sequence[str] = (),
    ) -> np.ndarray:
        """Lay the classes' colours over an image: (H, W, 3) uint8 BGR, a new array.

        labels: (H, W) uint8, as a call answers them; style: "fill", or "outline" for the edges of
        classes alone; opacity: 0..1, None: as ``Look``; only: names of the classes to draw, all
        where empty. Raises HedgeError for a name of no class, a style or an opacity that there is
        not, ValueError for arrays of another kind and sizes that differ.
        """
        pixels = _pixels(image)
        _require_bgr(pixels)
        if labels.dtype != np.uint8 or pixels.shape[:2] != labels.shape:
            raise ValueError(f"labels {labels.dtype} {labels.shape} of an image {pixels.shape}")
        look = Look(style, opacity, (only,) if isinstance(only, str) else tuple(only))
        return Overlay(self.classes, look=look).blend(pixels, labels)

    @property
    def classes(self) -> ClassSet:
        """The classes that labels stand for, in the order of their values: names, RGB colours."""
        return self.manifest.classes

    def __repr__(self) -> str:
        """One line: the model, its engine and precision, how many classes, the graph's size."""
        height, width = self.manifest.input.shape[1:3]
        engine = f"{self.backend} {self.manifest.precision}"
        what = f"{len(self.classes)} classes, {height}×{width}"
        return f"Segmenter({self.manifest.name!r}, {engine}, {what})"

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 BGR → (N, H, W) uint8 training ids, in the manifest's shapes."""
        with self._turn:
            while self._running:
                self._take_oldest()
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
        return self.results(self.submit(frames))

    def submit(self, frames: Sequence[Frame]) -> Submitted:
        """Start on 1 to ``batch`` frames; the engine works on up to ``in_flight`` such at once."""
        submitted = Submitted(frames, time.perf_counter())
        self._require_own_process()
        with self._turn:
            while len(self._running) >= self.in_flight:
                self._take_oldest()
            self._start([frame.image for frame in frames])
            self._running.append(submitted)
        return submitted

    def results(self, submitted: Submitted) -> list[Prediction]:
        """Wait for what ``submit`` began."""
        with self._turn:
            while submitted in self._running:
                self._take_oldest()
        if submitted.failure is not None:
            raise submitted.failure
        return submitted.predictions

    def close(self) -> None:
        """Free the engine, once it has answered what it works on for other threads."""
        if os.getpid() != self._process:
            return  # it is the parent's, and so may the lock be
        with self._turn:
            self._closed = True
            while self._running:
                self._take_oldest()
            self._engine.close()

    def _confidences(self, frames: Sequence[Frame]) -> list[np.ndarray] | list[None]:
        if not self._confident:
            return [None] * len(frames)
        scores, (height, width) = self._engine.scores, self.manifest.output.shape[1:]
        assert scores is not None, "a result comes with its scores"
        return [
            _at_size(confidences(own, (height, width)), frame.image.shape)
            for own, frame in zip(scores, frames, strict=False)
        ]

    def _use(self, engine: Engine, confidence: bool) -> None:
        if confidence:
            require_scores(engine, "so how sure it is is not known")
        self._engine, self._confident = engine, confidence
        self.manifest = engine.manifest
        self.backend = engine.backend
        self.computes = computes(engine)
        self.batch = self.manifest.input.shape[0]
        self.in_flight = engine.in_flight
        self._input = np.zeros(self.manifest.input.shape, np.uint8)
        self._turn = threading.RLock()
        self._process, self._closed = os.getpid(), False
        self._running: deque[Submitted] = deque()  # the oldest first, as the engine answers

    def _labels(self, group: Sequence[Picture]) -> list[np.ndarray]:
        """Of 1 to ``batch`` images."""
        frames = [Frame(index, 0.0, _pixels(image), "") for index, image in enumerate(group)]
        return [prediction.labels for prediction in self.predict_batch(frames)]

    def _take_oldest(self) -> None:
        """Take what the engine answers next, which may be somebody else's, who finds it there."""
        submitted = self._running.popleft()
        try:
            submitted.predictions = self._answers(submitted)
        except BaseException as error:
            submitted.failure = error
            if not isinstance(error, Exception):  # Ctrl-C is for who runs here
                raise

    def _answers(self, submitted: Submitted) -> list[Prediction]:
        frames, answers = submitted.frames, self._engine.result()
        check_labels(self.manifest, answers)  # tens of µs; a class without a name would be painted
        labels = [_at_size(answers[i], frame.image.shape) for i, frame in enumerate(frames)]
        infer_ms = (time.perf_counter() - submitted.start) * 1e3
        sure = self._confidences(frames)
        return [
            Prediction(frame, answer, infer_ms, confidence=own)
            for frame, answer, own in zip(frames, labels, sure, strict=True)
        ]

    def _require_own_process(self) -> None:
        """Raise HedgeError in a forked child, where another thread's lock is never given back."""
        if os.getpid() != self._process:
            raise HedgeError(
                "this process was forked after the bundle was loaded, and the engine's threads "
                "stayed behind; load the Segmenter in the process that uses it"
            )

    def _start(self, images: Sequence[np.ndarray]) -> None:
        if self._closed:
            raise ValueError("this Segmenter is closed; load the bundle again")
        if not 0 < len(images) <= self.batch:
            raise ValueError(f"the graph takes 1 to {self.batch} images at once, not {len(images)}")
        self._engine.submit(self._filled(images))

    def _filled(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The batch of 1 to ``batch`` images; one that is a batch by itself is not copied."""
        if self._input.shape == (1, *images[0].shape) and images[0].dtype == np.uint8:
            return images[0][None]
        for slot, image in zip(self._input, images, strict=False):
            fill(slot, image)
        self._input[len(images) :] = self._input[len(images) - 1]
        return self._input


def _pixels(image: Picture) -> np.ndarray:
    """(H, W, 3) uint8 BGR of an image, which may lie in a file."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, str | Path):
        return cv2.cvtColor(images.read_rgb(Path(image)), cv2.COLOR_RGB2BGR)
    of_none = ", which cv2.imread gives for a file that it cannot read" if image is None else ""
    raise TypeError(
        f"expected (H, W, 3) uint8 BGR as a NumPy array, the path of an image, or a list of "
        f"either, got {type(image).__name__}{of_none}"
    )


def _require_bgr(image: np.ndarray) -> None:
    """Raise ValueError unless ``image`` is (H, W, 3) uint8 of at least a pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"expected (H, W, 3) uint8 BGR, got {image.dtype} {image.shape}")


def fill(slot: np.ndarray, image: np.ndarray) -> None:
    """Copy a uint8 BGR ``image`` into an (H, W, 3) slot of the input, resized (bilinear)."""
    _require_bgr(image)
    if image.shape == slot.shape:
        slot[:] = image
    else:
        size = (slot.shape[1], slot.shape[0])
        cv2.resize(image, size, slot, interpolation=cv2.INTER_LINEAR)


def _at_size(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) labels at the size of an image of ``shape``; never a value that was not there.

    Of the pixel whose middle is the nearest: INTER_NEAREST takes its upper left neighbour, and the
    labels would lie half a pixel to the right of the image, and below it.
    """
    if labels.shape == shape[:2]:
        return labels
    # Columns first, then whole rows: OpenCV in one go takes twice as long.
    wide = cv2.resize(labels, (shape[1], len(labels)), interpolation=cv2.INTER_NEAREST_EXACT)
    return wide.take((2 * np.arange(shape[0]) + 1) * len(labels) // (2 * shape[0]), axis=0)
