"""The times of decoded frames, and the rate of those that have none."""

from __future__ import annotations

import heapq
from fractions import Fraction

import av
from av.format import Flags

from runtime.sources.base import DEFAULT_FPS
from runtime.sources.timeline import Timeline

HOLE_S = 0.25  # that a frame is late, where others may be missing
_SLOWEST = Fraction(1, 100_000)  # frames a second: beyond it, and beyond 1000, it is damage
_LONGEST = Fraction(24 * 3600)  # seconds between two frames of one recording


def frame_rate(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction:
    """Frames a second: the average, or of raw streams, which know none, the codec's own."""
    rates = [stream.average_rate, stream.guessed_rate]
    if _is_raw(container):
        rates.reverse()
    return next(
        (Fraction(rate) for rate in rates if rate and _SLOWEST <= rate <= 1000), DEFAULT_FPS
    )


class FrameTimes:
    """Times of frames in the order they are shown, in seconds from the first one.

    Raw streams hold no times: frame i is shown at i / rate. AVI holds the order of decoding alone,
    which B-frames are not shown in: the earliest place that is still free is a frame's. All others
    say when each frame is shown. unit: seconds, of which all times are multiples; end_s: where the
    latest frame ends, by the clock of the file; shown_s: what all frames last; hole: whether a
    frame came late by a quarter of a second or more.
    """

    def __init__(
        self, container: av.container.InputContainer, stream: av.VideoStream, rate: Fraction
    ) -> None:
        self._raw, self._places = _is_raw(container), container.format.name == "avi"
        self._base = stream.time_base or 1 / rate
        self.unit = 1 / rate if self._raw else self._base
        self._gap = 1 / rate
        self._timeline = Timeline(self.unit, self._gap, _LONGEST)
        self._free: list[int] = []
        self.end_s = self.shown_s = 0.0
        self.hole = False

    def read(self, packet: av.Packet) -> None:
        """Note a packet before it is decoded."""
        if self._places and packet.dts is not None:
            heapq.heappush(self._free, packet.dts)

    def lose(self, packet: av.Packet) -> None:
        """Forget a packet that did not decode."""
        if packet.dts in self._free:
            self._free.remove(packet.dts)
            heapq.heapify(self._free)

    def of(self, decoded: av.VideoFrame, index: int) -> float:
        """The time in seconds of the next frame, the ``index``-th of the stream."""
        if self._raw:
            time: Fraction | None = index * self._gap
        else:
            place = decoded.pts
            if self._places:
                place = heapq.heappop(self._free) if self._free else None
            time = None if place is None else place * self._base
        if time is not None:
            length = decoded.duration * self._base or self._gap
            self.hole |= self.shown_s > 0 and time - self.end_s > HOLE_S
            self.shown_s += float(length)
            self.end_s = max(self.end_s, float(time + length))
        return float(self._timeline.place(time) * self.unit)


def _is_raw(container: av.container.InputContainer) -> bool:
    return bool(container.format.flags & Flags.no_timestamps.value)
