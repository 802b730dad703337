"""One engine that several streams share: by turns, or with frames of several in one batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from runtime.backends.base import Engine, OneAtATime
from runtime.backends.registry import computes
from runtime.bundle.manifest import Manifest, TensorSpec
from runtime.latency import settled_ms

BUSY = 0.5  # of the engine's time that single frames would take: above it, waiting for others pays
PATIENCE = 0.5  # of the time of a batch: the longest that a frame waits for others


def shared(engine: Engine, live_fps: Sequence[float | None]) -> list[Engine]:
    """Each stream's part in ``engine``.

    live_fps: by stream, frames per second of a live one, which has one frame at a time; None of
    files, which fill batches of their own. Where the graph takes several frames, those of live
    streams are gathered; they wait for each other if the engine, measured here, would else be busy.
    """
    lock = threading.Lock()
    live = [fps for fps in live_fps if fps is not None]
    gathering = None
    if len(live) > 1 and engine.manifest.input.shape[0] > 1:
        gathering = Gathering(engine, lock, len(live), patience(engine, sum(live)))
    return [
        SharedEngine(engine, lock) if fps is None or gathering is None else Gathered(gathering)
        for fps in live_fps
    ]


def patience(engine: Engine, fps: float) -> float:
    """Seconds that a frame may wait for others, where ``fps`` frames come a second in all."""
    noise = np.random.default_rng(0).integers(256, size=engine.manifest.input.shape, dtype=np.uint8)
    seconds = settled_ms(partial(engine.infer, noise)) / 1e3
    return PATIENCE * seconds if fps * seconds > BUSY else 0.0


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


@dataclass
class _Asked:
    """A stream's frame, (1, H, W, 3), and what becomes of it."""

    frame: np.ndarray
    since: float
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    error: BaseException | None = None

    @property
    def answered(self) -> bool:
        return self.labels is not None or self.error is not None


class Gathering:
    """Frames of several streams, run together by whichever of their threads comes first.

    streams: how many may ask; seconds: the longest that a frame waits for those of others. What
    came while a batch was running goes with the next, whether it waits or not. A stream has one
    frame here at a time, so its order is its own.
    """

    def __init__(self, engine: Engine, lock: threading.Lock, streams: int, seconds: float) -> None:
        self.engine, self.seconds = engine, seconds
        self._lock, self._streams = lock, streams
        self._slots = np.zeros(engine.manifest.input.shape, np.uint8)
        self._waiting: deque[_Asked] = deque()
        self._led = False  # a thread is gathering or running a batch
        self._changed = threading.Condition()

    def infer(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(1, H, W, 3) uint8 BGR → (1, H, W) uint8 labels, and (1, C, h, w) scores if kept."""
        asked = _Asked(frame, time.monotonic())
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify_all()
        while self._leads(asked):
            self._run()
        if asked.error is not None:
            raise asked.error
        assert asked.labels is not None
        return asked.labels, asked.scores

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        with self._lock:
            return self.engine.keep_scores()

    def leave(self) -> None:
        """Wait for one stream less: it has ended."""
        with self._changed:
            self._streams -= 1
            self._changed.notify_all()

    def _leads(self, asked: _Asked) -> bool:
        """Wait for the answer, or until the caller is to run the next batch: then True."""
        with self._changed:
            self._changed.wait_for(lambda: asked.answered or not self._led)
            self._led = self._led or not asked.answered
            return not asked.answered

    def _together(self) -> list[_Asked]:
        """The frames of the next batch: the oldest, and those that come before it is impatient."""
        with self._changed:
            until = self._waiting[0].since + self.seconds
            self._changed.wait_for(
                lambda: len(self._waiting) >= min(len(self._slots), self._streams),
                max(0.0, until - time.monotonic()),
            )
            return [self._waiting.popleft() for _ in self._slots if self._waiting]

    def _run(self) -> None:
        together: Sequence[_Asked] = ()
        try:
            together = self._together()
            with self._lock:
                for slot, asked in zip(self._slots, together, strict=False):
                    slot[:] = asked.frame[0]
                self._slots[len(together) :] = self._slots[len(together) - 1]
                labels, scores = self.engine.infer(self._slots), self.engine.scores
            for i, asked in enumerate(together):
                asked.scores = None if scores is None else scores[i : i + 1]
                asked.labels = labels[i : i + 1]
        except BaseException as error:
            for asked in together:
                asked.error = error
            if not together:
                raise
        finally:
            with self._changed:
                self._led = False
                self._changed.notify_all()


class Gathered(OneAtATime):
    """One stream's part in a gathering: an engine of one frame at a time."""

    def __init__(self, gathering: Gathering) -> None:
        engine = gathering.engine
        self.manifest, self.backend = _of_one(engine.manifest), engine.backend
        self.computes = computes(engine)
        self._gathering, self._left = gathering, False

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(1, H, W, 3) uint8 BGR → (1, H, W) uint8 labels; waits for frames of other streams."""
        labels, self.scores = self._gathering.infer(batch)
        return labels

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        return self._gathering.keep_scores()

    def close(self) -> None:
        """No longer let the others wait for this stream."""
        if not self._left:
            self._left = True
            self._gathering.leave()


def _of_one(manifest: Manifest) -> Manifest:
    """The manifest of the same graph for one frame."""

    def one(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=(1, *spec.shape[1:]))

    scores = None if manifest.logits is None else one(manifest.logits)
    return replace(manifest, input=one(manifest.input), output=one(manifest.output), logits=scores)
