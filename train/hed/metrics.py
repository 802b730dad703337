"""Scores of an edge map against annotators' boundaries: thinning, matching, ODS and OIS.

After Martin, Fowlkes and Malik (PAMI 2004), as BSDS500 is scored everywhere, with three differences
from the official code:

- Matching: the most pairs possible within the tolerance, the strongest pixels first; the official
  assignment minimises the pairs' total distance with a price on every pixel left over. So there are
  never fewer pairs here, and which pixel of two goes unmatched may differ.
- Thinning: once for all thresholds, the weaker pixels first; officially anew at each threshold.
- F: the best at one of the thresholds, without interpolation between two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numba import njit

TOLERANCE = 0.0075  # of the image's diagonal
THRESHOLDS = 99
_BORDER = 5  # pixels at the rim where networks answer their own padding


@dataclass(frozen=True)
class Counts:
    """Pixel counts by threshold, (thresholds,) int64 each.

    matched of the predicted edge pixels agree with at least one annotator; found of the drawn
    pixels, summed over the annotators, are matched by a predicted one.
    """

    matched: np.ndarray
    predicted: np.ndarray
    found: np.ndarray
    drawn: np.ndarray

    def f(self) -> np.ndarray:
        """(thresholds,) F-measure in 0..1; 0 where nothing matches."""
        precision = self.matched / np.maximum(self.predicted, 1)
        recall = self.found / np.maximum(self.drawn, 1)
        return 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    def at(self, index: int) -> Counts:
        """The counts of one threshold."""
        only = slice(index, index + 1)
        return Counts(self.matched[only], self.predicted[only], self.found[only], self.drawn[only])


@dataclass(frozen=True)
class Score:
    """F in 0..1 at the one threshold that is best for all images (ODS), and at each image's own
    (OIS); threshold, precision, recall: at ODS."""

    ods: float
    ois: float
    threshold: float
    precision: float
    recall: float


def thresholds(count: int) -> np.ndarray:
    """(count,) thresholds, evenly spaced inside 0..1."""
    return np.arange(1, count + 1) / (count + 1)


def total(counts: Iterable[Counts]) -> Counts:
    """The counts summed over images."""
    each = list(counts)
    return Counts(
        *(
            np.sum([getattr(c, name) for c in each], axis=0)
            for name in ("matched", "predicted", "found", "drawn")
        )
    )


def score(counts: Iterable[Counts]) -> Score:
    """ODS and OIS of at least one image's counts."""
    images = list(counts)
    pooled = total(images)
    best = int(pooled.f().argmax())
    own = total(image.at(int(image.f().argmax())) for image in images)
    return Score(
        ods=float(pooled.f()[best]),
        ois=float(own.f()[0]),
        threshold=float(thresholds(len(pooled.matched))[best]),
        precision=float(pooled.matched[best] / max(pooled.predicted[best], 1)),
        recall=float(pooled.found[best] / max(pooled.drawn[best], 1)),
    )


def compare(
    edges: np.ndarray,
    drawn: np.ndarray,
    count: int = THRESHOLDS,
    tolerance: float = TOLERANCE,
) -> Counts:
    """Match a thin (H, W) edge map in 0..1 with (annotators, H, W) bool maps at each threshold.

    tolerance: distance within which pixels may match, as a share of the image's diagonal.
    """
    rows, columns = np.nonzero(edges)
    strongest_first = np.argsort(-edges[rows, columns], kind="stable")
    rows, columns = rows[strongest_first], columns[strongest_first]
    # How many pixels reach each threshold: the first so many.
    reach = np.searchsorted(-edges[rows, columns], -thresholds(count), side="right")
    radius = tolerance * float(np.hypot(*edges.shape))
    matched = np.zeros((len(drawn), len(rows)), bool)
    for person, answer in zip(drawn, matched, strict=True):
        starts, partners = _links(rows, columns, person, radius)
        _match(starts, partners, int(person.sum()), answer)
    return Counts(
        matched=_first(matched.any(0), reach),
        predicted=reach.astype(np.int64),
        found=_first(matched.sum(0), reach),
        drawn=np.full(count, drawn.sum(), np.int64),
    )


def people(drawn: np.ndarray, tolerance: float = TOLERANCE) -> Counts:
    """Match each of the (annotators, H, W) bool maps with the others: the human score."""
    return total(
        compare(one.astype(np.float32), np.delete(drawn, index, axis=0), 1, tolerance)
        for index, one in enumerate(drawn)
    )


def _first(values: Any, counts: np.ndarray) -> np.ndarray:
    """Sums of the first so many values."""
    return np.concatenate([[0], np.cumsum(values)])[counts]


def _links(
    rows: np.ndarray, columns: np.ndarray, person: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which drawn pixels lie within ``radius`` of each pixel, nearest first.

    Pixel i's are partners[starts[i] : starts[i + 1]], as positions among the drawn ones.
    """
    pad = int(radius)
    names = np.full((person.shape[0] + 2 * pad, person.shape[1] + 2 * pad), -1, np.int32)
    inner = names[pad : pad + person.shape[0], pad : pad + person.shape[1]]
    inner[person] = np.arange(person.sum())
    dy, dx = np.mgrid[-pad : pad + 1, -pad : pad + 1].reshape(2, -1)
    distance = dy**2 + dx**2
    order = np.argsort(distance, kind="stable")[: (distance <= radius**2).sum()]
    near = names[rows[:, None] + pad + dy[order], columns[:, None] + pad + dx[order]]
    starts = np.concatenate([[0], np.cumsum((near >= 0).sum(1))])
    return starts, near[near >= 0]


@njit(cache=True)
def _match(starts: np.ndarray, partners: np.ndarray, count: int, matched: np.ndarray) -> None:
    """Pair pixels with drawn ones, one to one, as many as possible; tells which pixels are paired.

    Pixels come in one by one, each by the shortest augmenting path. A pixel that finds none will
    never find one, and one that is paired stays so: hence the first n answers are those of a
    largest matching of the first n pixels, for every n, and one pass serves all thresholds.
    """
    owner = np.full(count, -1, np.int32)  # of each drawn pixel
    mate = np.full(len(starts) - 1, -1, np.int32)  # of each pixel
    came_from = np.empty(count, np.int32)
    seen = np.full(count, -1, np.int32)
    queue = np.empty(count + 1, np.int32)
    touched = np.empty(count, np.int32)
    dead = len(starts)
    for pixel in range(len(starts) - 1):
        queue[0], head, tail, visited, end = pixel, 0, 1, 0, -1
        while head < tail and end < 0:
            current = queue[head]
            head += 1
            for link in range(starts[current], starts[current + 1]):
                drawn = partners[link]
                if seen[drawn] == pixel or seen[drawn] == dead:
                    continue
                seen[drawn], came_from[drawn], touched[visited] = pixel, current, drawn
                visited += 1
                if owner[drawn] < 0:
                    end = drawn
                    break
                queue[tail] = owner[drawn]
                tail += 1
        matched[pixel] = end >= 0
        if end < 0:  # nothing reached from here will ever lead to a free one
            for index in range(visited):
                seen[touched[index]] = dead
        while end >= 0:
            current = came_from[end]
            owner[end] = current
            mate[current], end = end, mate[current]


def thin(edges: np.ndarray) -> np.ndarray:
    """Non-maximum suppression: (H, W) edge map in 0..1 → (H, W) float32, lines a pixel wide.

    A pixel is kept if neither neighbour across the edge, one pixel away, is stronger. Corner pixels
    of the remaining stairs on slanted lines are removed. Edges fade out at the image border.
    """
    edges = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 0.8)
    smooth = cv2.GaussianBlur(edges, (0, 0), 2.0)
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, ksize=3)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, ksize=3)
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, ksize=3)
    # The axis of strongest downward curvature: half the angle of the Hessian's deviator, turned.
    across = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    dx, dy = np.cos(across), np.sin(across)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]].astype(np.float32)
    before, after = (
        cv2.remap(edges, x + sign * dx, y + sign * dy, cv2.INTER_LINEAR)
        for sign in (np.float32(-1), np.float32(1))
    )
    ridges = np.where((edges > before) & (edges >= after), edges * _fade(edges.shape), 0)
    padded = np.pad(ridges, 1).astype(np.float32)
    weakest_first = np.argsort(padded, axis=None, kind="stable")
    weakest_first = weakest_first[np.count_nonzero(padded == 0) :]
    _remove_stairs(padded.reshape(-1), padded.shape[1], weakest_first)
    return padded[1:-1, 1:-1]


def _fade(shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) factors: 0 on the rim, rising to 1."""
    ramps = [np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / _BORDER) for n in shape]
    return np.minimum(ramps[0][:, None], ramps[1]).astype(np.float32)


@njit(cache=True)
def _remove_stairs(edges: np.ndarray, width: int, order: np.ndarray) -> None:
    """Zero each pixel on the corner between two stronger ones, where the line holds without it.

    edges: a flat map with a rim of zeros; order: its pixels, weakest first. The two meet
    diagonally, so that the line also holds at every threshold that the pixel itself reaches.
    """
    around = np.array([1, 1 - width, -width, -1 - width, -1, width - 1, width, width + 1])
    there, stronger = np.empty(10, np.int32), np.empty(10, np.int32)
    for pixel in order:
        for index in range(10):
            neighbour = edges[pixel + around[index % 8]]
            there[index] = neighbour > 0
            stronger[index] = neighbour >= edges[pixel]
        corner, pieces = False, 0  # pieces: of its surroundings (Yokoi's number, 8-connected)
        for side in (0, 2, 4, 6):
            corner = corner or (stronger[side] and stronger[side + 2])
            if not there[side] and (there[side + 1] or there[side + 2]):
                pieces += 1
        if corner and pieces == 1:
            edges[pixel] = 0
