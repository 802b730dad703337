"""What a source of frames is."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Container, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from runtime.errors import HedgeError
from runtime.files import printable
from runtime.interrupt import Closing

_NAMED = 100  # faults that are kept with their text
DEFAULT_FPS = Fraction(25)  # of a raw video stream, which carries none either


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: 0-based position in the source; time_s: seconds after the first frame of a recording, or
    after the start of a live source, finite and increasing; image: (H, W, 3) uint8 BGR; name: a
    file stem for image sources (``frankfurt_000000_000294``), or six digits for video frames; it
    names label files; arrived: ``time.monotonic()`` when a live source had decoded it, 0 for files,
    which wait; pixel_aspect: width of a pixel by its height; unseen_s: seconds of a live source's
    gaps before it, in all.
    """

    index: int
    time_s: float
    image: np.ndarray
    name: str
    arrived: float = 0.0
    pixel_aspect: Fraction = Fraction(1)
    pts: int | None = None
    unseen_s: float = 0.0


class Faults:
    """What did not decode cleanly: ``count``, and ``lines`` on the first hundred."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def add(self, line: str) -> None:
        """Count one more; its ``line`` is kept while there are few."""
        self.count += 1
        if len(self.lines) < _NAMED:  # a camera may run for months
            self.lines.append(line)


@dataclass(frozen=True)
class FrameNames(Container[str]):
    """The names of a video's first ``count`` frames, which nobody lists: a count is a promise."""

    count: int

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or not name.isascii() or not name.isdecimal():
            return False
        return name == frame_name(int(name)) and int(name) < self.count


def frame_name(index: int) -> str:
    """The name of a video's frame, as ``000000``."""
    return f"{index:06d}"


class Source(Closing):
    """Frames in order, once; a context manager.

    origin: what the user named, as text to show; files: the files read; fps: frames per second;
    time_base: the unit, in seconds, of a recording's times; expected: frames the source promises,
    None where it does not say; names: the frames' names where they are known ahead; size: (height,
    width) of the first frame, None before it; record: what did not decode cleanly; shortfall:
    promised frames that never came, known once the iteration has reached the end; decoder: what
    decodes a video, "cpu" or hardware's name, None of other sources. Raises HedgeError when not one
    frame decodes.
    """

    live = False  # whether frames come whether or not anybody is ready: then the newest is next
    decoder: str | None = None
    timed = True  # whether they are one camera's, with a rate of their own

    def __init__(self, origin: str, files: list[Path], fps: Fraction, expected: int | None) -> None:
        self.origin = printable(origin)
        self.files = files
        self.fps = fps
        self.time_base = 1 / fps
        self.expected = expected
        self.size: tuple[int, int] | None = None
        self.record = Faults()
        self.shortfall = 0
        self._stopped = threading.Event()

    @property
    def names(self) -> Container[str] | None:
        """The frames' names where they are known ahead, else None."""
        return None

    @abstractmethod
    def _frames(self) -> Iterator[Frame]: ...

    @property
    def faults(self) -> list[str]:
        """A line on each of the first hundred that did not decode cleanly."""
        return self.record.lines

    @property
    def damaged(self) -> int:
        """How many did not decode cleanly."""
        return self.record.count

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
        self.shortfall = 0 if self.live else max(0, (self.expected or 0) - count)
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

    def close(self) -> None:
        """Free what the source holds open."""
