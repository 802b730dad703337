"""H.264 video files that browsers play, and that survive a killed process."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from runtime.cli import warn
from runtime.errors import HedgeError, OutputError
from runtime.interrupt import Closing
from runtime.outputs.checks import writing
from runtime.sources.timeline import Timeline

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_BT709 = 1  # in ITU-T H.273, of primaries and of transfer characteristics alike
_GOP_SECONDS = 1  # what a killed process loses at most, and how far a player seeks
_GOP_FRAMES = 250  # the most, where many frames come in a second
# It shares the engine's cores: with constant qp the encoder looks at each frame once. That takes
# 1.7 instead of 3.1 ms of CPU (crf 23) for a smaller file that looks the same; "superfast" takes 5.
# zerolatency: what was written is in the file, not in the encoder.
_X264 = {"preset": "ultrafast", "tune": "zerolatency", "qp": "26", "forced-idr": "1"}
_LIVE_UNIT = Fraction(1, 10_000)  # of the times of live frames: mp4 holds pauses of 59 hours then
_LONGEST = 2**31 - 1  # units between two frames that mp4 holds


def check_format(path: Path) -> None:
    """Raise HedgeError for a video name that no container goes by."""
    if path.suffix.lower() not in FORMATS:
        raise HedgeError(f"{path}: unknown video format; end its name in {', '.join(FORMATS)}")


class VideoSink(Closing):
    """H.264 that browsers play; a context manager.

    Odd sizes are padded to even by repeating the last row and column. Where the frames change
    their size, ``segments`` says: True: the video goes on in another file, ``name-2.mp4`` and so
    on (the next number that is free); False: all are scaled to the first, with one warning. files:
    what was written. A file is fragmented and flushed: when the process is killed or the disk is
    full, everything but the last second, a group of pictures, plays. Frames are shown at their
    times, in multiples of ``time_base`` seconds, 1 / ``fps`` unless said; ``live`` ones, which come
    by a clock, to 0.1 ms. No time ends a recording: see ``Timeline``. Raises OutputError.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction,
        live: bool = False,
        segments: bool = False,
        time_base: Fraction | None = None,
    ) -> None:
        check_format(path)
        self.path = path
        self.files: list[Path] = []
        self._fps, self._segments = Fraction(fps), segments
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)  # (width, height) of this file's first frame
        self._unit = _unit(path, _LIVE_UNIT if live else time_base or 1 / self._fps)
        self._timeline = self._new_timeline()
        self._next_key = Fraction(0)  # seconds in this file
        self._scaled = False

    def write(
        self,
        image: np.ndarray,
        time_s: float | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Append an (H, W, 3) uint8 BGR image.

        time_s: when it is shown, None: 1 / fps after the last; pixel_aspect: width of a pixel by
        its height, which players stretch the picture by; that of a file's first image holds.
        """
        size = (image.shape[1], image.shape[0])
        if self._segments and size != self._size:
            self.close()
        if self._container is None:
            self._size = size
            self._open(pixel_aspect)
        frame = av.VideoFrame.from_ndarray(_yuv(self._fitted(image)), format="yuv420p")
        frame.pts, frame.time_base = self._timeline.place(time_s), self._unit
        if frame.pts * self._unit >= self._next_key:
            frame.pict_type = PictureType.I
            self._next_key = frame.pts * self._unit + _GOP_SECONDS
        self._encode(frame)

    def close(self) -> None:
        """Write what the encoder still holds and finish the file; harmless when repeated."""
        if self._container is not None:
            self._encode(None)
            container, self._container = self._container, None
            with writing(self.files[-1]):
                container.close()

    def _new_timeline(self) -> Timeline:
        return Timeline(self._unit, 1 / self._fps, _LONGEST * self._unit)

    def _open(self, pixel_aspect: Fraction) -> None:
        self._timeline, self._next_key = self._new_timeline(), Fraction(0)
        self.files.append(_free(self.path) if self.files else self.path)
        kind = FORMATS[self.path.suffix.lower()]
        options = {"flush_packets": "1"} | ({} if kind == "matroska" else _FRAGMENTED)
        with writing(self.files[-1]):
            url = f"file:{self.files[-1].absolute()}"
            self._container = av.open(url, "w", format=kind, options=options)
        stream = self._container.add_stream("libx264", rate=self._fps, time_base=self._unit)
        stream.width, stream.height = (n + n % 2 for n in self._size)
        stream.pix_fmt = "yuv420p"
        stream.options = _X264
        context = stream.codec_context
        context.gop_size = _GOP_FRAMES
        context.sample_aspect_ratio = pixel_aspect
        # Said aloud: a player that guesses by the size of the picture shifts the reds.
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        self._stream = stream

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._stream is not None and self._container is not None
        try:
            with writing(self.files[-1]):
                self._container.mux(self._stream.encode(frame))
        except OutputError:
            container, self._container = self._container, None  # nothing more can be written
            with suppress(av.FFmpegError):
                container.close()
            raise

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """``image`` at the size of this file's first one."""
        width, height = self._size
        if image.shape[:2] == (height, width):
            return image
        if not self._scaled:
            warn(f"{self.path}: the frames change size; all are scaled to {width}×{height}")
            self._scaled = True
        return cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)


def _yuv(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR → (3/2 H, W) uint8 planes of YUV 4:2:0, BT.601; H and W made even.

    OpenCV knows this matrix only, and takes a quarter of the milliseconds of FFmpeg's conversion.
    """
    rows, columns = image.shape[0] % 2, image.shape[1] % 2
    if rows or columns:
        image = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)


def _unit(path: Path, wanted: Fraction) -> Fraction:
    """The unit of the times in the file, of which ``wanted`` is a multiple where it can be."""
    if FORMATS[path.suffix.lower()] == "matroska":
        return Fraction(1, 1000)  # the only one there is
    units = wanted.denominator
    while units < 10_000:  # as FFmpeg's muxer does
        units *= 2
    return Fraction(1, units if units < 100_000 else 90_000)  # finer ones hold short pauses only


def _free(path: Path) -> Path:
    """The first of ``name-2.mp4``, ``name-3.mp4``, … that does not exist."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in names if not name.exists())
