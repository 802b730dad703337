"""A street from one seed, and what a camera sees of it: sky, ground, and everything on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from train.datasets.synthetic import things
from train.datasets.synthetic.camera import Camera, Canvas, Road
from train.datasets.synthetic.things import FACADE_M, ROAD, SIDEWALK, SKY, Thing, colors

LANE_M = 1.65  # the right lane's centre, metres from the centre line
_VIEW_M = 110.0  # how far things are drawn
_KERB_M = 5.0  # from the centre line
_SHADOW_M = 60.0  # farther ones are a pixel row
_GROUND = colors("585a60 4a4c52 cac2ba a8a098 c6c5bf").astype(np.float32)  # see Street._ground


@dataclass(frozen=True)
class Light:
    """The weather: sky colours, the sun's colour, where shadows fall, and how far one sees.

    shadow: (s, lateral) metres of shadow per metre of height; dark: how dark shade is, and clouds:
    how much of the sky they cover, 0..1; visibility: metres; dusk: lamps and windows are lit.
    """

    zenith: np.ndarray
    horizon: np.ndarray
    sun: tuple[float, float, float]
    shadow: tuple[float, float]
    dark: float
    visibility: float
    clouds: float
    dusk: bool = False


_LIGHTS = tuple(
    Light(*colors(sky), *rest)
    for sky, *rest in (
        ("4680c8 c4dae8", (1.05, 1.02, 0.96), (0.35, 0.6), 0.42, 260, 0.6),
        ("6096d0 e2e2d6", (1.1, 1.0, 0.86), (-0.5, -1.0), 0.4, 220, 0.5),
        ("96a0ac d0d4d6", (0.92, 0.95, 1.0), (0.1, 0.1), 0.22, 120, 0.9),
        ("5468a0 fabe80", (1.12, 0.9, 0.7), (0.9, 1.3), 0.45, 190, 0.7),
        ("303e6e ce8c78", (0.72, 0.68, 0.78), (0.2, 0.3), 0.25, 150, 0.6, True),
    )
)
_ODDS = (0.32, 0.24, 0.18, 0.16, 0.1)


@dataclass(frozen=True)
class Street:
    """Everything that stays the same while a camera drives through.

    shadow_side: -1 or 1, where the sun stands; dashes: length and gap of the centre line's, and
    crossing: s of a zebra crossing, in metres.
    """

    road: Road
    light: Light
    shadow_side: float
    things: tuple[Thing, ...]
    dashes: tuple[float, float]
    crossing: float
    seed: int

    def render(self, camera: Camera, time_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB image and (H, W) uint8 training ids at ``time_s``."""
        canvas = Canvas(camera, self.light.horizon, self.light.visibility)
        seen = [thing for thing in self.things if 0 < thing.far(time_s) - camera.s < _VIEW_M]
        seen.sort(key=lambda thing: -thing.order(time_s))
        for thing in seen:
            length, left, right, height = thing.box
            far = thing.far(time_s)
            if far - camera.s < _SHADOW_M:
                corners = np.array([(s, x) for s in (far - length, far) for x in (left, right)])
                corners += (0, thing.lateral)
                tip = np.multiply(self.light.shadow, (height, height * self.shadow_side))
                canvas.shade(np.concatenate([corners, corners + tip]))
        self._sky(canvas)
        self._ground(canvas)
        for thing in seen:
            side = -1 if thing.lateral > camera.lateral else 1
            s, parts = thing.s + thing.speed * time_s, thing.parts(time_s, side)
            canvas.draw(parts, thing.train_id, s, thing.lateral)
        image, labels = canvas.result()
        return (image * self.light.sun).clip(0, 255).astype(np.uint8), labels

    def _sky(self, canvas: Canvas) -> None:
        camera, light = canvas.camera, self.light
        height, width = int(camera.horizon) + 2, camera.size_hw[1]
        low = np.linspace(0, 1, height)[:, None, None] ** 1.4
        sky = light.zenith + (light.horizon - light.zenith) * low
        start = width // 2 + int(camera.yaw * camera.focal)
        cover = _clouds(self.seed, height, width)[:, start : start + width, None]
        cover = cover * (light.clouds * (1 - low * 0.7))
        canvas.image[:height] = sky + (light.horizon * 0.5 + 122 - sky) * cover
        canvas.labels[:] = SKY

    def _ground(self, canvas: Canvas) -> None:
        top, s, lateral, depth = canvas.camera.ground()
        beside, along = np.abs(lateral), np.abs(s - self.crossing)
        line = (beside < 0.08) & (s % sum(self.dashes) < self.dashes[0])
        line = (line | (beside > 3.22) & (beside < 3.34)) & (along > 2.6)
        stripes = (along < 1.7) & (beside % 1.0 < 0.5) & (beside < 4.6)
        # Rows of _GROUND: asphalt, gutter, kerb, paving, paint.
        surface = np.digitize(beside, (_KERB_M - 0.3, _KERB_M, _KERB_M + 0.22))
        surface[line | stripes] = 4
        slabs = (beside > _KERB_M) & ((s % 1.2 < 0.06) | (beside % 0.8 < 0.04))
        detail = _texture(s * 24, lateral * 24) * 9 + _texture(s * 2.1, lateral * 5) * 4
        detail = (detail - slabs * np.float32(26)) * np.exp(-depth / 30)  # far, it would flicker
        shade = cv2.GaussianBlur(canvas.shadow[top:], (0, 0), 2.0) * np.float32(1 / 255)
        clear = np.exp(-depth / self.light.visibility)[..., None]
        color = (_GROUND[surface] + detail[..., None]) * (1 - self.light.dark * shade[..., None])
        color = color * clear + self.light.horizon.astype(np.float32) * (1 - clear)
        canvas.image[top:] = color.clip(0, 255)
        canvas.labels[top:] = np.where(beside > _KERB_M, SIDEWALK, ROAD)


def build(rng: np.random.Generator, length: float, weather: int | None = None) -> Street:
    """A street of ``length`` metres; the same generator state gives the same street.

    weather: 0 (sunny) to 4 (dusk); drawn from ``rng`` where not given.
    """
    road = Road(rng.uniform(2, 9), rng.uniform(45, 75), rng.uniform(0, 6.3))
    drawn = int(rng.choice(len(_LIGHTS), p=_ODDS))
    light, end = _LIGHTS[drawn if weather is None else weather], length + _VIEW_M
    placed = [thing for side in (-1, 1) for thing in _side(rng, end, side, light.dusk)]
    for s in np.arange(rng.uniform(14, 26), end, rng.uniform(26, 44)):
        placed.append(things.car(rng, s, LANE_M, 9.0, 1))
    for s in np.arange(rng.uniform(16, 40), end * 2, rng.uniform(22, 40)):
        placed.append(things.car(rng, s, -LANE_M, -8.0, -1))
    sun, dashes = float(rng.choice((-1, 1))), (rng.uniform(2.5, 4), rng.uniform(3.5, 6))
    crossing, seed = rng.uniform(20, 20 + length), int(rng.integers(1 << 30))
    return Street(road, light, sun, tuple(placed), dashes, crossing, seed)


def _side(rng: np.random.Generator, end: float, side: int, dusk: bool) -> Iterator[Thing]:
    """What stands and walks on one side: houses and parks, trees, lamps, signs, cars, people."""
    s, leafy = rng.uniform(-25, -10), rng.random() < 0.7
    while s < end:
        span = rng.uniform(8, 17)
        if rng.random() < 0.76:
            yield things.house(rng, s, span, side, dusk)
        else:  # a park
            for step in np.arange(0, span, 1.9):
                for deep in (0.6, 2.8):
                    lateral = side * (FACADE_M + deep + rng.uniform(-0.3, 0.3))
                    yield things.tree(rng, s + step, lateral, 0.0, 1.15 + deep / 4)
            for step in np.arange(1, span, 4.0):
                yield things.tree(rng, s + step, side * (FACADE_M + 3.4), rng.uniform(2, 3), 2.0)
        s += span + rng.choice((0.0, 0.0, rng.uniform(1.5, 4)))
    for s in np.arange(rng.uniform(-5, 4), end, rng.uniform(11, 17)):
        if leafy and rng.random() < 0.8:
            trunk, size = rng.uniform(1.9, 2.6), rng.uniform(1.3, 2.0)
            yield things.tree(rng, s + 5.0, side * 5.9, trunk, size)
        if rng.random() < 0.55:
            yield things.lamp(s, side * 5.5, dusk)
        if rng.random() < 0.4:
            yield from things.sign(rng, s + rng.uniform(2, 9), side * 5.6)
    for s in np.arange(9.0, end, 6.2):
        if rng.random() < 0.38:
            yield things.car(rng, s + rng.uniform(-0.6, 0.6), side * 4.15, 0.0, side)
    for s in np.arange(4.0, end, 6.8):
        if rng.random() < 0.55:
            yield things.person(rng, s + rng.uniform(0, 3.4), side * rng.uniform(5.7, 7.8))


@lru_cache(maxsize=2)
def _clouds(seed: int, height: int, width: int) -> np.ndarray:
    """(H, 2 W) float32 in 0..1: how much cloud covers the sky."""
    rng, total = np.random.default_rng(seed), np.zeros((height, 2 * width), np.float32)
    for octave in range(4):
        noise = rng.random((3 << octave, 5 << octave), np.float32)
        total += cv2.resize(noise, total.shape[::-1], interpolation=cv2.INTER_CUBIC) / (2 << octave)
    return np.clip((total - 0.48) * 4, 0, 1)


def _texture(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The grain of asphalt and paving at these places, of mean 0."""
    return _noise()[rows.astype(np.int32) & 255, columns.astype(np.int32) & 255]


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """(256, 256) float32."""
    fine = np.random.default_rng(7).normal(size=(256, 256)).astype(np.float32)
    return fine * 0.6 + cv2.GaussianBlur(fine, (0, 0), 3, borderType=cv2.BORDER_REFLECT_101) * 4
