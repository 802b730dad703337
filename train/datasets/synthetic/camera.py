"""A camera on a curved road, and the canvas that draws what it sees together with its labels.

Points are (s, lateral, height) in metres: s along the road, lateral to the right of its centre
line, height above the ground.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike

SUPERSAMPLING = 2  # drawn at twice the size: smooth images, and labels that stay single pixels
_NEAR_M = 0.6
_SUBPIXEL_BITS = 4
_TURN = 2 * np.pi * np.arange(16) / 16
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)  # (16, 2)


Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # of ``part``


def part(points: ArrayLike, colors: np.ndarray, radius: ArrayLike = 0.0) -> Part:
    """Shapes for ``Canvas.draw``, in their order; a single one has (K, 3) points.

    points: (M, K, 3) convex polygons, (M, 1, 3) centres of discs that face the camera, or (M, 2, 3)
    feet and tops of posts; colors: (3,) or (M, 3) RGB, 0-255; radius: (M,) or scalar metres, of
    discs and posts.
    """
    array = np.asarray(points, float)
    shapes = array.reshape(-1, *array.shape[-2:])
    return shapes, colors.clip(0, 255), np.reshape(radius, (-1, 1, 1))


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
    """A pinhole camera that looks down the road.

    s, lateral, height: metres; size_hw, focal and horizon (its row): drawn, supersampled pixels.
    """

    road: Road
    s: float
    lateral: float
    size_hw: tuple[int, int]
    focal: float
    horizon: float
    height: float = 1.55

    @cached_property
    def yaw(self) -> float:
        """Radians towards the road 14 m ahead."""
        ahead = self.road.center(self.s + 14) - self.road.center(self.s)
        return float(np.arctan2(ahead, 14))

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) street coordinates → (N, 3) right, up, depth as the camera sees them."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        dx = self.road.center(points[:, 0]) + points[:, 1] - self.road.center(self.s) - self.lateral
        dz = points[:, 0] - self.s
        return np.stack([cos * dx - sin * dz, points[:, 2] - self.height, sin * dx + cos * dz], 1)

    def to_pixels(self, view: np.ndarray) -> np.ndarray:
        """(..., 3) in front of the camera → (..., 2) int32 x, y in 1/16 pixels."""
        x, y = (view[..., axis] * self.focal / view[..., 2] for axis in (0, 1))
        pixels = np.stack([self.size_hw[1] / 2 + x, self.horizon - y], -1)
        return np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def ground(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """First row below the horizon; (rows, W) s and lateral of the ground, (rows, 1) depth."""
        height, width = self.size_hw
        top = int(self.horizon) + 2
        rows = np.arange(top, height, dtype=np.float32)[:, None] + 0.5
        depth = self.focal * self.height / (rows - self.horizon)
        right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * depth / self.focal
        cos, sin = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        s = np.float32(self.s) - sin * right + cos * depth
        x = np.float32(self.road.center(self.s) + self.lateral) + cos * right + sin * depth
        return top, s, x - self.road.center(s), depth


class Canvas:
    """Draws shapes into an image and, with the same polygons, into its labels.

    image: (H, W, 3) uint8 RGB; labels: (H, W) uint8; shadow: (H, W) uint8, 255 in full shade.
    Colours fade to ``haze`` (RGB) with distance; ``visibility`` in metres.
    """

    def __init__(self, camera: Camera, haze: np.ndarray, visibility: float) -> None:
        self.camera, self.haze, self.visibility = camera, haze, visibility
        self.image = np.zeros((*camera.size_hw, 3), np.uint8)
        self.labels = np.zeros(camera.size_hw, np.uint8)
        self.shadow = np.zeros(camera.size_hw, np.uint8)

    def draw(self, parts: Sequence[Part], train_id: int, s: float = 0, lateral: float = 0) -> None:
        """Fill a thing's parts, moved by (s, lateral); what is behind the camera is cut off."""
        points = np.concatenate([points.reshape(-1, 3) for points, _, _ in parts])
        view = self.camera.to_view(points + np.array((s, lateral, 0)))
        clear = np.exp(-max(view[:, 2].mean(), 0) / self.visibility)
        ends = np.cumsum([points.size // 3 for points, _, _ in parts])
        for group, (points, colors, radius) in zip(np.split(view, ends[:-1]), parts, strict=True):
            shapes = self._outlines(group.reshape(points.shape), radius)
            faded = np.broadcast_to(colors * clear + self.haze * (1 - clear), (len(shapes), 3))
            for polygon, color in zip(self._pixels(shapes), faded.tolist(), strict=True):
                self._fill(self.image, polygon, color)
                self._fill(self.labels, polygon, train_id)

    def shade(self, outline: np.ndarray) -> None:
        """Mark the convex hull of (N, 2) s, lateral as shadow on the ground."""
        hull = cv2.convexHull(outline.astype(np.float32))[:, 0]
        view = self.camera.to_view(np.insert(hull, 2, 0, axis=1))
        self._fill(self.shadow, next(iter(self._pixels(view[None]))), 255)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 RGB image and (h, w) uint8 labels at the final size."""
        height, width = (side // SUPERSAMPLING for side in self.camera.size_hw)
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        return image, self.labels[::SUPERSAMPLING, ::SUPERSAMPLING].copy()

    def _outlines(self, shapes: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """(M, K, 3) polygons in view coordinates of a part's shapes."""
        if shapes.shape[1] == 1:
            return shapes + np.insert(CIRCLE, 2, 0, axis=1) * radius
        if shapes.shape[1] == 2:
            # At least a final pixel wide, so that image and labels agree about far posts.
            half = np.maximum(radius, shapes[..., 2:] / self.camera.focal) * (1, 0, 0)
            return np.concatenate([shapes - half, (shapes + half)[:, ::-1]], 1)
        return shapes

    def _pixels(self, shapes: np.ndarray) -> Iterable[np.ndarray]:
        if shapes[..., 2].min() < _NEAR_M:
            return (self.camera.to_pixels(_clip_near(shape)) for shape in shapes)
        return self.camera.to_pixels(shapes)

    def _fill(self, canvas: np.ndarray, polygon: np.ndarray, color: int | list[float]) -> None:
        if len(polygon):
            cv2.fillConvexPoly(canvas, polygon, color, cv2.LINE_8, _SUBPIXEL_BITS)


def _clip_near(view: np.ndarray) -> np.ndarray:
    """Cut a convex (N, 3) polygon in view coordinates at the near plane (Sutherland-Hodgman)."""
    kept: list[np.ndarray] = []
    for here, there in zip(view, np.roll(view, -1, 0), strict=True):
        if here[2] >= _NEAR_M:
            kept.append(here)
        if (here[2] >= _NEAR_M) != (there[2] >= _NEAR_M):
            kept.append(here + (there - here) * (_NEAR_M - here[2]) / (there[2] - here[2]))
    return np.array(kept).reshape(-1, 3)
