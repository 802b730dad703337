"""A street in its light, and what a camera sees of it: sky, ground, and everything on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from train.datasets.synthetic.camera import Camera, Color, Pen, Road
from train.datasets.synthetic.props import ROAD, SIDEWALK, SKY, Prop

VIEW_M = 110.0  # how far things are drawn
_KERB_M = 5.0  # from the centre line
_SHADOW_M = 60.0  # farther ones are a pixel row

_GROUND = np.array(
    ((88, 90, 96), (74, 76, 82), (202, 194, 186), (168, 160, 152), (198, 197, 191)), np.float32
)


@dataclass(frozen=True)
class Light:
    """The weather: sky colours, the sun's colour, where shadows fall, and how far one sees.

    shadow: (s, lateral) metres of shadow per metre of height; dark: how dark shade is, 0..1.
    """

    zenith: Color
    horizon: Color
    sun: Color
    shadow: tuple[float, float]
    dark: float
    visibility: float
    clouds: float
    lamps: bool


@dataclass(frozen=True)
class Street:
    """Everything that stays the same while a camera drives through."""

    road: Road
    light: Light
    props: tuple[Prop, ...]
    lines: tuple[float, float]  # length and gap of the dashes of the centre line
    crossing: float  # s of a zebra crossing
    seed: int

    def render(self, camera: Camera, time_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB image and (H, W) uint8 training ids at ``time_s``."""
        pen = Pen(camera, self.light.horizon, self.light.visibility)
        seen = [p for p in self.props if 0 < p.far(time_s) - camera.s < VIEW_M]
        for prop in seen:
            if prop.far(time_s) - camera.s > _SHADOW_M:
                continue
            outline, height = prop.footprint(time_s)
            tip = np.array(self.light.shadow) * height
            pen.shade(np.concatenate([outline, outline + tip]))
        _sky(pen, self.light, self.seed)
        self._ground(pen)
        for prop in sorted(seen, key=lambda p: -p.far(time_s)):
            prop.draw(pen, time_s)
        image, labels = pen.result()
        sunlit = image * np.array(self.light.sun, np.float32)
        return sunlit.clip(0, 255).astype(np.uint8), labels

    def _ground(self, pen: Pen) -> None:
        top, s, lateral, depth = pen.camera.ground()
        beside = np.abs(lateral)
        walk = beside > _KERB_M
        clear = np.exp(-depth / 30)  # far texture would only flicker
        slabs = walk & ((s % 1.2 < 0.06) | (beside % 0.8 < 0.04))
        detail = (_sample(s * 24, lateral * 24) * 9 + _sample(s * 2.1, lateral * 5) * 4) * clear
        detail -= slabs * (26 * clear)
        shade = cv2.GaussianBlur(pen.shadow[top:], (0, 0), 2.0) * np.float32(-self.light.dark / 255)
        fade = np.exp(-depth / self.light.visibility)
        color = _GROUND[self._surface(s, beside)]
        color += detail[..., None]
        color *= ((shade + 1) * fade)[..., None]
        color += (1 - fade[..., None]) * np.array(self.light.horizon, np.float32)
        pen.image[top:] = color.clip(0, 255)
        pen.labels[top:] = np.where(walk, SIDEWALK, ROAD)

    def _surface(self, s: np.ndarray, beside: np.ndarray) -> np.ndarray:
        """Rows of _GROUND: asphalt, gutter, kerb, paving, paint."""
        edges = np.array((_KERB_M - 0.3, _KERB_M, _KERB_M + 0.22), np.float32)
        surface = np.digitize(beside, edges)
        surface[self._paint(s, beside)] = 4
        return surface

    def _paint(self, s: np.ndarray, beside: np.ndarray) -> np.ndarray:
        dash, gap = self.lines
        center = (beside < 0.08) & (s % (dash + gap) < dash)
        edge = (beside > 3.22) & (beside < 3.34)
        stripes = (np.abs(s - self.crossing) < 1.7) & (beside % 1.0 < 0.5) & (beside < 4.6)
        return (center | edge) & (np.abs(s - self.crossing) > 2.6) | stripes


def _sky(pen: Pen, light: Light, seed: int) -> None:
    pen.labels[:] = SKY
    height, width = int(pen.camera.horizon_px) + 2, pen.camera.size_hw[1]
    low = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 1.4
    zenith, horizon = (np.array(c, np.float32) for c in (light.zenith, light.horizon))
    sky = zenith * (1 - low) + horizon * low
    cos, sin = pen.camera.heading
    start = width // 2 + int(np.arctan2(sin, cos) * pen.camera.focal_px)
    cover = _clouds(seed, height, width)[:, start : start + width, None]
    cover = cover * (light.clouds * (1 - low * 0.7))
    pen.image[:height] = sky + (horizon * 0.5 + 122 - sky) * cover


@lru_cache(maxsize=2)
def _clouds(seed: int, height: int, width: int) -> np.ndarray:
    """(H, 2 W) float32 in 0..1: how much cloud covers the sky."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, 2 * width), np.float32)
    for octave in range(4):
        cells = (3 << octave, 5 << octave)
        noise = rng.random(cells, np.float32)
        total += cv2.resize(noise, total.shape[::-1], interpolation=cv2.INTER_CUBIC) / (2 << octave)
    return np.clip((total - 0.48) * 4, 0, 1)


def _sample(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return _texture()[rows.astype(np.int32) & 255, columns.astype(np.int32) & 255]


@lru_cache(maxsize=1)
def _texture() -> np.ndarray:
    """(256, 256) float32 of mean 0: the grain of asphalt and paving."""
    rng = np.random.default_rng(7)
    fine = rng.normal(size=(256, 256)).astype(np.float32)
    return fine * 0.6 + cv2.GaussianBlur(fine, (0, 0), 3, borderType=cv2.BORDER_REFLECT_101) * 4
