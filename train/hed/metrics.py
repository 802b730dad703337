"""How well an edge map agrees with what people drew: thinning, one-to-one matching, ODS and OIS.

After Martin, Fowlkes and Malik (PAMI 2004), as BSDS500 is scored everywhere, with these
differences from the official code. Matching: the most pairs possible within the tolerance, where
the official assignment minimises their total distance with a price on every pixel left over (so
never fewer pairs here, and which pixel of two goes unmatched may differ). Thinning: suppression of
non-maxima is strict, in place of the lenient one followed by morphological thinning at each
threshold. F: the best at a threshold itself, without interpolation between two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

TOLERANCE = 0.0075  # of the image's diagonal
THRESHOLDS = 99
_BORDER = 5  # pixels at the rim where networks answer their own padding


@dataclass(frozen=True)
class Counts:
    """Matched and all pixels of maps and of drawings: (thresholds,) int64 each.

    A pixel of the map is matched when it is with any person's drawing; a drawn one counts once a
    person.
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
        """Of one threshold alone."""
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
    """(count,) evenly spaced inside 0..1."""
    return np.arange(1, count + 1) / (count + 1)


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over images."""
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
    """A thin (H, W) edge map in 0..1 against (people, H, W) bool drawings, at each threshold.

    tolerance: distance within which pixels may match, as a share of the image's diagonal.
    """
    rows, columns = np.nonzero(edges)
    strongest_first = np.argsort(-edges[rows, columns], kind="stable")
    rows, columns = rows[strongest_first], columns[strongest_first]
    # How many pixels reach each threshold: the first so many.
    reach = np.searchsorted(-edges[rows, columns], -thresholds(count), side="right")
    radius = tolerance * float(np.hypot(*edges.shape))
    links = [_links(rows, columns, person, radius) for person in drawn]
    matched, found = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for index, predicted in enumerate(reach):
        any_person = np.zeros(predicted, bool)
        for link in links:
            partner = maximum_bipartite_matching(link[:predicted], perm_type="column")
            any_person |= partner >= 0
            found[index] += (partner >= 0).sum()
        matched[index] = any_person.sum()
    return Counts(matched, reach.astype(np.int64), found, np.full(count, drawn.sum(), np.int64))


def _links(rows: np.ndarray, columns: np.ndarray, person: np.ndarray, radius: float) -> csr_array:
    """(pixels, drawn pixels) sparse: which drawn pixels lie within ``radius`` of each pixel."""
    pad = int(radius)
    names = np.full((person.shape[0] + 2 * pad, person.shape[1] + 2 * pad), -1, np.int32)
    inner = names[pad : pad + person.shape[0], pad : pad + person.shape[1]]
    inner[person] = np.arange(person.sum())
    dy, dx = np.mgrid[-pad : pad + 1, -pad : pad + 1].reshape(2, -1)
    near = dy**2 + dx**2 <= radius**2
    order = np.argsort((dy**2 + dx**2)[near], kind="stable")
    dy, dx = dy[near][order], dx[near][order]
    partners = names[rows[:, None] + pad + dy, columns[:, None] + pad + dx]
    pixel, place = np.nonzero(partners >= 0)
    starts = np.searchsorted(pixel, np.arange(len(rows) + 1))
    shape = (len(rows), int(person.sum()))
    return csr_array((np.ones(len(pixel), bool), partners[pixel, place], starts), shape=shape)


def thin(edges: np.ndarray) -> np.ndarray:
    """Suppress what is not the maximum across an edge: (H, W) float32 in 0..1 → the same, sparse.

    The direction across comes from the second derivatives of the smoothed map; neighbours one
    pixel away are interpolated. Edges fade out towards the rim.
    """
    edges = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 0.8)
    smooth = cv2.GaussianBlur(edges, (0, 0), 2.0)
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, ksize=3)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, ksize=3)
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, ksize=3)
    # The axis of strongest downward curvature, half the angle of the Hessian's deviator.
    across = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    dx, dy = np.cos(across), np.sin(across)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]].astype(np.float32)
    before, after = (
        cv2.remap(edges, x + sign * dx, y + sign * dy, cv2.INTER_LINEAR)
        for sign in (np.float32(-1), np.float32(1))
    )
    return np.where((edges > before) & (edges >= after), edges, 0) * _fade(edges.shape)


def _fade(shape: tuple[int, ...]) -> np.ndarray:
    ramps = [
        np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / _BORDER).astype(np.float32)
        for n in shape
    ]
    return np.minimum(ramps[0][:, None], ramps[1])
