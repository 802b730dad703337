"""A camera on a curved street, and the pen that draws what it sees together with its labels.

Street coordinates are (s, lateral, height) in metres: s along the road, lateral to the right of
its centre line, height above the ground.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

Color = tuple[float, float, float]  # RGB, 0-255

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
        return self.amplitude * np.sin(np.asarray(s) / self.wavelength + self.phase)


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

    def heading(self) -> tuple[float, float]:
        """(cos, sin) of the yaw towards the road ahead."""
        ahead = 14.0
        turn = np.arctan2(self.road.center(self.s + ahead) - self.road.center(self.s), ahead)
        return float(np.cos(turn)), float(np.sin(turn))

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) street coordinates → (N, 3) right, up, depth as the camera sees them."""
        cos, sin = self.heading()
        x = self.road.center(points[:, 0]) + points[:, 1]
        dx = x - self.road.center(self.s) - self.lateral
        dz = points[:, 0] - self.s
        return np.stack([cos * dx - sin * dz, points[:, 2] - self.height, sin * dx + cos * dz], 1)

    def to_pixels(self, view: np.ndarray) -> np.ndarray:
        """(N, 3) camera coordinates in front of the camera → (N, 2) pixel positions x, y."""
        scale = self.focal_px / view[:, 2]
        across = self.size_hw[1] / 2 + view[:, 0] * scale
        return np.stack([across, self.horizon_px - view[:, 1] * scale], 1)

    def ground(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """First row below the horizon, then (rows, W) s, lateral and depth of the ground there."""
        height, width = self.size_hw
        top = int(np.floor(self.horizon_px)) + 2
        rows = np.arange(top, height, dtype=np.float32)[:, None] + 0.5
        depth = self.focal_px * self.height / (rows - self.horizon_px)
        right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * depth / self.focal_px
        cos, sin = self.heading()
        s = self.s - sin * right + cos * depth
        x = self.road.center(self.s) + self.lateral + cos * right + sin * depth
        return top, s, x - self.road.center(s), np.broadcast_to(depth, s.shape)


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
        view = clip_near(self.camera.to_view(np.asarray(points, float)))
        if len(view) > 2:
            shade = self.faded(color, light, float(view[:, 2].mean()))
            self._fill([_fixed(self.camera.to_pixels(view))], shade, train_id)

    def faces(self, quads: np.ndarray, color: Color, train_id: int, light: float = 1.0) -> None:
        """Fill (M, 4, 3) quads of one colour that do not overlap; those beside the camera go."""
        view = self.camera.to_view(quads.reshape(-1, 3))
        kept = (view[:, 2].reshape(-1, 4) > _NEAR_M).all(1)
        if kept.any():
            pixels = self.camera.to_pixels(view.reshape(-1, 4, 3)[kept].reshape(-1, 3))
            shade = self.faded(color, light, float(view[:, 2].reshape(-1, 4)[kept].mean()))
            self._fill(list(_fixed(pixels).reshape(-1, 4, 2)), shade, train_id)

    def blob(self, center: np.ndarray, radius: float, color: Color, train_id: int) -> None:
        """Fill a disc of ``radius`` metres that faces the camera."""
        view = self.camera.to_view(np.asarray(center, float)[None])
        depth = float(view[0, 2])
        if depth < _NEAR_M:
            return
        x, y = (int(v) for v in _fixed(self.camera.to_pixels(view))[0])
        pixels = max(1, round(radius * self.camera.focal_px / depth * (1 << _SUBPIXEL_BITS)))
        shade = self.faded(color, 1.0, depth)
        cv2.circle(self.image, (x, y), pixels, shade, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.circle(self.labels, (x, y), pixels, train_id, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)

    def shade(self, outline: np.ndarray) -> None:
        """Mark the (N, 2) s, lateral outline's convex hull as shadow on the ground."""
        hull = cv2.convexHull(np.asarray(outline, np.float32))[:, 0]
        ground = np.concatenate([hull, np.zeros((len(hull), 1))], 1)
        view = clip_near(self.camera.to_view(ground))
        if len(view) > 2:
            pixels = _fixed(self.camera.to_pixels(view))
            cv2.fillPoly(self.shadow, [pixels], 255, cv2.LINE_8, _SUBPIXEL_BITS)

    def faded(self, color: Color, light: float, depth: float) -> Color:
        """A surface colour as it looks under ``light`` from ``depth`` metres away."""
        clear = float(np.exp(-max(depth, 0.0) / self.visibility))
        mixed = (min(c * light, 255) * clear + h * (1 - clear) for c, h in _zip(color, self.haze))
        red, green, blue = mixed
        return red, green, blue

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 RGB image and (h, w) uint8 labels at the final size."""
        height, width = (side // SUPERSAMPLING for side in self.camera.size_hw)
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        return image, self.labels[::SUPERSAMPLING, ::SUPERSAMPLING].copy()

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


def _zip(a: Color, b: Color) -> zip[tuple[float, float]]:
    return zip(a, b, strict=True)
