"""What stands and moves on a drawn street: houses, trees, lamps, signs, cars and people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from runtime.bundle.classes import CITYSCAPES, ClassSet
from train.datasets.synthetic.camera import CIRCLE, Part, part

NAMES = ("road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "sky", "person",
         "car")  # fmt: skip
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, PERSON, CAR = range(len(NAMES))
CLASSES = ClassSet(NAMES, tuple(CITYSCAPES.colors[CITYSCAPES.names.index(n)] for n in NAMES))
FACADE_M = 8.2  # from the centre line


def colors(codes: str) -> np.ndarray:
    """(N, 3) RGB, 0-255, of hexadecimal codes; (3,) of a single one."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()], float).squeeze()


_WALLS = colors("c49676 d6c4a0 a86852 b2b4b2 ceaa6a 949ea8 e2d8c8 8c6054 b6c4b2 d6a092")
_SHOPS = colors("22625c 96282c 2c4278 3c3c40 be7828")
_PAINTS = colors("c41c22 1e3c80 e8e8e6 2c2e32 969aa0 e8b228 286854 6882a8")
_CLOTHES = colors("b42c34 264274 dec440 3c3e44 60845c e2e0d8 784a80 d07032")
_SKINS, _HAIR = colors("ecc4a4 c6946e 845a40 5a3e2e"), colors("34261e")
_GREENS, _BARK, _TILES = colors("5c8436 46743c 7a8e38 3c643e"), *colors("5c4634 804234")
_STEEL, _DARK, _LIT, _PANE = colors("767a7e 26282e fad68c c4cdc4")
_TYRE, _GLASS, _RIM, _BUMPER, _PLATE = colors("18181a 34424e 96989c 2e3034 e8e8e0")
_SIGNS = ((3, "c81e24 f4f0e6"), (16, "c81e24 f6f6f4"), (16, "ececec 1e54a8"), (4, "f0f0f0 225caa"),
          (8, "f0ece8 be1e22"))  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A thing of one class at (s, lateral) metres; its parts are relative to that place.

    box: length, left, right and height of what casts its shadow; parts: from the time in seconds
    and the side of it that the camera sees, -1 or 1; speed: m/s along the road.
    """

    train_id: int
    s: float
    lateral: float
    box: tuple[float, float, float, float]
    parts: Callable[[float, int], list[Part]]
    speed: float = 0.0

    def far(self, time_s: float) -> float:
        """s of its far end."""
        return self.s + self.speed * time_s + self.box[0]

    def order(self, time_s: float) -> float:
        """Farther things are drawn first: s, but a house is behind all that stands before it."""
        return self.far(time_s) - (0 if self.train_id == BUILDING else self.box[0])


def house(rng: np.random.Generator, s: float, length: float, side: int, dusk: bool) -> Thing:
    """A house of 2 to 6 floors on a side (-1 or 1), perhaps with a gable and a shop."""
    floors, deep = int(rng.integers(2, 7)), side * 9.0
    top, wall = 3.1 * floors + 0.9, tint(rng, _WALLS, 14)
    shop, gable = (bool(chance) for chance in rng.random(2) < (0.5, 0.4))
    trim = np.array((245, 240, 228)) if rng.random() < 0.5 else wall * 0.62
    glass = np.array((78 + rng.uniform(-16, 26), 92, 108))
    x, y = _grid(max(2, int(length / 2.4)), length, 3.1 * np.arange(shop, floors) + 1)
    lit = rng.random((len(x), 1)) < (0.45 if dusk else 0.05)
    end_x, end_y = _grid(3, deep - side, 3.1 * np.arange(1, floors) + 1)
    ridge = (side * 4.5, top + 2.4)
    parts = [
        part(_across(0, _rects(0, deep, 0, top)), wall * 0.72),
        part(_across(0, _rects(end_x - 0.5, end_x + 0.5, end_y, end_y + 1.5)), _DARK),
    ]
    if gable:
        roof = [(0, 0, top), (length, 0, top), (length, *ridge), (0, *ridge)]
        parts += [part(_across(0, [(0, top), ridge, (deep, top)]), wall * 0.66), part(roof, _TILES)]
    panes = np.where(lit, _LIT, glass)
    parts += [
        part(_along(0, _rects(0, length, 0, top)), wall),
        part(_along(0, _rects(0, length, top - 0.45, top)), trim),
        part(_along(0, _rects(x - 0.68, x + 0.68, y - 0.12, y + 1.74)), trim),
        part(_along(0, _rects(x - 0.54, x + 0.54, y, y + 1.6)), panes),
    ]
    if shop:
        count, color, out = max(2, int(length / 3)), tint(rng, _SHOPS, 10), -side * 1.1
        x, half = _grid(count, length, np.zeros(1))[0], length / count / 2 - 0.25
        awning = [(0, 0, 3), (length, 0, 3), (length, out, 2.45), (0, out, 2.45)]
        parts += [
            part(_along(0, _rects(0, length, 0, 3)), color * 0.7),
            part(_along(0, _rects(x - half, x + half, 0.5, 2.4)), _PANE * 0.8),
            part(awning, color * 1.15),
        ]
    front = side * (FACADE_M + rng.uniform(0, 0.8))
    box = (length, min(0, deep), max(0, deep), top)
    return Thing(BUILDING, s, front, box, lambda *_: parts)


def tree(rng: np.random.Generator, s: float, lateral: float, trunk: float, size: float) -> Thing:
    """A crown of leaf clumps on a trunk, a bush where ``trunk`` is 0; all in metres."""
    around, up, wide, thick, tone = rng.random((5, 26 if trunk else 8))
    around = 2 * np.pi * around[np.argsort(-np.sin(2 * np.pi * around))]  # the far clumps first
    reach = size * np.sin(np.pi * (0.15 + 0.8 * up)) * (0.3 + 0.45 * wide)
    height, light = trunk + size * 1.5 * up + 0.25, 0.51 + 0.5 * up + 0.22 * tone
    clumps = np.stack([0.4 * reach * np.sin(around), reach * np.cos(around), height], 1)[:, None]
    crown = part(clumps, np.outer(light, tint(rng, _GREENS, 12)), size * (0.24 + 0.18 * thick))
    parts = [part([(0, 0, 0), (0, 0, trunk + 0.6)], _BARK, 0.12), crown] if trunk else [crown]
    box = (size * 0.7, size * -0.7, size * 0.7, trunk + size)
    return Thing(VEGETATION, s, lateral, box, lambda *_: parts)


def lamp(s: float, lateral: float, dusk: bool) -> Thing:
    """A street lamp whose arm reaches over the road."""
    end = -1.7 * np.sign(lateral)
    parts = [
        part([(0, 0, 0), (0, 0, 6.2)], _STEEL, 0.08),
        part(_across(0, [(0, 6.05), (0, 6.2), (end, 6.35), (end, 6.2)]), _STEEL * 0.9),
        part(_across(0, _rects(end - 0.35, end + 0.35, 6.1, 6.3)), _LIT if dusk else _STEEL * 0.6),
    ]
    return Thing(POLE, s, lateral, (0.15, -0.08, 0.08, 6.0), lambda *_: parts)


def sign(rng: np.random.Generator, s: float, lateral: float) -> tuple[Thing, Thing]:
    """The post and the plate of a traffic sign: a triangle, a disc, a square or an octagon."""
    corners, paint = _SIGNS[rng.integers(len(_SIGNS))]
    angles = (np.arange(corners) + 0.5) * 2 * np.pi / corners - np.pi / 2  # flat at the bottom
    outline = np.stack([np.cos(angles), np.sin(angles)], 1)
    plates = part(_across(-0.05, [outline * r + (0, 2.5) for r in (0.46, 0.32)]), colors(paint))
    post = part([(0, 0, 0), (0, 0, 2.7)], _STEEL, 0.05)
    box = (0.1, -0.3, 0.3, 2.6)
    return (
        Thing(POLE, s + 0.01, lateral, box, lambda *_: [post]),
        Thing(SIGN, s, lateral, box, lambda *_: [plates]),
    )


def car(rng: np.random.Generator, s: float, lateral: float, speed: float, facing: int) -> Thing:
    """A car that drives away (facing 1) or comes (-1); speed in m/s along the road."""
    roof, paint = float(rng.choice((1.42, 1.48, 1.66, 1.9))), tint(rng, _PAINTS, 10)
    # s of the cabin: near base, near roof, far roof, far base; the bonnet is the long end.
    a, b, c, d = (0.35, 0.8, 2.4, 3.1) if facing > 0 else (1.2, 1.9, 3.5, 3.95)
    lights, middle = colors("ce201e" if facing > 0 else "fff6d6"), (b + c) / 2
    body = [(0, 0.3), (0, 0.88), (0.1, 0.95), (4.2, 0.9), (4.3, 0.8), (4.3, 0.3)]
    tyres, rims = ([CIRCLE * r + (x, 0.33) for x in (0.8, 3.5)] for r in (0.33, 0.18))

    def flat(s0: float, s1: float, half0: float, half1: float, z0: float, z1: float) -> ArrayLike:
        return [(s0, -half0, z0), (s0, half0, z0), (s1, half1, z1), (s1, -half1, z1)]

    def pane(start: float, end: float, low: float, high: float) -> ArrayLike:
        ends = ((start, low, 0.99), (start + 0.12, high, roof - 0.1))
        return [*ends, (end - 0.12, high, roof - 0.1), (end, low, 0.99)]

    near = [
        part(_across(0.08, _rects(-0.9, 0.9, 0.12, 0.42)), _TYRE),
        part(_across(0, _rects(-0.9, 0.9, 0.3, 0.93)), paint),
        part(flat(0, a, 0.9, 0.9, 0.93, 0.94), paint * 1.15),
        part(flat(a, b, 0.9, 0.756, 0.94, roof), paint * 0.9),
        part(flat(a + 0.05, b - 0.05, 0.82, 0.71, 1.0, roof - 0.07), _GLASS * 0.9),
        part(flat(b, c, 0.756, 0.756, roof, roof), paint * 1.2),
        part(_across(-0.02, _rects([-0.88, 0.52], [-0.52, 0.88], 0.66, 0.86)), lights),
        part(_across(-0.02, _rects(-0.86, 0.86, 0.28, 0.46)), _BUMPER),
        part(_across(-0.02, _rects(-0.26, 0.26, 0.5, 0.62)), _PLATE),
    ]
    flanks = {
        side: [
            part(_along(low, body), paint * 0.8),
            part([(a, low, 0.93), (b, high, roof), (c, high, roof), (d, low, 0.92)], paint * 0.7),
            part(pane(b - 0.1, middle - 0.06, low, high), _GLASS),
            part(pane(middle + 0.06, c + 0.15, low, high), _GLASS),
            part(_along(low, tyres), _TYRE),
            part(_along(low, rims), _RIM),
        ]
        for side, low, high in ((-1, -0.9, -0.756), (1, 0.9, 0.756))
    }
    box = (4.3, -0.9, 0.9, roof * 0.9)
    return Thing(CAR, s, lateral, box, lambda _, side: flanks[side] + near, speed)


def person(rng: np.random.Generator, s: float, lateral: float) -> Thing:
    """Someone who walks along the pavement, 1.5 to 1.9 m tall."""
    coat, trousers, skin = (tint(rng, table, 10) for table in (_CLOTHES, _CLOTHES, _SKINS))
    tall, speed, pace = rng.uniform(1.5, 1.9), float(rng.choice((-1.3, 1.3))), rng.uniform(0, 6.3)
    size, left_right = tall / 1.75, np.array(((-1, 1), (1, 1)))[:, None]
    chest = [(-0.2, 0.82), (-0.23, 1.35), (-0.13, 1.5), (0.13, 1.5), (0.23, 1.35), (0.2, 0.82)]
    head = np.array([[(0, 0, 1.64)], [(0, 0, 1.6)]])

    def parts(time_s: float, side: int) -> list[Part]:
        foot = 0.09 + 0.2 * np.sin(pace + 4.4 * speed * time_s)
        hand = 0.33 - 0.7 * foot
        leg = [(foot - 0.08, 0), (0, 0.9), (0.18, 0.9), (foot + 0.08, 0)]
        arm = [(0.14, 1.42), (0.26, 1.42), (hand + 0.05, 0.8), (hand - 0.05, 0.8)]
        return [
            part(_across(0, leg * left_right) * size, np.outer((0.75, 0.95), trousers)),
            part(_across(0, arm * left_right) * size, coat * 0.8),
            part(_across(0, chest) * size, coat),
            part(head * size, np.stack([_HAIR, skin]), np.array((0.125, 0.105)) * size),
        ]

    return Thing(PERSON, s, lateral, (0.1, -0.2, 0.2, tall), parts, speed)


def tint(rng: np.random.Generator, table: np.ndarray, spread: float) -> np.ndarray:
    """(3,) RGB: a colour of the (N, 3) table, each channel moved by up to ``spread``."""
    return (table[rng.integers(len(table))] + rng.uniform(-spread, spread, 3)).clip(0, 255)


def _across(s: float, outline: ArrayLike) -> np.ndarray:
    """(..., 3) of an outline of (lateral, height) that faces the camera at ``s``."""
    return np.insert(np.asarray(outline, float), 0, s, axis=-1)


def _along(lateral: float, outline: ArrayLike) -> np.ndarray:
    """(..., 3) of an outline of (s, height) on a plane parallel to the road."""
    return np.insert(np.asarray(outline, float), 1, lateral, axis=-1)


def _rects(left: ArrayLike, right: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """(M, 4, 2) corners of rectangles."""
    corners = np.broadcast_arrays(left, low, left, high, right, high, right, low)
    return np.stack(corners, -1).reshape(-1, 4, 2)


def _grid(columns: int, length: float, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of so many columns along ``length``, in each of the rows."""
    x, y = np.meshgrid((np.arange(columns) + 0.5) * length / columns, rows)
    return x.ravel(), y.ravel()
