"""Files as a stream of frames: a video, or images."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from runtime import images
from runtime.errors import HedgeError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_NAMED = 100  # faults that are kept with their text
IMAGES_FPS = Fraction(10)  # of an image folder, which carries no times
DEFAULT_FPS = Fraction(25)  # of a raw video stream, which carries none either

# Real containers only. Playlists (HLS, DASH, concat, SDP) would open other files by themselves.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,ogg,asf,mxf,nut,gif,yuv4mpegpipe,dv,wav,mp3,aac,flac"
)
_ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: 0-based position in the source; time_s: presentation time in seconds; image:
    (H, W, 3) uint8 BGR; name: a file stem for image sources (``frankfurt_000000_000294``), or
    six digits for video frames; it names label files; arrived: ``time.monotonic()`` when a live
    source had decoded it, 0 for files, which wait.
    """

    index: int
    time_s: float
    image: np.ndarray
    name: str
    arrived: float = 0.0


class Source(ABC):
    """Frames in order, once; a context manager.

    origin: what the user named; files: the files read; fps: frames per second; expected: frames
    the source promises, None where it does not say; names: the frames' names where they are known
    ahead; size: (height, width) of the first frame, None before it. faults: a line for each image,
    packet or frame that did not decode cleanly (the first hundred); damaged: how many there were;
    shortfall: promised frames that never came, known once the iteration has reached the end.
    Raises HedgeError when not one frame decodes.
    """

    live = False  # whether frames come whether or not anybody is ready: then the newest is next

    def __init__(self, origin: str, files: list[Path], fps: Fraction, expected: int | None) -> None:
        self.origin = origin
        self.files = files
        self.fps = fps
        self.expected = expected
        self.size: tuple[int, int] | None = None
        self.faults: list[str] = []
        self.damaged = 0
        self.shortfall = 0
        self._stopped = threading.Event()

    @property
    @abstractmethod
    def names(self) -> Sequence[str] | None: ...

    @abstractmethod
    def _frames(self) -> Iterator[Frame]: ...

    def __iter__(self) -> Iterator[Frame]:
        count = 0
        for frame in self._frames():
            self.size = self.size or (frame.image.shape[0], frame.image.shape[1])
            count += 1
            yield frame
            if self._stopped.is_set():
                return
        if self._stopped.is_set():
            return
        self.shortfall = max(0, (self.expected or 0) - count)
        if not count:
            cause = self.faults[0] if self.faults else f"{self.origin}: it holds none"
            raise HedgeError(f"no frame could be read: {cause}")

    def complaint(self) -> str | None:
        """One line on what is missing or damaged after the iteration, None when nothing is."""
        missing = f"{self.shortfall} of the {self.expected} frames it promises are missing"
        parts = [missing] if self.shortfall else []
        parts += [f"{self.damaged} did not decode cleanly"] if self.damaged else []
        return f"{self.origin}: {', '.join(parts)}" if parts else None

    def stop(self) -> None:
        """Let the iteration end after the frame it is at; from any thread or signal handler."""
        self._stopped.set()

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Free what the source holds open."""

    def _fault(self, line: str) -> None:
        self.damaged += 1
        if len(self.faults) < _NAMED:  # a camera may run for months
            self.faults.append(line)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ImageSource(Source):
    """Image files as frames; one that does not decode whole is skipped and recorded."""

    def __init__(self, origin: str, paths: list[Path]) -> None:
        doubled = [stem for stem, n in Counter(p.stem for p in paths).items() if n > 1]
        if doubled:
            raise HedgeError(
                f"{origin}: {len(doubled)} names occur twice, such as {doubled[0]}; labels and "
                "results go by name, so give folders with the same names one at a time"
            )
        super().__init__(origin, paths, IMAGES_FPS, len(paths))

    @property
    def names(self) -> Sequence[str]:
        return [path.stem for path in self.files]

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.files):
            try:
                image = cv2.cvtColor(images.read_rgb(path), cv2.COLOR_RGB2BGR)
            except HedgeError as error:
                self._fault(str(error))
                continue
            yield Frame(index, float(index / self.fps), image, path.stem)


class VideoSource(Source):
    """A video file, decoded packet by packet, upright, at each frame's own size."""

    def __init__(self, path: Path) -> None:
        self._container = _open_container(path)
        self._stream = _video_stream(self._container, path)
        self._bgr = VideoReformatter()  # shared: a new one for each frame costs 1 ms at 720p
        self._hidden = 0
        rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FPS
        super().__init__(str(path), [path], Fraction(rate), self._stream.frames or None)

    @property
    def names(self) -> Sequence[str] | None:
        return [_name(index) for index in range(self.expected)] if self.expected else None

    def complaint(self) -> str | None:
        line = super().complaint()
        hidden = f" (its edit list hides {self._hidden})" if self._hidden else ""
        return line + hidden if line and self.shortfall else line

    def close(self) -> None:
        self._container.close()

    def _frames(self) -> Iterator[Frame]:
        # A lost packet takes its index along: the frames behind it keep the names of their labels.
        for index, decoded in enumerate(self._decoded()):
            if decoded is None:
                continue
            if decoded.is_corrupt:
                self._fault(f"{self.origin}: frame {index} is damaged")
            time_s = float(index / self.fps) if decoded.time is None else decoded.time
            yield Frame(index, time_s, self._image(decoded), _name(index))

    def _decoded(self) -> Iterator[av.VideoFrame | None]:
        """Every decoded frame; None for a packet that does not decode."""
        for packet in self._packets():
            self._hidden += packet.is_discard
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._fault(f"{self.origin}: a packet does not decode: {error.strerror}")
                yield None
                continue
            yield from frames
        with suppress(av.FFmpegError):  # EOFError where the container has flushed the decoder
            yield from self._stream.decode(None)

    def _packets(self) -> Iterator[av.Packet]:
        """Packets with data. One failure to read is survived, a second without progress is not."""
        failed = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._fault(f"{self.origin}: unreadable data: {error.strerror}")
                if failed:
                    return
                failed, packets = True, self._container.demux(self._stream)
                continue
            if packet is None:
                return
            failed = False
            if packet.size:
                yield packet

    def _image(self, decoded: av.VideoFrame) -> np.ndarray:
        image = bgr_image(self._bgr, decoded)
        turn = _ROTATIONS.get(round(decoded.rotation / 90) * 90 % 360)
        return image if turn is None else cv2.rotate(image, turn)


def bgr_image(converter: VideoReformatter, decoded: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 BGR, contiguous; FFmpeg's own memory where its rows have no padding."""
    # In one thread: more of them spend a third more CPU, which the engine misses.
    frame = converter.reformat(decoded, format="bgr24", threads=1)
    plane = frame.planes[0]
    if plane.line_size != 3 * frame.width:
        return np.ascontiguousarray(frame.to_ndarray())
    pixels = np.frombuffer(memoryview(plane), np.uint8, 3 * frame.width * frame.height)
    return pixels.reshape(frame.height, frame.width, 3)


def _open_container(path: Path) -> av.container.InputContainer:
    if not path.stat().st_size:
        raise HedgeError(f"{path}: the file is empty (0 bytes); copy or record it again")
    # As an absolute file: URL, a name such as "concat:x" or "-report" is only ever a name.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        url = f"file:{path.absolute()}"
        return av.open(url, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise HedgeError(
            f"{path}: not a readable video ({error.strerror}); check that it plays, or convert it"
        ) from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of a music file
            return stream
    container.close()
    raise HedgeError(f"{path}: has no video track; give a file with pictures in it")


def _name(index: int) -> str:
    return f"{index:06d}"
