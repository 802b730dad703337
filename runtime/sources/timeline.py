"""Times that increase strictly, whatever a clock or a file says."""

from __future__ import annotations

import math
from fractions import Fraction

# By which the times of frames that are in order may step back: less than what NTP sets a clock by,
# and up to one and a half frames, since two of a burst with a jitter of ±60 % are 1.2 apart.
_JITTER_S, _JITTER_FRAMES = Fraction(1, 8), Fraction(3, 2)


class Timeline:
    """Turns reported times into strictly increasing numbers of units, from 0 on.

    unit: seconds; gap: seconds to the next frame where nothing better is known; longest: the
    longest pause, in seconds. A time that lies a little before the latest one is jitter: its frame
    follows one unit after the last. A larger step back (a wrap, a clock that was set, another
    recording) and one that is longer than a pause go on ``gap`` after the latest time; so does a
    frame without a finite time.
    """

    def __init__(self, unit: Fraction, gap: Fraction, longest: Fraction) -> None:
        self._unit, self._gap, self._longest = unit, gap, longest
        self._jitter = max(_JITTER_S, _JITTER_FRAMES * gap)
        self._start: Fraction | None = None  # the reported time that is this timeline's 0
        self._latest = -gap  # exact, in seconds
        self._last = -1  # the last frame's place

    def place(self, time_s: Fraction | float | None) -> int:
        """Units from the first frame to the next one, which was reported at ``time_s``."""
        following = self._latest + self._gap
        if time_s is None or not math.isfinite(time_s):
            time = following
        else:
            time = Fraction(time_s) - (self._start or 0)
            step = time - self._latest
            if self._start is None or not -self._jitter <= step <= self._longest:
                self._start = Fraction(time_s) - following
                time = following
        self._latest = max(self._latest, time)
        self._last = max(self._last + 1, round(self._latest / self._unit))
        return self._last
