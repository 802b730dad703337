"""Where results go: a video, label images, a row for each frame, a report. All checked first."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import msgspec
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from runtime import files
from runtime.classes import ClassSet
from runtime.cli import warn
from runtime.errors import HedgeError, OutputError

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_BT709 = 1  # in ITU-T H.273, of primaries and of transfer characteristics alike
_GOP_SECONDS = 2  # what a killed process loses at most, and how far a player seeks
_FLUSH_SECONDS = 1.0
_LIVE_BASE = 90_000  # units a second of the times of live frames, as in RTP


def check_outputs(
    outputs: Iterable[Path], folder: Path | None, inputs: Iterable[Path], force: bool
) -> None:
    """Refuse outputs that cannot or must not be written, before any work is done.

    outputs: files; folder: of the saved labels; inputs: every file that is read. Missing parent
    folders are made. Raises HedgeError where an output is an input (``force`` or not), OutputError
    where it exists without ``force`` or cannot be written.
    """
    read = {_identity(path) for path in inputs}
    read_in = {_identity(path.parent) for path in inputs}
    seen: set[Path] = set()
    for path in outputs:
        if path.resolve() in seen:
            raise HedgeError(f"{path}: two outputs have this name; give each its own")
        seen.add(path.resolve())
        _check_file(path, read, force)
    if folder is not None:
        _check_folder(folder, read_in, force)


def check_format(path: Path) -> None:
    """Raise HedgeError for a video name that no container goes by."""
    if path.suffix.lower() not in FORMATS:
        raise HedgeError(f"{path}: unknown video format; end its name in {', '.join(FORMATS)}")


def _check_file(path: Path, read: set[tuple[int, int]], force: bool) -> None:
    with _writing(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if path.exists():
            if _identity(path) in read:
                raise HedgeError(f"{path}: is an input as well; write to another file")
            if not force:
                raise OutputError(f"{path}: exists already; pass --force to overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path}: not writable; choose another place or change its permissions")


def _check_folder(folder: Path, read_in: set[tuple[int, int]], force: bool) -> None:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if _identity(folder) in read_in:
            raise HedgeError(f"{folder}: holds inputs; save the labels in another folder")
        if not force and any(folder.iterdir()):
            raise OutputError(f"{folder}: not empty; pass --force to overwrite what is in it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: not writable; choose another place or change its permissions")


def _identity(path: Path) -> tuple[int, int]:
    """What a file is, whatever it is called: the same through links of either kind."""
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about writing ``path`` into one line."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write ``report`` as indented JSON, whole or not at all."""
    with _writing(path):
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")


class VideoSink:
    """H.264 that browsers play, at the size of the first frame; a context manager.

    Odd sizes are padded to even by repeating the last row and column; frames of another size are
    scaled, with one warning. The file is fragmented and flushed: when the process is killed or the
    disk is full, everything but the last two seconds plays. live: frames are shown at their times,
    since they come when they come; of a file they are one ``1 / fps`` after the other. Raises
    OutputError.
    """

    def __init__(self, path: Path, fps: Fraction, live: bool = False) -> None:
        check_format(path)
        self.path = path
        self._fps, self._live = fps, live
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._yuv = VideoReformatter()
        self._size = (0, 0)  # (width, height) of the first frame
        self._last = -1  # time of the last frame, in units of its base
        self._first: float | None = None
        self._scaled = False

    def write(self, image: np.ndarray, time_s: float = 0.0) -> None:
        """Append an (H, W, 3) uint8 BGR image; ``time_s``: when it is shown, of a live source."""
        height, width = image.shape[:2]
        if self._container is None:
            self._size = (width, height)
            self._open()
        if (width, height) != self._size:
            image = self._scale(image)
        if self._size[0] % 2 or self._size[1] % 2:
            rows, columns = self._size[1] % 2, self._size[0] % 2
            image = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
        frame = self._yuv.reformat(
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = self._time(time_s)
        self._encode(frame)

    def close(self) -> None:
        """Write what the encoder still holds and finish the file; harmless when repeated."""
        if self._container is not None:
            self._encode(None)
            container, self._container = self._container, None
            with _writing(self.path):
                container.close()

    def _open(self) -> None:
        kind = FORMATS[self.path.suffix.lower()]
        options = {"flush_packets": "1"} | ({} if kind == "matroska" else _FRAGMENTED)
        with _writing(self.path):
            url = f"file:{self.path.absolute()}"
            self._container = av.open(url, "w", format=kind, options=options)
        stream = self._container.add_stream("libx264", rate=self._fps)
        stream.width, stream.height = (n + n % 2 for n in self._size)
        stream.pix_fmt = "yuv420p"
        # No B-frames: a fragmented file has no edit list that would hide the delay they start with.
        # It shares the engine's cores: ultrafast takes a third of veryfast's time (5 against
        # 19 ms of CPU at 720p) for a file 1.8 times as large.
        stream.options = {"crf": "23", "preset": "ultrafast", "bf": "0"}
        context = stream.codec_context
        context.gop_size = max(1, round(_GOP_SECONDS * self._fps))
        # What browsers assume anyway, said aloud: a player that guesses BT.601 shifts the reds.
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        self._stream = stream

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._stream is not None and self._container is not None
        try:
            with _writing(self.path):
                self._container.mux(self._stream.encode(frame))
        except OutputError:
            container, self._container = self._container, None  # nothing more can be written
            with suppress(av.FFmpegError):
                container.close()
            raise

    def _time(self, time_s: float) -> tuple[int, Fraction]:
        if not self._live:
            self._last += 1
            return self._last, 1 / self._fps
        if self._first is None:
            self._first = time_s
        self._last = max(self._last + 1, round((time_s - self._first) * _LIVE_BASE))
        return self._last, Fraction(1, _LIVE_BASE)

    def _scale(self, image: np.ndarray) -> np.ndarray:
        if not self._scaled:
            width, height = self._size
            warn(f"{self.path}: the frames change size; all are scaled to {width}×{height}")
            self._scaled = True
        return cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LabelSink:
    """A palette PNG for each frame: training ids as values, class colours to look at."""

    def __init__(self, folder: Path, classes: ClassSet) -> None:
        self.folder = folder
        self._palette = np.ascontiguousarray(classes.palette()[:, ::-1]).tobytes()  # RGB

    def write(self, name: str, labels: np.ndarray) -> None:
        """Write (H, W) uint8 ``labels`` as ``name.png``, whole or not at all."""
        image = Image.fromarray(labels)
        image.putpalette(self._palette)
        data = io.BytesIO()
        image.save(data, "PNG", compress_level=1)
        path = self.folder / f"{name}.png"
        with _writing(path):
            files.write_bytes(path, data.getvalue())


class RowSink:
    """JSON lines, flushed every second and at the end; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _writing(path):
            self._file = path.open("wb")
        self._flushed = time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        """Append ``row`` as one line."""
        with _writing(self.path):
            self._file.write(msgspec.json.encode(row) + b"\n")
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        with _writing(self.path):
            self._file.close()

    def __enter__(self) -> RowSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
