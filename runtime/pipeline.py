"""Reading, inference and the caller's own work side by side, with bounded queues in between."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from runtime.segment import Prediction, Segmenter, Submitted
from runtime.sources.base import Frame
from runtime.sources.open import open_source

DEPTH = 2  # frames waiting between two stages: enough to overlap, little to hold in memory

T = TypeVar("T")


def stream(
    source: Iterable[Frame] | str | Path | int,
    segmenter: Segmenter | str | Path,
    max_frames: int | None = None,
) -> Generator[Prediction]:
    """Yield a Prediction for every frame of ``source``, in order, none dropped.

    A source or a bundle that is only named is opened here, and closed at the end: a source as
    ``hedge video`` takes it, a camera also by its number.
    ``source`` is read in one thread and segmented in a second, while the caller works on the
    previous prediction: the loop's body is the third stage. A live source has read already: the
    engine takes its newest frame whenever it is free, one at a time, and nothing waits in between.
    An error of any stage is raised here, after the predictions that came before it. Both threads
    have ended when the generator has: at its end, on an error, or by ``close()``; a source that
    can be stopped is stopped then.
    """
    with ExitStack() as stack:
        if isinstance(source, (str, Path, int)):
            source = stack.enter_context(open_source(str(source)))
        if isinstance(segmenter, (str, Path)):
            segmenter = stack.enter_context(Segmenter(segmenter))
        yield from _side_by_side(source, segmenter, max_frames)


def _side_by_side(
    source: Iterable[Frame], segmenter: Segmenter, max_frames: int | None
) -> Generator[Prediction]:
    live = getattr(source, "live", False)
    frames: Channel[tuple[Frame, float]] = Channel(DEPTH)
    predictions: Channel[Prediction] = Channel(1 if live else DEPTH)
    threads: list[threading.Thread] = []
    if live:
        answers = _infer(((frame, 0.0) for frame in islice(source, max_frames)), segmenter, 1, 1)
    else:
        answers = _infer(frames, segmenter, segmenter.batch, segmenter.in_flight)
        read = _timed(islice(source, max_frames))
        threads += [threading.Thread(target=_pump, args=(read, frames), name="read", daemon=True)]
    threads += [
        threading.Thread(target=_pump, args=(answers, predictions), name="infer", daemon=True)
    ]

    def finish() -> None:
        frames.close()
        predictions.close()
        if hasattr(source, "stop"):  # a live source may have nothing to say for a long time
            source.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    # A program may end with this generator unfinished, in a global name or in a traceback: the
    # threads are daemons, which Python does not wait for, and end before what they use is freed.
    atexit.register(finish)
    try:
        for thread in threads:
            thread.start()
        yield from predictions
    finally:
        finish()
        atexit.unregister(finish)


class Channel(Generic[T]):
    """A bounded queue between two threads that either side can end.

    ``end`` (producer): what was put is still delivered, then the iteration stops or raises the
    error. ``close`` (consumer): what was put is forgotten and every later ``put`` says False.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room and add ``item``; False when the consumer is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, because of ``error`` where there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more is wanted."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._closed)
                if not self._items:
                    if self._error is not None and not self._closed:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


def _pump(items: Generator[T], channel: Channel[T]) -> None:
    """The body of a thread: whatever happens, the channel is told that it is over."""
    error: BaseException | None = None
    try:
        with closing(items):
            for item in items:
                if not channel.put(item):
                    break
    except BaseException as caught:
        error = caught
    finally:
        channel.end(error)


def _timed(source: Iterable[Frame]) -> Generator[tuple[Frame, float]]:
    """Frames with the milliseconds that reading each one took."""
    frames = iter(source)
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, (time.perf_counter() - start) * 1e3


def _infer(
    frames: Iterable[tuple[Frame, float]], segmenter: Segmenter, batch: int, in_flight: int
) -> Generator[Prediction]:
    """Predictions of ``batch`` frames at a time, with ``in_flight`` batches on the way."""
    waiting = iter(frames)
    running: deque[tuple[Submitted, list[float]]] = deque()
    failure: Exception | None = None
    try:
        while True:
            group: list[tuple[Frame, float]] = []
            try:
                group = list(islice(waiting, batch))
            except Exception as error:  # told after the answers that are still on their way
                failure = error
            if group:
                submitted = segmenter.submit([frame for frame, _ in group])
                running.append((submitted, [read_ms for _, read_ms in group]))
            elif not running:
                break
            if not group or len(running) == in_flight:
                yield from _answers(segmenter, *running.popleft())
    finally:
        for submitted, _ in running:  # the engine is handed back idle
            with suppress(Exception):
                segmenter.results(submitted)
    if failure is not None:
        raise failure


def _answers(
    segmenter: Segmenter, submitted: Submitted, times: Iterable[float]
) -> Iterator[Prediction]:
    for answer, read_ms in zip(segmenter.results(submitted), times, strict=True):
        yield replace(answer, read_ms=read_ms)
