"""The last step on a CPU: scores at 1/4 → labels at full size, without full-size scores between.

Engines run a graph's bilinear upsampling and argmax as passes over C × H × W floats, a sixth of a
MobileNet's frame. Yet between four scores of which one class wins all, it wins everywhere: bilinear
weights are positive and add up to one. So only the cells along boundaries are computed at all, and
in them only the classes that could win. NumPy and OpenCV do it in 2 % of the frame: code compiled
for it took as long, and a third of a start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import cv2
import numpy as np

from runtime.backends.base import LabelsOnly
from runtime.bundle.manifest import Manifest

Labels = Callable[[np.ndarray], np.ndarray]
# Scores of four corners (R, 4), and which of the cells they are of, (R,) → (R, P) scores of pixels.
Blended = Callable[[np.ndarray, np.ndarray], np.ndarray]
SMALL_PRODUCT = 1 << 17  # multiply-adds; OpenBLAS starts its threads above twice as many
CONTESTED = 0.25  # share of the cells above which whole planes are faster


class Scored(LabelsOnly):
    """``scores`` of an engine whose labels are made here."""

    manifest: Manifest
    _labels: Labels
    _keeps = False

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        self._keeps = self.manifest.logits is not None
        return self._keeps

    def _labelled(self, answer: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 labels of what the graph answered."""
        if self._keeps:
            self.scores = np.array(answer)  # the library's memory holds the next ones soon
        return self._labels(answer)


def label_tail(manifest: Manifest) -> tuple[str, Labels]:
    """The tensor to ask a CPU engine for, and what makes (N, H, W) uint8 labels of it."""
    if manifest.logits is None:
        return manifest.output.name, np.copy
    height, width = manifest.output.shape[1:]
    return manifest.logits.name, partial(upsampled_argmax, size=(height, width))


def upsampled_argmax(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, C, h, w) float32 scores → (N, H, W) uint8: argmax of their bilinear upsampling to (H, W).

    The sampling is that of ``torch.nn.functional.interpolate(align_corners=False)`` and of ONNX's
    Resize (linear, half_pixel): labels differ only where two classes are as good as equal.
    """
    labels = np.empty((len(logits), *size), np.uint8)
    for scores, answer in zip(logits, labels, strict=True):
        _fill(scores, answer)
    return labels


def _fill(scores: np.ndarray, labels: np.ndarray) -> None:
    """Fill (H, W) uint8 ``labels`` from (C, h, w) scores.

    A cell lies between four neighbouring scores, and at the border half beyond it.
    """
    (height, width), size = scores.shape[1:], labels.shape
    winner = np.pad(_winners(scores), 1, "edge")
    one = winner[:-1, :-1]
    others = winner[:-1, 1:], winner[1:, :-1], winner[1:, 1:]
    contested = np.logical_or.reduce([one != other for other in others])
    if size[0] < height or size[1] < width or contested.mean() > CONTESTED:
        _fill_by_planes(scores, labels)
    elif size[0] % height or size[1] % width:
        _fill_uneven(scores, one, np.argwhere(contested), labels)
    else:
        _fill_even(scores, one, np.argwhere(contested), labels)


def _fill_even(scores: np.ndarray, one: np.ndarray, places: np.ndarray, labels: np.ndarray) -> None:
    """Fill ``labels`` where all cells have as many pixels, at the same shares of their corners.

    one: (h + 1, w + 1) uint8, the class that wins in a cell; places: (K, 2), the cells where more
    than one can.
    """
    high, wide = labels.shape[0] // scores.shape[1], labels.shape[1] // scores.shape[2]
    pixels = one.repeat(wide, 1).repeat(high, 0)
    if len(places):
        rows, columns = places.T
        weights = _weights(high, wide)
        found = _in_cells(scores, rows, columns, lambda corners, _: _blended(corners, weights))
        cells = pixels.reshape(one.shape[0], high, one.shape[1], wide)
        cells[rows, :, columns] = found.reshape(-1, high, wide)
    top, left = (high + 1) // 2, (wide + 1) // 2
    labels[:] = pixels[top : top + labels.shape[0], left : left + labels.shape[1]]


def _fill_uneven(
    scores: np.ndarray, one: np.ndarray, places: np.ndarray, labels: np.ndarray
) -> None:
    """The same where cells differ, as at 720 pixels of 128 scores."""
    high, down, below = _cells(scores.shape[1], labels.shape[0])
    wide, across, right = _cells(scores.shape[2], labels.shape[1])
    labels[:] = one.repeat(wide, 1).repeat(high, 0)
    if not len(places):
        return
    rows, columns = places.T

    def blended(corners: np.ndarray, cells: np.ndarray) -> np.ndarray:
        near, far = corners[:, ::2, None], corners[:, 1::2, None]
        edges = near + (far - near) * right[columns[cells], None]  # upper and lower, (R, 2, w)
        inside = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * below[rows[cells], :, None]
        return inside.reshape(len(corners), -1)

    pixels = (down[rows] * labels.shape[1])[:, :, None] + across[columns][:, None]
    found = _in_cells(scores, rows, columns, blended)
    labels.reshape(-1)[pixels] = found.reshape(pixels.shape)


def _fill_by_planes(scores: np.ndarray, labels: np.ndarray) -> None:
    """Fill (H, W) uint8 ``labels`` from (C, h, w) scores of any size, class by class."""
    labels[:] = 0
    size = (labels.shape[1], labels.shape[0])
    best = cv2.resize(scores[0], size, interpolation=cv2.INTER_LINEAR)
    plane = np.empty_like(best)
    for number in range(1, len(scores)):
        cv2.resize(scores[number], size, plane, interpolation=cv2.INTER_LINEAR)
        _overtake(plane, np.uint8(number), best, labels)


def _winners(scores: np.ndarray) -> np.ndarray:
    """(C, h, w) float32 → (h, w) uint8 argmax."""
    best, winner = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
    for number in range(1, len(scores)):
        _overtake(scores[number], np.uint8(number), best, winner)
    return winner


def _overtake(
    scores: np.ndarray, number: np.ndarray | np.uint8, best: np.ndarray, labels: np.ndarray
) -> None:
    """Put ``number`` into ``labels`` where ``scores`` are above the ``best`` so far.

    number: of a class after those that are there, so that it is the higher one.
    """
    ahead = scores > best
    np.maximum(labels, ahead.view(np.uint8) * number, out=labels)
    np.maximum(best, scores, out=best)


def _in_cells(
    scores: np.ndarray, rows: np.ndarray, columns: np.ndarray, blended: Blended
) -> np.ndarray:
    """(K, P) uint8 labels of the pixels in K cells; those of row and column 0 begin beyond the
    border."""
    count, height, width = scores.shape
    down = np.maximum(rows - 1, 0) * width, np.minimum(rows, height - 1) * width
    across = np.maximum(columns - 1, 0), np.minimum(columns, width - 1)
    at = [y + x for y in down for x in across]
    corners = scores.reshape(count, -1).take(at, axis=1)  # (C, 4, K)
    floor = corners.min(1).max(0)  # what some class reaches everywhere in the cell
    rivals = ~(corners.max(1) < floor)
    many = rivals.sum(0, dtype=np.uint8)
    order = np.argsort(~many, kind="stable")  # most rivals first
    many = many[order]
    # The rivals of the first cell, then those of the second, …
    cells, classes = np.divmod(np.flatnonzero(rivals.T[order]), count)
    corners = corners[classes, :, order[cells]]
    numbers = classes.astype(np.uint8)[:, None]
    start = np.cumsum(many, dtype=np.intp) - many
    best = blended(corners[start], order)
    labels = numbers[start].repeat(best.shape[1], 1)
    for rank in range(1, int(many[0])):
        live = np.count_nonzero(many > rank)
        rival = start[:live] + rank
        scored = blended(corners[rival], order[:live])
        _overtake(scored, numbers[rival], best[:live], labels[:live])
    answer = np.empty_like(labels)
    answer[order] = labels
    return answer


@cache
def _cells(scores: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How ``pixels`` of an axis lie between ``scores``, which are no more of them.

    (n + 1,) how many each cell has; (n + 1, most) which they are, the last again where a cell has
    fewer than most; (n + 1, most) float32, how far each is from its cell's first corner. Only the
    first cell can be empty, where there are as many pixels as scores; it is given the first pixel,
    whose score is both of its corners.
    """
    at = (np.arange(pixels) + 0.5) * scores / pixels - 0.5
    first = np.floor(at)
    counts = np.bincount(first.astype(np.intp) + 1, minlength=scores + 1)
    within = np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    places = np.maximum((np.cumsum(counts) - counts)[:, None] + within, 0)
    return counts, places, (at - first).astype(np.float32)[places]


def _blended(corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(K, 4) scores by (4, P) weights → (K, P).

    In parts that are too small for the threads of NumPy's BLAS: they go on spinning behind a large
    product, on the engine's cores, and frames with many boundaries took twice as long.
    """
    answer = np.empty((len(corners), weights.shape[1]), np.float32)
    rows = max(1, SMALL_PRODUCT // weights.size)
    for start in range(0, len(corners), rows):
        part = slice(start, start + rows)
        np.matmul(corners[part], weights, out=answer[part])
    return answer


@cache
def _weights(high: int, wide: int) -> np.ndarray:
    """(4, high × wide) float32: how much of each corner is in each pixel of a cell.

    Of an odd number of pixels the first lies on the corner.
    """
    down, across = ((np.arange(n) + (0.5 if n % 2 == 0 else 0)) / n for n in (high, wide))
    pairs = [np.outer(y, x).ravel() for y in (1 - down, down) for x in (1 - across, across)]
    return np.stack(pairs).astype(np.float32)
