"""Alarms: a class that has too little or too much of a zone for too long."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.sources.base import Frame

_NAMED = 100  # rings that a report tells one by one
_ZONE = "NAME=x,y,x,y,x,y with three corners or more, 0..1 of the frame's width and height"
_ALARM = '"CLASS < SHARE for SECONDS s", as in "road < 0.3 for 2 s" or "car in lane > 0.05"'
_RULE = re.compile(
    r"(?P<name>\S.*?)(?: +in +(?P<zone>\S+))? *(?P<sign>[<>]) *(?P<share>\d*\.?\d+)"
    r"(?: +for +(?P<seconds>\d*\.?\d+) *s)?"
)


@dataclass(frozen=True)
class Zone:
    """A part of the frame; corners: (x, y) of a polygon, 0..1 of the frame's width and height."""

    name: str
    corners: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> Zone:
        """What ``--zone`` was given; HedgeError says how it is written."""
        name, _, numbers = text.partition("=")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        fits = len(values) >= 6 and len(values) % 2 == 0 and all(0 <= v <= 1 for v in values)
        if not fits or not re.fullmatch(r"[^\s<>]+", name):
            raise HedgeError(f"--zone {text}: give {_ZONE}")
        return cls(name, tuple(zip(values[::2], values[1::2], strict=True)))

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: the pixels whose middle lies inside, by the even-odd rule."""
        xs, ys = ((np.arange(side) + 0.5) / side for side in (size[1], size[0]))
        inside = np.zeros(size, bool)
        ends = self.corners[1:] + self.corners[:1]
        for (x0, y0), (x1, y1) in zip(self.corners, ends, strict=True):
            rows = (y0 <= ys) != (y1 <= ys)
            crossing = x0 + (ys[rows] - y0) / ((y1 - y0) or 1) * (x1 - x0)
            inside[rows] ^= xs[None] < crossing[:, None]
        return inside


FRAME = Zone("frame", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


@dataclass(frozen=True)
class Alarm:
    """A rule: the share of a class, in a zone, on one side of a bound for some seconds.

    zone: its name, None: every zone, or the frame where there is none.
    """

    text: str
    name: str
    zone: str | None
    below: bool
    share: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Alarm:
        """What ``--alarm`` was given; HedgeError says how it is written."""
        found = _RULE.fullmatch(text.strip())
        if found is None or not 0 <= float(found["share"]) <= 1:
            raise HedgeError(f"--alarm {text}: give {_ALARM}; a share is 0..1")
        seconds = float(found["seconds"] or 0)
        below = found["sign"] == "<"
        share = float(found["share"])
        return cls(text.strip(), found["name"], found["zone"], below, share, seconds)

    def told(self, zone: Zone) -> str:
        """The rule in one zone, in words."""
        bound = f"{self.name} in {zone.name} {'<' if self.below else '>'} {self.share:g}"
        return f"{bound} for {self.seconds:g} s" if self.seconds else bound


@dataclass
class Ring:
    """An alarm that rang, in words: from when its rule held, and for how long so far."""

    alarm: str
    time_s: float
    seconds: float


@dataclass(frozen=True)
class Rings:
    """How often alarms rang, and the first hundred times."""

    count: int
    first: list[Ring]


@dataclass
class _Rule:
    """An alarm in one zone; since: seconds seen when it began to hold, NaN while it does not;
    from_s: its time then.
    """

    alarm: Alarm
    zone: Zone
    index: int
    since: float = math.nan
    from_s: float = 0.0
    ring: Ring | None = None


class Watch:
    """Alarms over zones, frame by frame. Raises HedgeError for a class or zone there is not.

    A rule holds for as long as it was seen to: a camera's gap is no part of its seconds, and does
    not end them either, for some cameras break off every minute.
    """

    def __init__(self, alarms: Sequence[Alarm], zones: Sequence[Zone], classes: ClassSet) -> None:
        known = {zone.name: zone for zone in zones}
        for alarm in alarms:
            if alarm.zone is not None and alarm.zone not in known:
                have = ", ".join(known) or "none"
                raise HedgeError(f"--alarm {alarm.text}: no zone {alarm.zone}; there are {have}")
        self._rules = [
            _Rule(alarm, zone, classes.find(alarm.name, "--alarm"))
            for alarm in alarms
            for zone in ([known[alarm.zone]] if alarm.zone else zones or [FRAME])
        ]
        self._mask = lru_cache(maxsize=2 * len(zones) + 2)(Zone.mask)
        self.count = 0
        self.first: list[Ring] = []

    def update(self, frame: Frame, labels: np.ndarray) -> tuple[list[Ring], list[Ring]]:
        """The rings that a frame of (H, W) uint8 ``labels`` is in, and those that it begins."""
        rings: list[Ring] = []
        begun: list[Ring] = []
        seen_s = frame.time_s - frame.unseen_s
        for rule in self._rules:
            inside = self._mask(rule.zone, labels.shape)
            if not inside.any():
                raise HedgeError(f"--zone {rule.zone.name}: holds not one pixel; give it more room")
            share = np.count_nonzero((labels == rule.index) & inside) / np.count_nonzero(inside)
            holds = share < rule.alarm.share if rule.alarm.below else share > rule.alarm.share
            if not holds:
                rule.since, rule.ring = math.nan, None
                continue
            if math.isnan(rule.since):
                rule.since, rule.from_s = seen_s, frame.time_s
            lasted = seen_s - rule.since
            if rule.ring is None and lasted >= rule.alarm.seconds - 1e-9:
                rule.ring = Ring(rule.alarm.told(rule.zone), rule.from_s, lasted)
                begun.append(rule.ring)
                self.count += 1
                self.first += [rule.ring] if len(self.first) < _NAMED else []
            if rule.ring is not None:
                rule.ring.seconds = lasted
                rings.append(rule.ring)
        return rings, begun

    def report(self) -> Rings:
        """What rang so far."""
        return Rings(self.count, self.first)
