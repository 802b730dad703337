"""Scatter plots and distributions as plain geometry, which page.html draws as SVG.

Nothing here has a colour: marks carry classes, and the page's style says how they look in the dark,
in the light and on paper. Plots are laid out for a given width, so that text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from benchmarks.results import Timing

CHARACTER, LINE = 7.2, 14.0  # px that a letter and a line of a label take up, at 12 px
RADIUS = 5.5
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 14.0, 44.0  # margins for ticks and titles
NARROW = 600  # px, below which only marks of the front have room for a label
LOGARITHMIC = 4.0  # largest over smallest, from which an axis is logarithmic

SHAPES = {
    "openvino": "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z",
    "onnxruntime": "M-5 -5h10v10h-10z",
    "tensorrt": "M0 -6.5L6 4.5H-6z",
    "tensorrt_rtx": "M0 6.5L6 -4.5H-6z",
    "": "M0 -6.5L6.5 0L0 6.5L-6.5 0z",
}  # by backend; "": all others


@dataclass(frozen=True)
class Point:
    """What is drawn of a cell: looks: classes of the style; front: it is on the Pareto front."""

    x: float
    y: float
    label: str
    title: str
    shape: str = SHAPES["openvino"]
    looks: str = ""
    front: bool = False


@dataclass(frozen=True)
class Label:
    """Where a text begins, is centred or ends, by ``anchor``, in px; front: of a mark there."""

    x: float
    y: float
    anchor: str
    text: str
    front: bool = False


@dataclass(frozen=True)
class Plot:
    """A laid out scatter plot: everything in px of a ``width`` × ``height`` drawing.

    ticks: position and text; marks: position and point; line: the front, from left to right.
    """

    width: int
    height: int
    x_title: str
    y_title: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, float, Point]]
    line: Sequence[tuple[float, float]] = ()
    labels: Sequence[Label] = ()
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM


@dataclass
class Axis:
    """Values of one direction and the px they are drawn at."""

    values: Sequence[float]
    start: float
    end: float
    count: int
    may_be_log: bool = False
    low: float = field(init=False)
    high: float = field(init=False)
    log: bool = field(init=False)

    def __post_init__(self) -> None:
        low, high = min(self.values), max(self.values)
        self.log = self.may_be_log and low > 0 and high / low > LOGARITHMIC
        if self.log:
            self.low, self.high = low / 1.25, high * 1.25
        else:
            margin = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
            self.low, self.high = low - margin, high + margin

    def at(self, value: float) -> float:
        """px of a value."""
        low, high, here = self.low, self.high, value
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(value)
        return round(self.start + (here - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the axis."""
        locator = (
            LogLocator(subs=(1, 2, 3, 5), numticks=50)
            if self.log
            else MaxNLocator(self.count, steps=[1, 2, 5, 10])
        )
        found = [float(v) for v in locator.tick_values(self.low, self.high)]
        return [(self.at(v), f"{v:g}") for v in found if self.low <= v <= self.high]


def scatter(
    points: Sequence[Point], width: int, height: int, x_title: str, y_title: str
) -> Plot | None:
    """Lay out points, x logarithmic where it spreads far. None without points."""
    if not points:
        return None
    x = Axis([p.x for p in points], LEFT, width - RIGHT, width // 110, True)
    y = Axis([p.y for p in points], height - BOTTOM, TOP, 6)
    marks = [(x.at(p.x), y.at(p.y), p) for p in points]
    front = sorted((px, py) for px, py, point in marks if point.front)
    # What matters is drawn last, on top of the others.
    marks.sort(key=lambda mark: (mark[2].front, "peer" not in mark[2].looks))
    return Plot(
        width, height, x_title, y_title, x.ticks(), y.ticks(), marks, front,
        _labels(marks, width, height),
    )  # fmt: skip


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of (smaller is better, larger is better) no other is at least as good as in both."""
    return [
        not any(
            (x <= a and y >= b) and (x < a or y > b) for k, (x, y) in enumerate(points) if k != i
        )
        for i, (a, b) in enumerate(points)
    ]


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(marks: Sequence[tuple[float, float, Point]], width: int, height: int) -> list[Label]:
    """A label for as many marks as there is room for, those of the front first."""
    taken: list[Box] = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y, point in marks]
    inside = (LEFT, 2.0, width - 2.0, height - BOTTOM)
    placed = []
    for x, y, point in reversed(marks):
        if width < NARROW and any(p.front for _, _, p in marks) and not point.front:
            continue
        for label, box in _candidates(x, y, point):
            if _within(box, inside) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                placed.append(label)
                break
    return placed


def _candidates(x: float, y: float, point: Point) -> list[tuple[Label, Box]]:
    """Ways to write a label beside a mark, the best first, each with the room it needs."""
    if not point.label:
        return []
    long, away = CHARACTER * len(point.label), RADIUS + 4
    found = []
    for rise in (0.0, -13.0, 13.0, -22.0, 22.0):
        baseline = y + rise + LINE * 0.3
        rows = [("start", x + away, x + away, x + away + long)]
        rows += [("end", x - away, x - away - long, x - away)]
        if rise:
            rows += [("middle", x, x - long / 2, x + long / 2)]
        for anchor, at, left, right in rows:
            box = (left, baseline - LINE * 0.8, right, baseline + LINE * 0.2)
            label = Label(round(at, 1), round(baseline, 1), anchor, point.label, point.front)
            found.append((label, box))
    return found


def _within(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


GRID = 60  # places that a density is drawn from


def spread(timings: Sequence[Timing]) -> tuple[float, float]:
    """Times over their own median that all distributions are drawn between: p95 and half more, so
    that one cell's p99 does not press all others flat."""
    low = min(min(t.samples) / t.p50 for t in timings)
    high = max(t.p95 / t.p50 for t in timings)
    return max(0.5, low - 0.02), min(3.0, max(1.1, 1 + 1.5 * (high - 1)))


def round_values(low: float, high: float) -> list[float]:
    """A few of them, low..high."""
    found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def violin(timing: Timing, low: float, high: float) -> str:
    """Path of a density of samples over their median, low..high → 0..1000, around y = 10 ± 9."""
    if len(timing.samples) < 2:
        return ""
    values = np.asarray(timing.samples, np.float64) / timing.p50
    grid = np.linspace(low, high, GRID)
    # Silverman's width, by the quartiles since the tail is long; at least a place of the grid.
    quartiles = np.subtract(*np.quantile(values, [0.75, 0.25]))
    width = max(0.9 * float(quartiles) / 1.34 * len(values) ** -0.2, (high - low) / GRID)
    density = np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2).sum(axis=1)
    half = 9 * density / density.max()
    xs = np.linspace(0, 1000, GRID)
    there = [f"{x:.0f} {10 - h:.1f}" for x, h in zip(xs, half, strict=True)]
    back = [f"{x:.0f} {10 + h:.1f}" for x, h in zip(xs[::-1], half[::-1], strict=True)]
    return "M" + "L".join(there + back) + "z"
