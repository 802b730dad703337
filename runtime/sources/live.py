"""Sources that do not wait: the newest frame first, and back again after every fault."""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from runtime.errors import HedgeError
from runtime.sources.address import Address
from runtime.sources.base import DEFAULT_FPS, Frame, Source
from runtime.sources.video_file import bgr_image, packets_of

OPEN_S = 5.0  # until an answer to a connection is given up
STALL_S = 3.0  # without a new frame, whatever else arrives
_BACKOFF_S = (0.25, 1.5)  # first and longest wait before a new try; half of it is chance
# µs. Not "nobuffer" as well: it loses what was looked at, up to the next key frame, and is no
# sooner here, where everything is read at once.
_LOW_DELAY = {"analyzeduration": "500000"}
_JOIN_S = 0.5  # a thread inside FFmpeg ends by itself at the timeouts above
_NAMED = 100  # gaps that are kept one by one


@dataclass(frozen=True)
class Gap:
    """Time without frames: from when (seconds of the stream), how long, and why."""

    time_s: float
    seconds: float
    cause: str


class LiveSource(Source):
    """Frames that arrive by the clock of somebody else; whoever iterates gets the newest.

    A thread takes what arrives; a frame that a newer one overtakes is dropped. From the first
    ``next`` on, ``received`` counts arrivals and ``dropped`` the overtaken ones, so that received =
    iterated + dropped once the iteration has ended. What has an end is read from the first ``next``
    on; what has none, from the making of the object on, or its oldest frames would be waiting.
    gaps: times without frames that were survived (the first hundred); gap_count, gap_s: all.
    """

    live = True

    def __init__(self, origin: str, fps: Fraction, expected: int | None = None) -> None:
        super().__init__(origin, [], fps, expected)
        self.received = self.dropped = 0
        self.gaps: list[Gap] = []
        self.gap_count, self.gap_s = 0, 0.0
        self._newest: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._take, name="capture", daemon=True)

    @property
    def names(self) -> Sequence[str] | None:
        return None

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

    def _missed(self, since: float, cause: str) -> None:
        """Count a gap that began at ``since`` (monotonic) and ends now."""
        gap = Gap(max(0.0, since - self._started), time.monotonic() - since, cause)
        self.gap_count += 1
        self.gap_s += gap.seconds
        if len(self.gaps) < _NAMED:
            self.gaps.append(gap)

    def report(self) -> dict[str, Any]:
        """Gaps, JSON-ready."""
        return {
            "count": self.gap_count,
            "seconds": self.gap_s,
            "first": [asdict(gap) for gap in self.gaps],
        }

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


class NetworkSource(LiveSource):
    """A camera or an address, opened again after every fault.

    The first opening must succeed: an address that is wrong stays wrong. After that a dropped
    connection, a stall or an end is a gap, and tried again with growing pauses until ``stop``.
    Something that says how long it is (a recording behind http://) ends when it ends. Frames that
    do not decode cleanly are counted as damaged and left out: half a picture is none.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        try:
            self._container: av.container.InputContainer | None = self._open()
        except (av.FFmpegError, OSError) as error:
            raise HedgeError(
                f"{address.shown}: cannot be opened ({_cause(error)}); check the address, the "
                "network and the password"
            ) from None  # its text would hold the password
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
        super().__init__(address.shown, Fraction(rate))
        if self._container.duration is None:  # a recording could be over before anybody looks
            self._thread.start()

    def close(self) -> None:
        super().close()
        if self._thread.ident is None and self._container is not None:
            self._container.close()

    def _open(self) -> av.container.InputContainer:
        container = av.open(
            self._address.target,
            format=self._address.format,
            options={**_LOW_DELAY, **self._address.options},
            timeout=(OPEN_S, STALL_S),
            metadata_errors="replace",
        )
        if not container.streams.video:
            container.close()
            raise HedgeError(f"{self._address.shown}: has no video in it; check the address")
        # Threads by frame would hold back as many frames as there are threads.
        container.streams.video[0].codec_context.thread_type = "SLICE"
        return container

    def _arrivals(self) -> Generator[Frame]:
        index, last, cause, container = 0, time.monotonic(), "", self._container
        while container is not None:
            ended = "the stream ended"
            finite = container.duration is not None
            try:
                with closing(container):
                    for image in self._decoded(container):
                        if cause:
                            self._missed(last, cause)
                            cause = ""
                        last = time.monotonic()
                        yield Frame(index, last - self._started, image, f"{index:06d}", last)
                        index += 1
                if finite:
                    return
            except (av.FFmpegError, OSError) as error:
                ended = _cause(error)
            cause = cause or ended
            container = self._container = self._again()
        if cause:
            self._missed(last, cause)

    def _again(self) -> av.container.InputContainer | None:
        """A new connection, however long it takes; None when it is no longer wanted."""
        pause, longest = _BACKOFF_S
        while not self._stopped.wait(pause * random.uniform(0.5, 1.0)):
            with suppress(av.FFmpegError, OSError, HedgeError):
                return self._open()
            pause = min(2 * pause, longest)
        return None

    def _decoded(self, container: av.container.InputContainer) -> Iterator[np.ndarray]:
        """Whole frames; raises TimeoutError when only other things arrive for too long."""
        bgr = VideoReformatter()
        stream = container.streams.video[0]
        last = time.monotonic()
        for packet in packets_of(container, stream):
            # First: what FFmpeg held back comes out at its timeout, as old as the stall.
            if time.monotonic() - last > STALL_S:
                raise TimeoutError
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._fault(f"{self.origin}: a packet does not decode: {error.strerror}")
                frames = []
            for frame in frames:
                if frame.is_corrupt:
                    self._fault(f"{self.origin}: a damaged frame is left out")
                    continue
                last = time.monotonic()
                yield bgr_image(bgr, frame)
            if self._stopped.is_set():
                return


class PacedSource(LiveSource):
    """A source of files played at its own rate, as if a camera sent it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.origin, source.fps, source.expected)
        self.files, self._names, self._source = source.files, source.names, source
        self.timed = source.timed

    @property
    def names(self) -> Sequence[str] | None:
        return self._names

    def _frames(self) -> Iterator[Frame]:
        yield from super()._frames()
        self.damaged, self.faults = self._source.damaged, self._source.faults
        self.expected = None  # dropped frames are no shortfall; what the file lacks, the file says

    def complaint(self) -> str | None:
        return self._source.complaint()

    def stop(self) -> None:
        self._source.stop()
        super().stop()

    def close(self) -> None:
        super().close()
        self._source.close()

    def _arrivals(self) -> Generator[Frame]:
        first: float | None = None
        for frame in self._source:
            now = time.monotonic()
            first = now - frame.time_s if first is None else first
            if self._stopped.wait(max(0.0, first + frame.time_s - now)):
                return
            yield replace(frame, arrived=time.monotonic())


def _cause(error: Exception) -> str:
    """FFmpeg's own words without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError | TimeoutError):
        return "nothing arrives"
    return getattr(error, "strerror", None) or type(error).__name__
