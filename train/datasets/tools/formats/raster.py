"""Outlines and runs as masks, to the pixel as the tools that wrote them draw them.

``coco_polygon`` draws as pycocotools does, which is what COCO's own masks and CVAT's exports are
made with. It is written here, since the library reads counts of a file unchecked, past the end of
its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from runtime.errors import HedgeError

_FINE = 5  # pycocotools walks outlines in fifths of a pixel
_LONGEST = 50_000_000  # steps of an outline; beyond it a file asks for memory, not for a shape
_FARTHEST = 1 << 20  # pixels from the corner, which no picture has


def points_of(numbers: Sequence[object]) -> np.ndarray:
    """(N, 2) float64 x, y of a flat or paired list; HedgeError unless all are plausible."""
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise HedgeError("an outline is not a list of x and y; export it again") from None
    if not (np.abs(points) <= _FARTHEST).all():  # NaN is not, either
        raise HedgeError("an outline lies far outside of its picture; are its numbers pixels?")
    return points


def coco_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the inside of an outline, (N, 2) float x, y, as pycocotools draws it.

    The outline is walked in fifths of a pixel. Where it crosses the middle of a column, the pixels
    from there on, column after column, change between outside and inside.
    """
    height, width = size
    start = np.trunc(points * _FINE + 0.5).astype(np.int64)
    end = np.roll(start, -1, axis=0)
    reach = np.abs(end - start)
    steps = reach.max(axis=1, initial=0)
    if steps.sum() > _LONGEST:
        raise HedgeError("an outline is too long to be drawn; are its numbers pixels?")
    x, y = _walk(start, end, reach, steps)
    moved = np.flatnonzero(np.diff(x))
    column = (np.minimum(x[moved], x[moved + 1]) + 0.5) / _FINE - 0.5
    row = (np.minimum(y[moved], y[moved + 1]) + 0.5) / _FINE - 0.5
    hit = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    first = np.ceil(row[hit].clip(0, height)).astype(np.int64)
    toggles = np.bincount(
        column[hit].astype(np.int64) * height + first, minlength=height * width + 1
    )
    inside = np.cumsum(toggles[: height * width]) & 1
    return inside.astype(bool).reshape(width, height).T


def _walk(
    start: np.ndarray, end: np.ndarray, reach: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every point on the edges; each edge is walked from its lower end, so that two
    neighbours share one border."""
    flat = reach[:, 0] >= reach[:, 1]  # edges that go along x
    along = np.where(flat, end[:, 0] - start[:, 0], end[:, 1] - start[:, 1])
    back = along < 0
    low, high = (np.where(back[:, None], a, b) for a, b in ((end, start), (start, end)))
    slope = np.where(flat, (high - low)[:, 1], (high - low)[:, 0]) / np.maximum(steps, 1)
    edge = np.repeat(np.arange(len(steps)), steps + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    step = np.where(back[edge], steps[edge] - step, step)
    level = np.where(flat, low[:, 1], low[:, 0])[edge]
    across = np.trunc(level + slope[edge] * step + 0.5).astype(np.int64)
    main = np.where(flat, low[:, 0], low[:, 1])[edge] + step
    return np.where(flat[edge], main, across), np.where(flat[edge], across, main)


def runs(counts: Sequence[int], size: tuple[int, int], by_column: bool) -> np.ndarray:
    """(H, W) bool of run lengths, outside and inside in turn, from the upper left corner.

    by_column: from top to bottom first, as in COCO; else along rows, as in CVAT. HedgeError unless
    the runs fill the mask exactly.
    """
    height, width = size
    if not all(0 <= count <= height * width for count in counts) or sum(counts) != height * width:
        raise HedgeError(f"the runs of a mask do not fill {width}x{height} pixels; export it again")
    lengths = np.array(counts, np.int64)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)


def coco_counts(text: str) -> list[int]:
    """The run lengths in the text that COCO compresses them to: five bits a character, and from the
    fourth length on the difference to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("ascii", "replace"):
        digit = code - 48
        if not 0 <= digit < 64 or shift > 60:
            break
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    else:
        if not shift:
            return counts
    raise HedgeError("the runs of a mask are not what COCO writes; export it again")


def filled(rings: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the inside of an outline and its border, as OpenCV fills it; further rings are
    cut out of it, borders and all. Each is (N, 2) and is rounded down to whole pixels."""
    mask = np.zeros(size, np.uint8)
    for number, ring in enumerate(rings):
        cv2.fillPoly(mask, [ring.astype(np.int32)], int(number == 0))
    return mask.astype(bool)
