"""A camera on a curved street, and the pen that draws what it sees together with its labels.

Street coordinates are (s, lateral, height) in metres: s along the road, lateral to the right of
its centre line, height above the ground.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from math import exp

import cv2
import numpy as np

Color = tuple[float, float, float]  # RGB, 0-255
Part = tuple[np.ndarray, Color, float]  # (N, 3) street coordinates, colour, light

SUPERSAMPLING = 2  # drawn at twice the size: smooth images, and labels that stay single pixels
_NEAR_M = 0.6
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Road:
    """The centre line: x = amplitude · sin(s / wavelength + phase), in metres."""

    amplitude: float
    wavelength: float
    phase: float

    def center(self, s: np.ndarray | float) -> np.ndarray:
        """x of the centre line at ``s``."""
        return self.amplitude * np.sin(s / self.wavelength + self.phase)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks down the road; size_hw in drawn (supersampled) pixels."""

    road: Road
    s: float
    lateral: float
    size_hw: tuple[int, int]
    height: float = 1.55
    focal: float = 0.85  # in image widths
    horizon: float = 0.44  # in image heights from the top

    @property
    def focal_px(self) -> float:
        return self.focal * self.size_hw[1]

    @property
    def horizon_px(self) -> float:
        return self.horizon * self.size_hw[0]

    @cached_property
    def heading(self) -> tuple[float, float]:
        """(cos, sin) of the yaw towards the road ahead."""
        ahead = 14.0
        turn = np.arctan2(self.road.center(self.s + ahead) - self.road.center(self.s), ahead)
        return float(np.cos(turn)), float(np.sin(turn))

    @cached_property
    def x(self) -> float:
        """Where the camera is across the road, in metres."""
        return float(self.road.center(self.s)) + self.lateral

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) street coordinates → (N, 3) right, up, depth as the camera sees them."""
        cos, sin = self.heading
        dx = self.road.center(points[:, 0]) + points[:, 1] - self.x
        dz = points[:, 0] - self.s
        view = np.empty((len(points), 3))
        view[:, 0] = cos * dx - sin * dz
        view[:, 1] = points[:, 2] - self.height
        view[:, 2] = sin * dx + cos * dz
        return view

    def to_pixels(self, view: np.ndarray) -> np.ndarray:
        """(N, 3) camera coordinates in front of the camera → (N, 2) pixel positions x, y."""
        scale = self.focal_px / view[:, 2]
        pixels = view[:, :2] * scale[:, None]
        pixels[:, 0] += self.size_hw[1] / 2
        pixels[:, 1] = self.horizon_px - pixels[:, 1]
        return pixels

    def ground(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """First row below the horizon; (rows, W) s and lateral of the ground, (rows, 1) depth."""
        height, width = self.size_hw
        top = int(np.floor(self.horizon_px)) + 2
        rows = np.arange(top, height, dtype=np.float32)[:, None] + 0.5
        depth = self.focal_px * self.height / (rows - self.horizon_px)
        right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * depth / self.focal_px
        cos, sin = self.heading
        s = np.float32(self.s) - np.float32(sin) * right + np.float32(cos) * depth
        x = np.float32(self.x) + np.float32(cos) * right + np.float32(sin) * depth
        return top, s, x - self.road.center(s), depth


@dataclass
class Pen:
    """Draws shapes into an image and, with the same polygons, into its labels.

    image: (H, W, 3) uint8 RGB; labels: (H, W) uint8; shadow: (H, W) uint8, 255 in full shade.
    Shapes fade to ``haze`` with distance; ``visibility`` in metres.
    """

    camera: Camera
    haze: Color
    visibility: float
    image: np.ndarray = field(init=False)
    labels: np.ndarray = field(init=False)
    shadow: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        height, width = self.camera.size_hw
        self.image = np.zeros((height, width, 3), np.uint8)
        self.labels = np.zeros((height, width), np.uint8)
        self.shadow = np.zeros((height, width), np.uint8)

    def face(self, points: np.ndarray, color: Color, train_id: int, light: float = 1.0) -> None:
        """Fill a convex polygon of (N, 3) street coordinates, cut off behind the camera."""
        self.shape([(points, color, light)], train_id)

    def shape(self, parts: list[Part], train_id: int) -> None:
        """Fill the faces of one thing, in order; each is cut off behind the camera."""
        # One projection for all of them: numpy's calls cost more than the arithmetic in them.
        view = self.camera.to_view(np.concatenate([points for points, _, _ in parts]))
        ends = list(accumulate(len(points) for points, _, _ in parts))
        depth = float(view[:, 2].mean())
        if view[:, 2].min() >= _NEAR_M:
            pixels = _fixed(self.camera.to_pixels(view))
            polygons = [pixels[a:b] for a, b in pairwise((0, *ends))]
        else:
            polygons = [self._cut(view[a:b]) for a, b in pairwise((0, *ends))]
        for polygon, (_, color, light) in zip(polygons, parts, strict=True):
            if len(polygon) > 2:
                self._fill([polygon], self.faded(color, light, depth), train_id)

    def faces(self, quads: np.ndarray, color: Color, train_id: int, light: float = 1.0) -> None:
        """Fill (M, 4, 3) quads of one colour that do not overlap; those beside the camera go."""
        view = self.camera.to_view(quads.reshape(-1, 3))
        kept = (view[:, 2].reshape(-1, 4) > _NEAR_M).all(1)
        if kept.any():
            pixels = self.camera.to_pixels(view.reshape(-1, 4, 3)[kept].reshape(-1, 3))
            shade = self.faded(color, light, float(view[:, 2].reshape(-1, 4)[kept].mean()))
            self._fill(list(_fixed(pixels).reshape(-1, 4, 2)), shade, train_id)

    def blobs(
        self, centers: np.ndarray, radii: np.ndarray, colors: np.ndarray, train_id: int
    ) -> None:
        """Fill discs that face the camera, in order: (N, 3) centres, (N,) metres, (N, 3) RGB."""
        view = self.camera.to_view(centers)
        if view[:, 2].min() < _NEAR_M:
            return
        depth = float(view[:, 2].mean())
        at = _fixed(self.camera.to_pixels(view)).tolist()
        scale = self.camera.focal_px / depth * (1 << _SUBPIXEL_BITS)
        sizes = np.maximum(radii * scale, 1).astype(int).tolist()
        clear = exp(-depth / self.visibility)
        shades = (colors.clip(0, 255) * clear + np.array(self.haze) * (1 - clear)).tolist()
        for xy, size, shade in zip(at, sizes, shades, strict=True):
            cv2.circle(self.image, xy, size, shade, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)
            cv2.circle(self.labels, xy, size, train_id, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)

    def shade(self, outline: np.ndarray) -> None:
        """Mark the (N, 2) s, lateral outline's convex hull as shadow on the ground."""
        hull = cv2.convexHull(np.asarray(outline, np.float32))[:, 0]
        ground = np.concatenate([hull, np.zeros((len(hull), 1))], 1)
        polygon = self._cut(self.camera.to_view(ground))
        if len(polygon) > 2:
            cv2.fillPoly(self.shadow, [polygon], 255, cv2.LINE_8, _SUBPIXEL_BITS)

    def faded(self, color: Color, light: float, depth: float) -> Color:
        """A surface colour as it looks under ``light`` from ``depth`` metres away."""
        clear = exp(-max(depth, 0.0) / self.visibility)
        (red, green, blue), (r, g, b), fog = color, self.haze, 1 - clear
        clear *= light
        return red * clear + r * fog, green * clear + g * fog, blue * clear + b * fog

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 RGB image and (h, w) uint8 labels at the final size."""
        height, width = (side // SUPERSAMPLING for side in self.camera.size_hw)
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        return image, self.labels[::SUPERSAMPLING, ::SUPERSAMPLING].copy()

    def _cut(self, view: np.ndarray) -> np.ndarray:
        """(N, 2) fixed-point pixels of what lies in front of the camera; N = 0 where nothing."""
        return _fixed(self.camera.to_pixels(clip_near(view)))

    def _fill(self, polygons: list[np.ndarray], color: Color, train_id: int) -> None:
        cv2.fillPoly(self.image, polygons, color, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.fillPoly(self.labels, polygons, train_id, cv2.LINE_8, _SUBPIXEL_BITS)


def clip_near(view: np.ndarray) -> np.ndarray:
    """Cut a convex (N, 3) polygon in camera coordinates at the near plane (Sutherland-Hodgman)."""
    if (view[:, 2] >= _NEAR_M).all():
        return view
    kept: list[np.ndarray] = []
    for here, there in zip(view, np.roll(view, -1, 0), strict=True):
        if here[2] >= _NEAR_M:
            kept.append(here)
        if (here[2] >= _NEAR_M) != (there[2] >= _NEAR_M):
            kept.append(here + (there - here) * (_NEAR_M - here[2]) / (there[2] - here[2]))
    return np.array(kept).reshape(-1, 3)


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)
