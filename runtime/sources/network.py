"""Cameras, opened again after every fault, and recordings behind http://."""

from __future__ import annotations

import errno
import random
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from runtime.errors import HedgeError
from runtime.interrupt import check_interrupt
from runtime.sources.address import RESUMED, Address
from runtime.sources.base import Frame, Source, frame_name
from runtime.sources.decode import bgr_image, limit_size, main_video, packets_of, pixel_aspect
from runtime.sources.frame_times import frame_rate
from runtime.sources.hardware.decoder import CPU, Decode, Decoder, choose
from runtime.sources.live import LiveSource
from runtime.sources.video_file import VideoSource

OPEN_S = 5.0  # until an answer to a connection is given up

STALL_S = 3.0  # without a new frame, whatever else arrives

BEGIN_S = 30.0  # without the first one: between two key frames of a camera that saves bits

_POLL_S = 0.005  # between two questions to a camera that does not wait

_PIECE_S = 12.0  # until the next piece of a playlist comes

_RESUME_S = 30.0  # in which a recording goes on after a broken connection, or has ended

_BACKOFF_S = (0.25, 1.5)  # first and longest wait before a new try; half of it is chance

# µs. Not "nobuffer" as well: it loses what was looked at, up to the next key frame, and is no
# sooner here, where everything is read at once.
_LOW_DELAY = {"analyzeduration": "500000"}

_ENDLESS = {"hls", "mjpeg", "mpjpeg"}  # formats whose size in bytes is not a recording's

_WRONG = (  # an address that no other way of asking makes right
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.HTTPNotFoundError,
    ConnectionRefusedError,
)


def open_address(address: Address, decode: Decode = "cpu") -> Source:
    """Open a camera, or a recording: what lies behind http:// and says how long or large it is.

    decode: what decodes it; hardware is tried on a connection before. Raises HedgeError in one
    line, without the password.
    """
    ways, decoder = deque(address.ways), CPU
    try:
        if decode != "cpu":
            with closing(_connect(address, ways)) as container:
                decoder = choose(decode, container, address.shown)
        container = _connect(address, ways, decoder)
    except (av.FFmpegError, OSError) as error:
        raise HedgeError(
            f"{address.shown}: cannot be opened ({_cause(error)}); {address.advice}"
        ) from None  # its text would hold the password
    if _is_recording(container):
        return VideoSource(address.shown, container, [], decoder)
    return NetworkSource(address, container, ways, decoder)


class NetworkSource(LiveSource):
    """A camera or an endless stream, opened again after every fault.

    The first opening must have succeeded: an address that is wrong stays wrong. After that a
    dropped connection, a stall or an end is a gap, and tried again with growing pauses until
    ``stop``. Frames that do not decode cleanly are counted as damaged and left out: half a picture
    is none. What comes before the first key frame of a connection is not counted.
    """

    def __init__(
        self,
        address: Address,
        container: av.container.InputContainer,
        ways: deque[dict[str, str]],
        decoder: Decoder = CPU,
    ) -> None:
        self._address, self._ways = address, ways
        self._decoder, self.decoder = decoder, decoder.name
        self._container: av.container.InputContainer | None = container
        stream = _video(address, container)
        super().__init__(address.shown, frame_rate(container, stream))
        self._thread.start()

    def _arrivals(self) -> Generator[Frame]:
        index, last, container = 0, time.monotonic(), self._container
        while container is not None:
            ended, before = "the stream ended", index
            try:
                with closing(container):
                    for image, aspect in self._decoded(container):
                        self._find()
                        last = time.monotonic()
                        time_s, name = last - self._started, frame_name(index)
                        unseen_s = self.gaps.seconds
                        yield Frame(index, time_s, image, name, last, aspect, unseen_s=unseen_s)
                        index += 1
            except (av.FFmpegError, OSError, HedgeError) as error:
                ended = _cause(error)
            if index == before:
                self._ways.rotate(-1)  # a camera may accept TCP and send nothing by it
            if not self._stopped.is_set():
                self._lose(last, ended)
            container = self._container = self._again()
        self._find()

    def _again(self) -> av.container.InputContainer | None:
        """A new connection, however long it takes; None when it is no longer wanted."""
        pause, longest = _BACKOFF_S
        while not self._stopped.wait(pause * random.uniform(0.5, 1.0)):
            with suppress(av.FFmpegError, OSError):
                container = _connect(self._address, self._ways, self._decoder)
                if not _is_over(container):
                    return container
                container.close()
            pause = min(2 * pause, longest)
        return None

    def _decoded(
        self, container: av.container.InputContainer
    ) -> Iterator[tuple[np.ndarray, Fraction]]:
        """Whole frames, and the aspect of their pixels.

        Raises TimeoutError when only other things arrive for too long.
        """
        bgr = VideoReformatter()
        stream = _video(self._address, container)
        decode = self._decoder.packets(stream)
        stall_s = _PIECE_S if container.format.name == "hls" else STALL_S
        begun, last, patience = False, time.monotonic(), max(BEGIN_S, stall_s)
        for packet in _offered(container, stream):
            # First: what FFmpeg held back comes out at its timeout, as old as the stall.
            if time.monotonic() - last > patience:
                raise TimeoutError
            if packet is None:
                if self._stopped.wait(_POLL_S):
                    return
                continue
            begun = begun or packet.is_keyframe
            try:
                frames = decode(packet)
            except av.FFmpegError as error:
                if begun:
                    self.record.add(f"{self.origin}: a packet does not decode: {error.strerror}")
                frames = []
            for frame in frames:
                if frame.is_corrupt:
                    if begun:
                        self.record.add(f"{self.origin}: a damaged frame is left out")
                    continue
                begun, last, patience = True, time.monotonic(), stall_s
                yield bgr_image(bgr, frame, self.origin), pixel_aspect(stream, frame)
            if self._stopped.is_set():
                return


def _connect(
    address: Address, ways: deque[dict[str, str]], decoder: Decoder = CPU
) -> av.container.InputContainer:
    """A connection by the first of ``ways`` that works, which is moved to their front."""
    failure: Exception | None = None
    for options in tuple(ways):
        try:
            stall_s = _PIECE_S if address.on_the_web else STALL_S
            stall_s = _RESUME_S if options.keys() >= RESUMED.keys() else stall_s
            return _opened(address, {**_LOW_DELAY, **options}, (OPEN_S, stall_s), decoder)
        except _WRONG:
            raise
        except (av.FFmpegError, OSError) as error:
            check_interrupt()  # FFmpeg took it for the end of what it read
            failure = failure or error
            ways.rotate(-1)
    assert failure is not None
    raise failure


def _offered(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet | None]:
    """What comes; None where a camera says that nothing is there yet, as those of Macs do."""
    while True:
        try:
            yield from packets_of(container, stream)
            return
        except BlockingIOError:
            yield None


def _opened(
    address: Address, options: dict[str, str], timeout: tuple[float, float], decoder: Decoder
) -> av.container.InputContainer:
    """A connection; of pictures one after another, by the bytes that each of them begins with.

    FFmpeg takes them apart by the lines between them, which some cameras write as browsers alone
    read them: "image/jpg", "image/jpeg; size=9".
    """
    container = address.open(options, timeout, decoder.accel)
    if container.format.name != "mpjpeg" or _shows(container):
        return container
    container.close()
    container = replace(address, format="mjpeg").open(options, timeout, decoder.accel)
    if _shows(container):
        return container
    container.close()
    raise av.error.InvalidDataError(errno.EIO, "not one picture comes")


def _shows(container: av.container.InputContainer) -> bool:
    return any(stream.width for stream in container.streams.video)


def _is_recording(container: av.container.InputContainer) -> bool:
    name = container.format.name
    if container.size > 0 and name not in _ENDLESS:
        return True
    # An mp4 in fragments, sent without end, tells the length of those that have come.
    fragments = "mp4" in name and not any(stream.frames for stream in container.streams.video)
    return container.duration is not None and not fragments


def _is_over(container: av.container.InputContainer) -> bool:
    """Whether a live playlist has got its end: what it still lists would be played once more."""
    return container.format.name == "hls" and container.duration is not None


def _video(address: Address, container: av.container.InputContainer) -> av.VideoStream:
    stream = main_video(container)
    if stream is None:
        container.close()
        raise HedgeError(f"{address.shown}: has no video in it; check the address")
    limit_size(stream, address.shown)
    # Threads by frame would hold back as many frames as there are threads.
    stream.codec_context.thread_type = "SLICE"
    return stream


def _cause(error: Exception) -> str:
    """FFmpeg's own words without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError | TimeoutError):
        return "nothing arrives"
    if isinstance(error, av.error.ArgumentError):  # a format that none of the ways takes
        return "it sends a picture, or another format that is not read from the web"
    return getattr(error, "strerror", None) or type(error).__name__
