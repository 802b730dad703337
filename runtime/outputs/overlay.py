"""Labels as colours, laid over the frame, with a heads-up display and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.outputs.alarms import Zone

Style = Literal["fill", "outline"]
UNKNOWN = (128, 128, 128)  # BGR of pixels without a class
_OPACITY: dict[Style, float] = {"fill": 0.5, "outline": 1.0}
# What fills much of a picture is mostly ground, walls, trees or sky: of these shares of it, and
# between them, fill takes these opacities, so that people, vehicles and signs stand out.
_SHARES, _STRENGTHS = (0.02, 0.2), (0.7, 0.35)
_SOFT_ROWS = 1000  # of an image: every so many make the edges of classes 2 pixels softer
_LINE_ROWS = 600  # and the lines of outlines a pixel wider on either side
_SHADE = 0.3  # what is left of the picture under a panel: white text reads on any of it
_BRIGHT, _DIM = 255, 190  # grey levels of the text
_LISTED = 1e-3  # classes below this share of the frame stay out of the legend
_LEGEND_ROWS = 3
_LEGEND_SHARE = 4  # the legend takes at most one part in so many of the image's height


@dataclass(frozen=True)
class Look:
    """How classes are laid over a picture.

    style: "fill", or "outline" for their edges alone; opacity: of the colours, 0..1, None: of fill
    0.7 for classes that fill little of the picture to 0.35 for those that fill much, 1 of outline;
    only: names of the classes to draw, all where empty. HedgeError for another style or opacity.
    """

    style: Style = "fill"
    opacity: float | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.style not in _OPACITY:
            raise HedgeError(f"style {self.style!r}: choose {' or '.join(_OPACITY)}")
        if not 0 <= self.alpha <= 1:
            raise HedgeError(f"opacity {self.opacity}: give a number from 0 to 1")

    @property
    def alpha(self) -> float:
        """The opacity, also where none is given: then fill's is this on the average."""
        return _OPACITY[self.style] if self.opacity is None else self.opacity

    def shown(self, classes: ClassSet) -> np.ndarray:
        """(256,) bool: the label values that are drawn; HedgeError for a name of no class."""
        if not self.only:
            return np.ones(256, bool)
        table = np.zeros(256, bool)
        table[[classes.find(name, "--only") for name in self.only]] = True
        return table


class Overlay:
    """Draws predictions of one class set; ``footer`` names the model under the live numbers.

    zones: are outlined in white.
    Pixels of the value 255 are of no class: gray, "unknown" in the legend. Raises HedgeError where
    ``look`` asks for a class that there is not.
    """

    def __init__(
        self,
        classes: ClassSet,
        footer: str = "",
        look: Look | None = None,
        zones: Sequence[Zone] = (),
    ) -> None:
        look = look or Look()
        self.footer, self._zones = footer, zones
        self._names = {**dict(enumerate(classes.names)), IGNORE: "unknown"}
        self._style = look.style
        self._opacity = None if look.style == "fill" and look.opacity is None else look.alpha
        self._shown = look.shown(classes)
        self._palette = classes.palette() if look.style == "fill" else _bright(classes.palette())
        self._palette[IGNORE] = UNKNOWN
        self._palette[~self._shown] = 0
        self._tint = self._canvas = np.empty((0, 0, 3), np.uint8)  # fresh memory costs 1 ms at 720p
        self._panel_width = 0  # grows only: a panel that breathes with its digits is hard to read

    def colors(self, labels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 labels → (H, W, 3) uint8 BGR class colours, black where not drawn."""
        return cv2.applyColorMap(labels, self._palette.reshape(256, 1, 3))

    def draw(self, image: np.ndarray, labels: np.ndarray, status: str = "") -> np.ndarray:
        """Blend ``image`` with its labels as ``blend`` does, the panels on top.

        status: the line of live numbers. A panel that does not fit the image is left out.
        """
        canvas = self.zoned(image, labels)
        size = _text_size(canvas.shape[0])
        self._draw_status(canvas, status, size)
        self._draw_legend(canvas, labels, max(size - 2, 10))
        return canvas

    def zoned(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Blend ``image`` with its labels as ``blend`` does, the zones on top."""
        canvas = self.blend(image, labels)
        self._draw_zones(canvas)
        return canvas

    def blend(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Lay the colours of (H, W) uint8 ``labels`` over an (H, W, 3) uint8 BGR ``image``.

        The picture is the overlay's own memory: the next call draws into it again.
        """
        if self._canvas.shape != image.shape:
            self._tint, self._canvas = np.empty_like(image), np.empty_like(image)
        tint, rest = self._tint, self._canvas  # colours, and what is left of the picture: in 255ths
        weights = self._weights(labels)[:, None]
        cv2.applyColorMap(labels, _table(self._palette * weights), tint)
        cv2.applyColorMap(labels, _table(255 * (1 - weights.repeat(3, 1))), rest)
        if self._style == "outline":
            inside = cv2.cvtColor(_inside(labels), cv2.COLOR_GRAY2BGR)
            cv2.subtract(tint, inside, tint)
            cv2.add(rest, inside, rest)
        # Both get soft alike, so that no edge is darker than both its sides.
        soft = 2 * (len(image) // _SOFT_ROWS) + 3
        cv2.blur(tint, (soft, soft), tint)
        cv2.blur(rest, (soft, soft), rest)
        cv2.multiply(image, rest, rest, 1 / 255)
        return cv2.add(rest, tint, rest)

    def _weights(self, labels: np.ndarray) -> np.ndarray:
        """(256,) float opacity by label value."""
        if self._opacity is not None:
            return self._shown * self._opacity
        shares = np.bincount(labels[::4, ::4].ravel(), minlength=256) / labels[::4, ::4].size
        known = np.log(np.maximum(shares, _SHARES[0]))
        return self._shown * np.interp(known, np.log(_SHARES), _STRENGTHS)

    def _draw_zones(self, canvas: np.ndarray) -> None:
        height, width = canvas.shape[:2]
        for zone in self._zones:
            corners = np.rint(np.array(zone.corners) * (width, height) * 16 - 8).astype(np.int32)
            cv2.polylines(
                canvas, [corners], True, (_BRIGHT,) * 3, 2 + height // _LINE_ROWS, cv2.LINE_AA, 4
            )

    def _draw_status(self, canvas: np.ndarray, status: str, size: int) -> None:
        lines = [(status, size, _BRIGHT), (self.footer, max(size - 3, 10), _DIM)]
        masks = [(text_mask(line, points), shade) for line, points, shade in lines if line]
        if not masks:
            return
        pad = size // 2
        width = max(mask.shape[1] for mask, _ in masks) + 2 * pad
        self._panel_width = max(self._panel_width, width)
        height = sum(mask.shape[0] for mask, _ in masks) + pad
        if not _shade(canvas, pad, pad, self._panel_width, height):
            return
        top = pad + pad // 2
        for mask, shade in masks:
            _stamp(canvas, mask, 2 * pad, top, shade)
            top += mask.shape[0]

    def _draw_legend(self, canvas: np.ndarray, labels: np.ndarray, size: int) -> None:
        pad = size // 2
        line = text_mask("X", size).shape[0]
        room = canvas.shape[1] - 4 * pad
        limit = min(_LEGEND_ROWS, canvas.shape[0] // _LEGEND_SHARE // line)
        rows = self._legend_rows(labels, size, room, limit)
        if not rows:
            return
        width = max(self._row_width(row, size) for row in rows) + 2 * pad
        height = len(rows) * line + pad
        top = canvas.shape[0] - pad - height
        if not _shade(canvas, pad, top, width, height):
            return
        for number, row in enumerate(rows):
            left, y = 2 * pad, top + pad // 2 + number * line
            for index in row:
                left += self._draw_entry(canvas, index, left, y, size)

    def _legend_rows(self, labels: np.ndarray, size: int, room: int, limit: int) -> list[list[int]]:
        """Class ids in at most ``limit`` rows, in id order; when short of room, the largest."""
        areas = np.bincount(labels[::4, ::4].ravel(), minlength=256)
        present = [i for i in self._names if self._shown[i] and areas[i] > _LISTED * areas.sum()]
        while present:
            rows = self._wrap(present, size, room)
            if len(rows) <= limit:
                return rows
            present.remove(min(present, key=lambda index: areas[index]))
        return []

    def _wrap(self, present: list[int], size: int, room: int) -> list[list[int]]:
        rows: list[list[int]] = [[]]
        for index in present:
            if rows[-1] and self._row_width([*rows[-1], index], size) > room:
                rows.append([])
            rows[-1].append(index)
        return rows

    def _row_width(self, row: list[int], size: int) -> int:
        return sum(self._entry_width(index, size) for index in row) - size  # no gap at the end

    def _entry_width(self, index: int, size: int) -> int:
        """Swatch, gap, name, gap."""
        return size + size // 2 + text_mask(self._names[index], size).shape[1] + size

    def _draw_entry(self, canvas: np.ndarray, index: int, left: int, top: int, size: int) -> int:
        mask = text_mask(self._names[index], size)
        inset = (mask.shape[0] - size) // 2
        swatch = (left, top + inset, size, size)
        cv2.rectangle(canvas, swatch, self._palette[index].tolist(), cv2.FILLED)
        cv2.rectangle(canvas, swatch, (_DIM, _DIM, _DIM), 1)
        _stamp(canvas, mask, left + size + size // 2, top, _BRIGHT)
        return self._entry_width(index, size)


def _bright(palette: np.ndarray) -> np.ndarray:
    """(256, 3) uint8 colours halfway to their brightest: a dark line would show on nothing."""
    highest = np.maximum(palette.max(1, keepdims=True), 1)
    return (palette * (0.5 + 127.5 / highest)).astype(np.uint8)


def _table(colors: np.ndarray) -> np.ndarray:
    """(256, 3) values of 0..255 as a table of OpenCV's."""
    return np.rint(colors).astype(np.uint8).reshape(256, 1, 3)


def _inside(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 0 along the edges of classes, 255 elsewhere."""
    side = 2 * (len(labels) // _LINE_ROWS) + 5
    window = np.ones((side, side), np.uint8)
    return cv2.compare(cv2.dilate(labels, window), cv2.erode(labels, window), cv2.CMP_EQ)


def _text_size(height: int) -> int:
    """Font size in pixels for an image of ``height`` rows."""
    return int(np.clip(height * 0.026, 12, 48))


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int) -> np.ndarray:
    """(h, w) uint8 coverage of a line of text; every line of a size has the same h."""
    font = ImageFont.load_default(size)
    ascent, descent = font.getmetrics()  # type: ignore[union-attr]
    image = Image.new("L", (int(font.getlength(text)) + 2, ascent + descent + size // 4))
    ImageDraw.Draw(image).text((0, size // 8), text, 255, font)
    return np.asarray(image)


def _shade(canvas: np.ndarray, left: int, top: int, width: int, height: int) -> bool:
    """Darken a rectangle for a panel; False, and nothing done, when it does not fit."""
    if left < 0 or top < 0 or left + width > canvas.shape[1] or top + height > canvas.shape[0]:
        return False
    area = canvas[top : top + height, left : left + width]
    area[:] = cv2.convertScaleAbs(area, alpha=_SHADE)
    return True


def _stamp(canvas: np.ndarray, mask: np.ndarray, left: int, top: int, shade: int) -> None:
    """Write text in grey ``shade`` on a darkened panel it fits in."""
    area = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    level = cv2.convertScaleAbs(mask, alpha=shade / 255)
    area[:] = cv2.max(area, cv2.cvtColor(level, cv2.COLOR_GRAY2BGR))
