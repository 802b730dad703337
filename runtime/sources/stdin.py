"""Raw frames on standard input, from any program that can write pixels."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from io import FileIO

import numpy as np

from runtime.errors import HedgeError
from runtime.sources.base import DEFAULT_FPS, Frame, Source, frame_name

_POLL_S = 0.2  # how late a stop is seen while nothing comes


class PipeSource(Source):
    """uint8 BGR frames of ``size`` (height, width), row after row, until the pipe is closed.

    For example: ffmpeg -i x.mp4 -f rawvideo -pix_fmt bgr24 - | … Every frame is processed; a
    writer that is faster waits. What is left of a frame at the end counts as damaged.
    """

    timed = False

    def __init__(self, size: tuple[int, int] | None, descriptor: int | None = None) -> None:
        if size is None or min(size) < 1:
            raise HedgeError(
                "standard input (-) has no sizes in it; give --raw-size HEIGHT WIDTH of its "
                "uint8 BGR frames"
            )
        self._fd = sys.stdin.fileno() if descriptor is None else descriptor
        if os.isatty(self._fd):
            raise HedgeError("standard input (-) is a terminal; pipe raw frames into the command")
        super().__init__("standard input", [], DEFAULT_FPS, None)
        self._shape = (*size, 3)
        self._pipe = FileIO(self._fd, closefd=False)

    def _frames(self) -> Iterator[Frame]:
        index, started = 0, time.monotonic()
        while (image := self._read()) is not None:
            yield Frame(index, time.monotonic() - started, image, frame_name(index))
            index += 1

    def _read(self) -> np.ndarray | None:
        image = np.empty(self._shape, np.uint8)
        room = memoryview(image.reshape(-1))  # type: ignore[arg-type]
        filled = 0
        while filled < len(room):
            while not self._ready():
                if self._stopped.is_set():
                    return None
            count = self._pipe.readinto(room[filled:])
            if not count:
                if filled:
                    self.record.add(
                        f"{self.origin}: the last frame breaks off after {filled} bytes"
                    )
                return None
            filled += count
        return image

    def _ready(self) -> bool:
        """Whether something has come; on Windows, where nobody can ask, a read waits for it."""
        if sys.platform == "win32":
            return True
        return bool(select.select([self._fd], [], [], _POLL_S)[0])
