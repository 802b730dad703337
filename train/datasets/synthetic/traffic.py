"""Those who move on a generated street: cars and people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from train.datasets.synthetic.camera import Color, Part, Pen
from train.datasets.synthetic.props import CAR, PERSON, along, box, upright

_TYRE: Color = (24, 24, 26)
_GLASS: Color = (52, 66, 78)
_RIM: Color = (150, 152, 156)
_LENGTH, _HALF = 4.3, 0.9  # a car's length and half width, metres
_TURN = 2 * np.pi * np.arange(14) / 14
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


@dataclass(frozen=True)
class Car:
    """A car; speed in m/s along the road, negative for those that come towards the camera."""

    s: float
    lateral: float
    speed: float
    paint: Color
    roof: float
    facing: int

    def far(self, time_s: float) -> float:
        return self._near(time_s) + _LENGTH

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        near, half = self._near(time_s), _HALF
        across = (self.lateral - half, self.lateral + half)
        return box((near, near + _LENGTH), across), self.roof * 0.9

    def draw(self, pen: Pen, time_s: float) -> None:
        near = self._near(time_s)
        side = -1 if self.lateral > pen.camera.lateral else 1
        flank = self.lateral + side * _HALF
        parts = [*self._flank(near, flank), *self._end(near), *self._details(near - 0.02)]
        pen.shape(parts, CAR)

    def _near(self, time_s: float) -> float:
        return self.s + self.speed * time_s

    def _cabin(self, near: float) -> tuple[float, float, float, float]:
        """s of the cabin: near base, near roof, far roof, far base (the bonnet is the long end)."""
        steps = (0.35, 0.8, 2.4, 3.1) if self.facing > 0 else (1.2, 1.9, 3.5, 3.95)
        base, roof, roof_end, end = (near + step for step in steps)
        return base, roof, roof_end, end

    def _flank(self, near: float, flank: float) -> Iterator[Part]:
        a, b, c, d = self._cabin(near)
        end, inner = near + _LENGTH, self.lateral + (flank - self.lateral) * 0.84
        body = [(near, 0.3), (near, 0.88), (near + 0.1, 0.95), (end - 0.1, 0.9), (end, 0.8)]
        yield along(flank, [*body, (end, 0.3)]), self.paint, 0.8
        cabin = [(a, flank, 0.93), (b, inner, self.roof), (c, inner, self.roof), (d, flank, 0.92)]
        yield np.array(cabin), self.paint, 0.7
        glass, middle = self.roof - 0.1, (b + c) / 2
        for from_s, to_s in ((b - 0.1, middle - 0.06), (middle + 0.06, c + 0.15)):
            pane = [(from_s, flank, 0.99), (from_s + 0.12, inner, glass)]
            pane += [(to_s - 0.12, inner, glass), (to_s, flank, 0.99)]
            yield np.array(pane), _GLASS, 1.0
        for s in (near + 0.8, end - 0.8):
            for radius, color in ((0.33, _TYRE), (0.18, _RIM)):
                outline = _CIRCLE * radius + (s, 0.33)
                yield np.insert(outline, 1, flank, axis=1), color, 1.0

    def _end(self, near: float) -> Iterator[Part]:
        a, b, c, _ = self._cabin(near)
        left, right = self.lateral - _HALF, self.lateral + _HALF
        for low, high, color, inset in ((0.12, 0.42, _TYRE, 0.08), (0.3, 0.93, self.paint, 0.0)):
            rows = [(left, low), (left, high), (right, high), (right, low)]
            yield upright(near + inset, rows), color, 1.0
        deck = [(near, left, 0.93), (near, right, 0.93), (a, right, 0.94), (a, left, 0.94)]
        yield np.array(deck), self.paint, 1.15
        for part, color in (((0.0, 1.0), self.paint), ((0.12, 0.85), _GLASS)):
            yield _slope((a, 0.94), (b, self.roof), part, (left, right)), color, 0.9
        corners = box((b, c), (self.lateral - 0.76, self.lateral + 0.76))
        yield np.insert(corners, 2, self.roof, axis=1), self.paint, 1.2

    def _details(self, s: float) -> Iterator[Part]:
        lamp: Color = (206, 32, 30) if self.facing > 0 else (255, 246, 214)
        for at, half, low, high, color in (
            (-0.7, 0.18, 0.66, 0.86, lamp),
            (0.7, 0.18, 0.66, 0.86, lamp),
            (0.0, 0.86, 0.28, 0.46, (46, 48, 52)),
            (0.0, 0.26, 0.5, 0.62, (232, 232, 224)),
        ):
            x0, x1 = self.lateral + at - half, self.lateral + at + half
            yield upright(s, [(x0, low), (x0, high), (x1, high), (x1, low)]), color, 1.0


def _slope(
    low: tuple[float, float],
    high: tuple[float, float],
    span: tuple[float, float],
    sides: tuple[float, float],
) -> np.ndarray:
    """The part ``span`` (0..1, bottom to top) of a slanted window that narrows towards the top."""
    middle = sum(sides) / 2
    points = []
    for t, order in ((span[0], sides), (span[1], sides[::-1])):
        s, height = (a + (b - a) * t for a, b in zip(low, high, strict=True))
        inset = 1 - 0.16 * t if span == (0.0, 1.0) else 0.93 - 0.16 * t
        points += [(s, middle + (side - middle) * inset, height) for side in order]
    return np.array(points)


@dataclass(frozen=True)
class Person:
    """Someone on foot; speed in m/s along the road, pace is the phase of their step."""

    s: float
    lateral: float
    speed: float
    tall: float
    coat: Color
    trousers: Color
    skin: Color
    hair: Color
    pace: float

    def far(self, time_s: float) -> float:
        return self.s + self.speed * time_s

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        s = self.far(time_s)
        return box((s - 0.1, s + 0.1), (self.lateral - 0.2, self.lateral + 0.2)), self.tall

    def draw(self, pen: Pen, time_s: float) -> None:
        s, k = self.far(time_s), self.tall / 1.75
        pen.shape(list(self._parts(s, k, time_s)), PERSON)
        heads = np.array([(s, self.lateral, 1.64 * k), (s, self.lateral, 1.6 * k)])
        radii = np.array((0.125, 0.105)) * k
        pen.blobs(heads, radii, np.array([self.hair, self.skin]), PERSON)

    def _parts(self, s: float, k: float, time_s: float) -> Iterator[Part]:
        def part(outline: list[tuple[float, float]]) -> np.ndarray:
            return upright(s, [(self.lateral + x * k, y * k) for x, y in outline])

        swing = 0.2 * np.sin(self.pace + 4.4 * self.speed * time_s)
        for way in (-1, 1):
            hip, foot = 0.09 * way, 0.09 * way + swing * way
            leg = [(foot - 0.07, 0.0), (hip - 0.09, 0.9), (hip + 0.09, 0.9), (foot + 0.09, 0.0)]
            yield part(leg), self.trousers, 0.85 + 0.1 * way
            shoulder, hand = 0.2 * way, 0.27 * way - swing * way * 0.7
            arm = [(shoulder - 0.06, 1.42), (shoulder + 0.06, 1.42)]
            yield part([*arm, (hand + 0.05, 0.8), (hand - 0.05, 0.8)]), self.coat, 0.8
        chest = [(-0.2, 0.82), (-0.23, 1.35), (-0.13, 1.5), (0.13, 1.5), (0.23, 1.35), (0.2, 0.82)]
        yield part(chest), self.coat, 1.0
