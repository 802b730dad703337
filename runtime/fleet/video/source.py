"""A span of a video as a source of frames: as they are in the whole video, in number and time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av

from runtime.errors import HedgeError
from runtime.fleet.places import is_address, open_place
from runtime.fleet.plan import Span
from runtime.sources.base import Frame
from runtime.sources.video_file import VideoSource

_BACK_S = 2.0  # by which the next try starts earlier, twice as much each time


class SpanSource(VideoSource):
    """The frames of a span, decoded from a key frame on; a whole video is read as any other.

    earlier: yield the frame before the span as well, which flicker is measured against.
    """

    def __init__(self, span: Span, earlier: bool = False) -> None:
        files = [] if is_address(span.video) else [Path(span.video)]
        super().__init__(span.video, open_place(span.video), files)
        self._span = span
        self._whole = span.start_pts is None and span.end_pts is None
        self._earlier = earlier and span.start_pts is not None
        if not self._whole:
            self.expected = None if span.frames is None else span.frames + self._earlier

    def _frames(self) -> Iterator[Frame]:
        if self._whole:
            yield from super()._frames()
            return
        span, before = self._span, None
        start = span.zero if span.start_pts is None else span.start_pts
        self._seek(start - self._earlier)
        number, begun = span.first, False
        for decoded in self._decoded():
            if decoded is None:
                number += begun  # a lost packet takes its number along
                continue
            if decoded.pts is None:
                self.record.add(f"{self.origin}: frame {number} has no time")
                continue
            if decoded.pts < start:
                before = decoded
                continue
            if span.end_pts is not None and decoded.pts >= span.end_pts:
                return
            if before is not None and self._earlier and not begun:
                yield self._placed(before, number - 1)
            begun = True
            yield self._placed(decoded, number)
            number += 1
        self._cut = self._cut or self._cut_at()
        if span.end_pts is not None:
            self._cut = self._cut or "it ends before the next span begins"

    def _placed(self, decoded: av.VideoFrame, number: int) -> Frame:
        self._times.of(decoded, number)
        time_s = (decoded.pts - self._span.zero) * self.time_base
        return self._shown(decoded, number, float(time_s))

    def _seek(self, pts: int) -> None:
        """Go to the last key frame that is shown at ``pts`` or before."""
        back = int(_BACK_S / self.time_base)
        target = pts
        while target > self._span.zero:
            self._container.seek(target, stream=self._stream)
            packet = next(iter(self._packets()), None)
            if packet is not None and packet.is_keyframe and (packet.pts or 0) <= pts:
                break
            target -= back
            back *= 2
        try:
            self._container.seek(max(target, self._span.zero), stream=self._stream)
        except av.FFmpegError as error:
            raise HedgeError(
                f"{self.origin}: cannot be read from {float(pts * self.time_base):.1f} s on "
                f"({error.strerror})"
            ) from error
