"""A scene of outlined things, and its label drawn by geometry alone, with no tool's rasteriser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from train.datasets import open_index

SIZE = (300, 400)  # height, width
STEMS = ("Straße 1", "наклон-17", "c")
_EDGE = 1.6  # pixels from an outline: nearer, tools draw as they like


@dataclass(frozen=True)
class Thing:
    """A class and its rings, (x, y) in pixels: the outline, and holes in it."""

    name: str
    outline: tuple[tuple[float, float], ...]
    holes: tuple[tuple[tuple[float, float], ...], ...] = ()

    def flat(self) -> list[float]:
        return [value for point in self.outline for value in point]


ROAD = Thing("Gehweg ü", ((10, 120), (310, 100), (318, 230), (5, 236)))
CAR = Thing("car", ((100, 60), (180, 50), (205.5, 150), (150, 200.5), (90, 150)))
RING = Thing(
    "person",
    ((200, 20), (300, 20), (300, 140), (200, 140)),
    (((220, 40), (280, 40), (280, 110), (220, 110)),),
)
THINGS = (ROAD, CAR, RING)
HOLELESS = (ROAD, CAR, Thing("person", ((200, 20), (300, 22), (250, 140))))
NAMES = ("background", "Gehweg ü", "car", "person")


def photo(path: Path, seed: int) -> Path:
    """A picture of noise, other for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (SIZE[0] // 20, SIZE[1] // 20, 3))
    Image.fromarray(pixels.astype(np.uint8)).resize(SIZE[::-1]).save(path)
    return path


@cache
def drawn(things: tuple[Thing, ...], centre: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) ids of NAMES, later things above earlier ones, and (H, W) bool: near an outline.

    centre: where the middle of the first pixel is: 0.5 where coordinates are those of a pixel's
    corner, as in COCO, 0 where they are those of its middle, as in OpenCV.
    """
    y, x = np.indices(SIZE) + centre
    label, near = np.zeros(SIZE, np.uint8), np.zeros(SIZE, bool)
    for thing in things:
        inside = _inside(thing.outline, x, y)
        for hole in thing.holes:
            inside &= ~_inside(hole, x, y)
        label[inside] = NAMES.index(thing.name)
        for ring in (thing.outline, *thing.holes):
            near |= _distance(ring, x, y) < _EDGE
    return label, near


def _inside(ring: tuple[tuple[float, float], ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        if y0 != y1:
            crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            inside ^= ((y0 > y) != (y1 > y)) & (x < crossing)
    return inside


def _distance(ring: tuple[tuple[float, float], ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    nearest = np.full(x.shape, np.inf)
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        t = (((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length).clip(0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)))
    return nearest


def labels(data: Path, *splits: str) -> dict[str, np.ndarray]:
    """The labels of a data set as ids of NAMES (255: ignored), by the name of their picture."""
    found = {}
    for split in splits or ("train", "val"):
        index = open_index(data, split)
        table = np.full(256, 255, np.uint8)
        for i, name in enumerate(index.classes.names):
            table[i] = NAMES.index(name)
        for item in index.items:
            image, label = index.read(item)
            assert image.shape[:2] == label.shape
            found[item.name] = table[label]
    return found


def require_like(label: np.ndarray, things: tuple[Thing, ...], centre: float) -> None:
    """All pixels away from outlines, and 99 % of all, are as they are drawn here."""
    wanted, near = drawn(things, centre)
    assert (~near).mean() > 0.8
    assert (label == wanted)[~near].all()
    assert (label == wanted).mean() >= 0.99
