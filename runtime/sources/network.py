"""Cameras and addresses, opened again after every fault."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from runtime.errors import HedgeError
from runtime.sources.address import Address
from runtime.sources.base import DEFAULT_FPS, Frame
from runtime.sources.decode import bgr_image, limit_size, packets_of
from runtime.sources.live import LiveSource

OPEN_S = 5.0  # until an answer to a connection is given up

STALL_S = 3.0  # without a new frame, whatever else arrives

_BACKOFF_S = (0.25, 1.5)  # first and longest wait before a new try; half of it is chance

# µs. Not "nobuffer" as well: it loses what was looked at, up to the next key frame, and is no
# sooner here, where everything is read at once.
_LOW_DELAY = {"analyzeduration": "500000"}


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
        limit_size(container.streams.video[0], self._address.shown)
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
                yield bgr_image(bgr, frame, self.origin)
            if self._stopped.is_set():
                return


def _cause(error: Exception) -> str:
    """FFmpeg's own words without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError | TimeoutError):
        return "nothing arrives"
    return getattr(error, "strerror", None) or type(error).__name__
