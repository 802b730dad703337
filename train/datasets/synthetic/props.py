"""What stands and moves on a generated street; each thing draws itself and casts its shadow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runtime.bundle.classes import CITYSCAPES, ClassSet
from train.datasets.synthetic.camera import Color, Pen

NAMES = (
    "road",
    "sidewalk",
    "building",
    "pole",
    "traffic sign",
    "vegetation",
    "sky",
    "person",
    "car",
)
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, PERSON, CAR = range(len(NAMES))
CLASSES = ClassSet(NAMES, tuple(CITYSCAPES.colors[CITYSCAPES.names.index(n)] for n in NAMES))

_DARK: Color = (38, 40, 46)
_STEEL: Color = (118, 122, 126)


class Prop(Protocol):
    """A thing on the street; it is drawn after everything that is farther than its ``far``."""

    def far(self, time_s: float) -> float: ...
    def draw(self, pen: Pen, time_s: float) -> None: ...
    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        """(N, 2) s, lateral outline on the ground, and the height that casts the shadow."""
        ...


def box(s: tuple[float, float], lateral: tuple[float, float]) -> np.ndarray:
    """(4, 2) corners on the ground."""
    return np.array([(s[i], lateral[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))], float)


def upright(s: float, outline: list[tuple[float, float]]) -> np.ndarray:
    """(N, 3) of an outline of (lateral, height) that faces the camera at ``s``."""
    return np.array([(s, lateral, height) for lateral, height in outline], float)


def along(lateral: float, outline: list[tuple[float, float]]) -> np.ndarray:
    """(N, 3) of an outline of (s, height) on a plane parallel to the road."""
    return np.array([(s, lateral, height) for s, height in outline], float)


@dataclass(frozen=True)
class Building:
    """A house front at ``setback`` metres; side is -1 on the left and 1 on the right."""

    s: float
    length: float
    side: int
    setback: float
    floors: int
    wall: Color
    trim: Color
    shop: Color | None
    lit: tuple[bool, ...]
    glass: Color
    gable: bool

    @property
    def height(self) -> float:
        return 3.1 * self.floors + 0.9

    def far(self, time_s: float) -> float:
        return self.s + self.length

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        deep = self.side * (self.setback + 9.0)
        return box((self.s, self.far(0)), (self.side * self.setback, deep)), self.height

    def draw(self, pen: Pen, time_s: float) -> None:
        front, deep = self.side * self.setback, self.side * (self.setback + 9.0)
        near, far, top = self.s, self.far(0), self.height
        gable = upright(near, [(front, 0), (front, top), (deep, top), (deep, 0)])
        pen.face(gable, self.wall, BUILDING, 0.72)
        self._windows(pen, front, deep)
        if self.gable:
            ridge = (front + self.side * 4.5, top + 2.4)
            pen.face(upright(near, [(front, top), ridge, (deep, top)]), self.wall, BUILDING, 0.66)
            slope = [(near, front, top), (far, front, top), (far, *ridge), (near, *ridge)]
            pen.face(np.array(slope), (128, 66, 52), BUILDING)
        pen.face(along(front, [(near, 0), (near, top), (far, top), (far, 0)]), self.wall, BUILDING)
        cornice = [(near, top - 0.45), (near, top), (far, top), (far, top - 0.45)]
        pen.face(along(front, cornice), self.trim, BUILDING)
        self._front_windows(pen, front)
        if self.shop:
            self._shopfront(pen, front, self.shop)

    def _windows(self, pen: Pen, front: float, deep: float) -> None:
        """The windows of the end wall, which shows where the next house stands apart."""
        centers = np.array([front + self.side * d for d in (2.2, 4.5, 6.8) if d < abs(deep)])
        floors = 3.1 * np.arange(1, self.floors) + 1.0
        lateral, bottom = (grid.ravel() for grid in np.meshgrid(centers, floors))
        panes = _quads(np.full_like(lateral, self.s), lateral, bottom, 0.5, 1.5, 1)
        pen.faces(panes, _DARK, BUILDING)

    def _front_windows(self, pen: Pen, front: float) -> None:
        columns = max(2, int(self.length / 2.4))
        centers = self.s + (np.arange(columns) + 0.5) * self.length / columns
        floors = 3.1 * np.arange(1 if self.shop else 0, self.floors) + 1.0
        s, bottom = (grid.ravel() for grid in np.meshgrid(centers, floors))
        lateral = np.full_like(s, front)
        pen.faces(_quads(s, lateral, bottom - 0.12, 0.68, 1.86, 0), self.trim, BUILDING)
        lit = np.resize(np.array(self.lit), len(s))
        panes = _quads(s, lateral, bottom, 0.54, 1.6, 0)
        pen.faces(panes[~lit], self.glass, BUILDING)
        pen.faces(panes[lit], (250, 214, 140), BUILDING, 0.95)

    def _shopfront(self, pen: Pen, front: float, color: Color) -> None:
        near, far = self.s, self.far(0)
        band = [(near, 0), (near, 3.0), (far, 3.0), (far, 0)]
        pen.face(along(front, band), color, BUILDING, 0.7)
        panes = max(2, int(self.length / 3))
        s = near + (np.arange(panes) + 0.5) * self.length / panes
        width = self.length / panes / 2 - 0.25
        quads = _quads(s, np.full_like(s, front), np.full_like(s, 0.5), width, 1.9, 0)
        pen.faces(quads, (196, 205, 196), BUILDING, 0.8)
        out = front - self.side * 1.1
        awning = [(near, front, 3.0), (far, front, 3.0), (far, out, 2.45), (near, out, 2.45)]
        pen.face(np.array(awning), color, BUILDING, 1.15)


def _quads(
    s: np.ndarray, lateral: np.ndarray, bottom: np.ndarray, half: float, tall: float, axis: int
) -> np.ndarray:
    """(N, 4, 3) upright rectangles around (s, lateral), spread along s (axis 0) or lateral (1)."""
    corners = np.array([(-half, 0), (-half, tall), (half, tall), (half, 0)])
    quads = np.repeat(np.stack([s, lateral, bottom], 1)[:, None], 4, 1)
    quads[:, :, axis] += corners[:, 0]
    quads[:, :, 2] += corners[:, 1]
    return quads


@dataclass(frozen=True, eq=False)
class Tree:
    """A trunk and a crown of leaf clumps, a bush where there is no trunk.

    clumps: (N, 5) of s, lateral and height from the top of the trunk, radius, light.
    """

    s: float
    lateral: float
    trunk: float
    clumps: np.ndarray
    green: Color

    def far(self, time_s: float) -> float:
        return self.s

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        reach = float(np.abs(self.clumps[:, 1]).max())
        across = (self.lateral - reach, self.lateral + reach)
        return box((self.s - reach, self.s + reach), across), self.trunk + reach

    def draw(self, pen: Pen, time_s: float) -> None:
        if self.trunk:
            _post(pen, (self.s, self.lateral), self.trunk + 0.6, 0.24, (92, 70, 52), VEGETATION)
        centers = self.clumps[:, :3] + (self.s, self.lateral, self.trunk)
        colors = self.clumps[:, 4:] * self.green
        pen.blobs(centers, self.clumps[:, 3], colors, VEGETATION)


@dataclass(frozen=True)
class Lamp:
    """A street lamp whose arm reaches over the road."""

    s: float
    lateral: float
    lit: bool

    def far(self, time_s: float) -> float:
        return self.s

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        return box((self.s, self.s + 0.15), (self.lateral - 0.08, self.lateral + 0.08)), 6.0

    def draw(self, pen: Pen, time_s: float) -> None:
        _post(pen, (self.s, self.lateral), 6.2, 0.16, _STEEL, POLE)
        end = self.lateral - 1.7 * np.sign(self.lateral)
        arm = [(self.lateral, 6.05), (self.lateral, 6.2), (end, 6.35), (end, 6.2)]
        pen.face(upright(self.s, arm), _STEEL, POLE, 0.9)
        head = [(end - 0.35, 6.1), (end - 0.35, 6.3), (end + 0.35, 6.3), (end + 0.35, 6.1)]
        pen.face(upright(self.s, head), (255, 236, 180) if self.lit else (70, 74, 80), POLE)


@dataclass(frozen=True)
class Sign:
    """A traffic sign on its post: ``corners`` 3 warns, 4 informs, more is round."""

    s: float
    lateral: float
    corners: int
    rim: Color
    plate: Color

    def far(self, time_s: float) -> float:
        return self.s

    def footprint(self, time_s: float) -> tuple[np.ndarray, float]:
        return box((self.s, self.s + 0.1), (self.lateral - 0.3, self.lateral + 0.3)), 2.6

    def draw(self, pen: Pen, time_s: float) -> None:
        _post(pen, (self.s, self.lateral), 2.7, 0.1, _STEEL, POLE)
        pen.face(self._outline(0.46), self.rim, SIGN)
        pen.face(self._outline(0.32), self.plate, SIGN)

    def _outline(self, radius: float) -> np.ndarray:
        turn = np.pi / 4 if self.corners == 4 else np.pi / 2
        angles = turn + 2 * np.pi * np.arange(self.corners) / self.corners
        points = zip(radius * np.cos(angles), radius * np.sin(angles), strict=True)
        return upright(self.s - 0.05, [(self.lateral + x, 2.5 + y) for x, y in points])


def _post(
    pen: Pen, foot: tuple[float, float], top: float, width: float, color: Color, train_id: int
) -> None:
    s, lateral = foot
    # Never thinner than one final pixel, so that image and labels agree about far posts.
    depth = max(s - pen.camera.s, 1.0)
    half = max(width / 2, depth / pen.camera.focal_px)
    for edge, light in ((-half, 1.1), (half, 0.75)):
        sides = [(lateral + edge, 0.0), (lateral + edge, top), (lateral, top), (lateral, 0.0)]
        pen.face(upright(s, sides), color, train_id, light)
