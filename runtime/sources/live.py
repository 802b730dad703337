"""Live sources: frames arrive at the sender's pace, and iterating yields only the newest."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction

from runtime.sources.base import Frame, Source

_JOIN_S = 0.5  # a thread inside FFmpeg ends by itself at the timeouts above
_NAMED = 100  # gaps that are kept one by one


@dataclass(frozen=True)
class Gap:
    """Time without frames: from when (seconds of the stream), how long, and why."""

    time_s: float
    seconds: float
    cause: str


@dataclass
class Gaps:
    """Times without frames: how many, seconds in all, and the first hundred."""

    count: int = 0
    seconds: float = 0.0
    first: list[Gap] = field(default_factory=list)

    def add(self, gap: Gap) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += gap.seconds
        if len(self.first) < _NAMED:
            self.first.append(gap)


class LiveSource(Source):
    """Frames that arrive by the clock of somebody else; whoever iterates gets the newest.

    A thread takes what arrives; a frame that a newer one overtakes is dropped. From the first
    ``next`` on, ``received`` counts arrivals and ``dropped`` the overtaken ones, so that received =
    iterated + dropped once the iteration has ended. What has an end is read from the first ``next``
    on; what has none, from the making of the object on, or its oldest frames would be waiting.
    ``gaps`` are those that were survived; ``on_gap`` hears in words when one begins and ends, in
    the thread that takes what arrives.
    """

    live = True
    on_gap: Callable[[str], object] | None = None

    def __init__(self, origin: str, fps: Fraction, expected: int | None = None) -> None:
        super().__init__(origin, [], fps, expected)
        self.received = self.dropped = 0
        self.gaps = Gaps()
        self._lost: tuple[float, str] | None = None  # since when no frames come (monotonic), why
        self._newest: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._take, name="capture", daemon=True)

    @abstractmethod
    def _arrivals(self) -> Generator[Frame]:
        """Frames, each when it arrives."""

    def _frames(self) -> Iterator[Frame]:
        with self._changed:  # what came while the engine was loading was not missed by anybody
            self.received = self.dropped = 0
            self._newest = None
            self._started = time.monotonic()
        if self._thread.ident is None:
            self._thread.start()
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            if self._newest is None and self._error is not None:
                raise self._error
            frame, self._newest = self._newest, None
            return frame

    def _take(self) -> None:
        """The thread's body: whatever happens, the iteration hears of the end."""
        try:
            with closing(self._arrivals()) as arrivals:
                for frame in arrivals:
                    self._offer(frame)
                    if self._stopped.is_set():
                        break
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            if not self._ended:
                self.dropped += self._newest is not None
                self.received += 1
                self._newest = frame
                self._changed.notify_all()

    def gaps_so_far(self) -> Gaps:
        """``gaps``, and the one that goes on now."""
        with self._changed:
            gaps = replace(self.gaps, first=self.gaps.first[:])
            if self._lost is not None:
                gaps.add(self._gap(*self._lost))
            return gaps

    def _lose(self, since: float, cause: str) -> None:
        """Let a gap begin, unless one goes on."""
        with self._changed:
            goes_on, self._lost = self._lost, self._lost or (since, cause)
        if goes_on is None and self.on_gap:
            self.on_gap(f"no frames ({cause}); it is asked again until you stop")

    def _find(self) -> None:
        """Let the gap end that goes on, where one does."""
        with self._changed:
            if self._lost is None:
                return
            gap = self._gap(*self._lost)
            self.gaps.add(gap)
            self._lost = None
        if self.on_gap and not self._stopped.is_set():
            self.on_gap(f"frames again, after {gap.seconds:.1f} s")

    def _gap(self, since: float, cause: str) -> Gap:
        return Gap(max(0.0, since - self._started), time.monotonic() - since, cause)

    def stop(self) -> None:
        """End the iteration at once, also while nothing arrives; the waiting frame is dropped."""
        super().stop()
        with self._changed:
            self.dropped += self._newest is not None
            self._newest = None
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; a thread that waits inside FFmpeg ends by itself within seconds."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
