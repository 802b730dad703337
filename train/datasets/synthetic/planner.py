"""One street from one seed: its curve, its weather, and what stands and moves where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from train.datasets.synthetic.camera import Color, Road
from train.datasets.synthetic.props import Building, Lamp, Prop, Sign, Tree
from train.datasets.synthetic.street import VIEW_M, Light, Street
from train.datasets.synthetic.traffic import Car, Person

LANE_M = 1.65  # the right lane's centre, metres from the centre line
_FACADE_M = 8.2  # the house fronts

_WALLS: tuple[Color, ...] = (
    (196, 150, 118), (214, 196, 160), (168, 104, 82), (178, 180, 178), (206, 170, 106),
    (148, 158, 168), (226, 216, 200), (140, 96, 84), (182, 196, 178), (214, 160, 146),
)  # fmt: skip
_SHOPS: tuple[Color, ...] = (
    (34, 98, 92),
    (150, 40, 44),
    (44, 66, 120),
    (60, 60, 64),
    (190, 120, 40),
)
_PAINTS: tuple[Color, ...] = (
    (196, 28, 34), (30, 60, 128), (232, 232, 230), (44, 46, 50), (150, 154, 160),
    (232, 178, 40), (40, 104, 84), (104, 130, 168),
)  # fmt: skip
_CLOTHES: tuple[Color, ...] = (
    (180, 44, 52), (38, 66, 116), (222, 196, 64), (60, 62, 68), (96, 132, 92),
    (226, 224, 216), (120, 74, 128), (208, 112, 50),
)  # fmt: skip
_SKINS: tuple[Color, ...] = ((236, 196, 164), (198, 148, 110), (132, 90, 64), (90, 62, 46))
_GREENS: tuple[Color, ...] = ((92, 132, 54), (70, 116, 60), (122, 142, 56), (60, 100, 62))
_SIGNS: tuple[tuple[int, Color, Color], ...] = (
    (3, (200, 30, 36), (244, 240, 230)),
    (16, (200, 30, 36), (246, 246, 244)),
    (16, (236, 236, 236), (30, 84, 168)),
    (4, (240, 240, 240), (34, 92, 170)),
    (8, (240, 236, 232), (190, 30, 34)),
)


_LIGHTS: tuple[Light, ...] = (
    Light((70, 128, 200), (196, 218, 232), (1.05, 1.02, 0.96), (0.35, 0.6), 0.42, 260, 0.6, False),
    Light((96, 150, 208), (226, 226, 214), (1.1, 1.0, 0.86), (-0.5, -1.0), 0.4, 220, 0.5, False),
    Light((150, 160, 172), (208, 212, 214), (0.92, 0.95, 1.0), (0.1, 0.1), 0.22, 120, 0.9, False),
    Light((84, 104, 160), (250, 190, 128), (1.12, 0.9, 0.7), (0.9, 1.3), 0.45, 190, 0.7, False),
    Light((48, 62, 110), (206, 140, 120), (0.72, 0.68, 0.78), (0.2, 0.3), 0.25, 150, 0.6, True),
)


def build(rng: np.random.Generator, length: float, weather: int | None = None) -> Street:
    """A street of ``length`` metres; the same generator state gives the same street.

    weather: 0 (sunny) to 4 (dusk); drawn from ``rng`` where not given.
    """
    road = Road(rng.uniform(2, 9), rng.uniform(45, 75), rng.uniform(0, 6.3))
    drawn = rng.choice(len(_LIGHTS), p=(0.32, 0.24, 0.18, 0.16, 0.1))
    light = _LIGHTS[drawn if weather is None else weather]
    ahead, aside = light.shadow
    light = replace(light, shadow=(ahead, aside * rng.choice((-1.0, 1.0))))
    props = [*_houses(rng, length, light), *_roadside(rng, length, light), *_movers(rng, length)]
    lines = (rng.uniform(2.5, 4), rng.uniform(3.5, 6))
    crossing = rng.uniform(20, 20 + length)
    return Street(road, light, tuple(props), lines, crossing, int(rng.integers(1 << 30)))


def _houses(rng: np.random.Generator, length: float, light: Light) -> Iterator[Prop]:
    for side in (-1, 1):
        s = rng.uniform(-25, -10)
        while s < length + VIEW_M:
            if rng.random() < 0.24:  # a park between two houses
                span = rng.uniform(7, 16)
                yield from _park(rng, s, span, side)
            else:
                span = rng.uniform(8, 17)
                yield _house(rng, s, span, side, light)
            s += span + rng.choice((0.0, 0.0, rng.uniform(1.5, 4)))


def _house(rng: np.random.Generator, s: float, span: float, side: int, light: Light) -> Building:
    wall = _tint(rng, _WALLS, 14)
    trim = (245.0, 240.0, 228.0) if rng.random() < 0.5 else tuple(c * 0.62 for c in wall)
    share = 0.45 if light.lamps else 0.05
    return Building(
        s, span, side, _FACADE_M + rng.uniform(0, 0.8), int(rng.integers(2, 7)), wall,
        (trim[0], trim[1], trim[2]), _tint(rng, _SHOPS, 10) if rng.random() < 0.5 else None,
        tuple(bool(v) for v in rng.random(23) < share),
        (78 + rng.uniform(-16, 26), 92.0, 108.0), bool(rng.random() < 0.4),
    )  # fmt: skip


def _park(rng: np.random.Generator, s: float, span: float, side: int) -> Iterator[Prop]:
    for step in np.arange(0, span, 1.9):
        for depth in (0.6, 2.8):
            lateral = side * (_FACADE_M + depth + rng.uniform(-0.3, 0.3))
            yield _tree(rng, s + step, lateral, 0.0, 1.15 + depth / 4)
    for step in np.arange(1, span, 4.0):
        yield _tree(rng, s + step, side * (_FACADE_M + 3.4), rng.uniform(2, 3), 2.0)


def _tree(rng: np.random.Generator, s: float, lateral: float, trunk: float, size: float) -> Tree:
    count = 26 if trunk else 8
    around, up, wide, radius, tone = rng.random((5, count))
    around *= 2 * np.pi
    reach = size * np.sin(np.pi * (0.15 + 0.8 * up)) * (0.3 + 0.45 * wide)
    light = 0.62 + 0.5 * up + 0.22 * (tone - 0.5)
    columns = (
        0.4 * reach * np.sin(around), reach * np.cos(around), size * 1.5 * up + 0.25,
        size * (0.24 + 0.18 * radius), light,
    )  # fmt: skip
    clumps = np.stack(columns, 1)[np.argsort(-np.sin(around))]  # the far clumps first
    return Tree(s, lateral, trunk, clumps, _tint(rng, _GREENS, 12))


def _roadside(rng: np.random.Generator, length: float, light: Light) -> Iterator[Prop]:
    for side in (-1, 1):
        leafy = rng.random() < 0.7
        for s in np.arange(rng.uniform(-5, 4), length + VIEW_M, rng.uniform(11, 17)):
            if leafy and rng.random() < 0.8:
                size = rng.uniform(1.3, 2.0)
                yield _tree(rng, s + 5.0, side * 5.9, rng.uniform(1.9, 2.6), size)
            if rng.random() < 0.55:
                yield Lamp(float(s), side * 5.5, light.lamps)
            if rng.random() < 0.4:
                shape = _SIGNS[rng.integers(len(_SIGNS))]
                yield Sign(float(s) + rng.uniform(2, 9), side * 5.6, *shape)


def _movers(rng: np.random.Generator, length: float) -> Iterator[Prop]:
    end = length + VIEW_M
    for s in np.arange(9.0, end, 6.2):
        for side in (-1, 1):
            if rng.random() < 0.38:
                yield _car(rng, s + rng.uniform(-0.6, 0.6), side * 4.15, 0.0, side)
    for s in np.arange(rng.uniform(14, 26), end, rng.uniform(26, 44)):
        yield _car(rng, s, LANE_M, 9.0, 1)
    for s in np.arange(rng.uniform(16, 40), end * 2, rng.uniform(22, 40)):
        yield _car(rng, s, -LANE_M, -8.0, -1)
    for s in np.arange(4.0, end, 3.4):
        if rng.random() < 0.55:
            lateral = float(rng.choice((-1, 1)) * rng.uniform(5.7, 7.8))
            yield _person(rng, s, lateral)


def _car(rng: np.random.Generator, s: float, lateral: float, speed: float, facing: int) -> Car:
    roof = float(rng.choice((1.42, 1.48, 1.66, 1.9)))
    return Car(float(s), lateral, speed, _tint(rng, _PAINTS, 10), roof, facing)


def _person(rng: np.random.Generator, s: float, lateral: float) -> Person:
    coat, trousers, skin = (_tint(rng, table, 10) for table in (_CLOTHES, _CLOTHES, _SKINS))
    return Person(
        float(s), lateral, float(rng.choice((-1.3, 1.3))), rng.uniform(1.5, 1.9),
        coat, trousers, skin, (52.0, 38.0, 30.0),
        rng.uniform(0, 6.3),
    )  # fmt: skip


def _tint(rng: np.random.Generator, table: tuple[Color, ...], spread: float) -> Color:
    color = np.array(table[rng.integers(len(table))]) + rng.uniform(-spread, spread, 3)
    red, green, blue = (float(c) for c in np.clip(color, 0, 255))
    return red, green, blue
