"""The last step on a CPU: scores at 1/4 → labels at full size, without full-size scores between.

Engines run a graph's bilinear upsampling and argmax as passes over C × H × W floats, a sixth of a
MobileNet's frame. Yet between four scores of which one class wins all, it wins everywhere: bilinear
weights are positive and add up to one. So only the cells along boundaries are computed at all, and
in them only the classes that could win.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from runtime.backends.base import LabelsOnly
from runtime.bundle.manifest import Manifest

Labels = Callable[[np.ndarray], np.ndarray]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


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
    Resize (linear, half_pixel): labels differ only where two classes are as good as equal. A
    process's first call loads the compiled kernel, a machine's first compiles it (seconds).
    """
    labels = np.empty((len(logits), *size), np.uint8)
    rows, columns = (Samples.between(*p) for p in zip(logits.shape[2:], size, strict=True))
    for scores, answer in zip(logits, labels, strict=True):
        _label_cells(scores, _winners(scores), rows, columns, answer)
    return labels


def _compiled(function: Kernel) -> Kernel:
    """``function`` as machine code, kept on disk; compiled anew by each process where that fails.

    numba needs a folder that it can write to, beside this file or in the user's home.
    """
    try:
        return cast(Kernel, njit(nogil=True, cache=True)(function))
    except RuntimeError:
        return cast(Kernel, njit(nogil=True)(function))


class Samples(NamedTuple):
    """Where each target position lies along an axis.

    first, second: the source positions next to it; share: of the way from first to second;
    cells: where a new first begins, and the end.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    cells: np.ndarray

    @classmethod
    def between(cls, source: int, target: int) -> Samples:
        """``target`` samples over ``source`` ones: both sets are areas that tile the same axis."""
        place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
        first = np.floor(place).astype(np.uint32)  # unsigned: no index can be negative
        second = np.minimum(first + np.uint32(1), np.uint32(source - 1))
        starts = np.flatnonzero(np.diff(first, prepend=np.uint32(source)))
        cells = np.append(starts, target).astype(np.uint32)
        return cls(first, second, (place - first).astype(np.float32), cells)


@_compiled
def _winners(scores: np.ndarray) -> np.ndarray:
    """(C, h, w) float32 → (h, w) int32 argmax."""
    best, winner = scores[0].copy(), np.zeros(scores.shape[1:], np.int32)
    for c in range(1, len(scores)):
        for y in range(best.shape[0]):
            line, record, leader = scores[c, y], best[y], winner[y]
            for x in range(len(line)):
                ahead = line[x] > record[x]
                record[x] = line[x] if ahead else record[x]
                leader[x] = c if ahead else leader[x]
    return winner


@_compiled  # one thread: the others are the engine's
def _label_cells(
    scores: np.ndarray, winner: np.ndarray, rows: Samples, columns: Samples, labels: np.ndarray
) -> None:
    """Fill (H, W) uint8 ``labels`` cell by cell: a cell lies between four neighbouring scores."""
    classes = len(scores)
    highest = np.empty(classes, np.float32)
    rivals = np.empty(classes, np.uint32)
    for i in range(len(rows.cells) - 1):
        y0, y1 = rows.cells[i], rows.cells[i + 1]
        top, bottom = rows.first[y0], rows.second[y0]
        for j in range(len(columns.cells) - 1):
            x0, x1 = columns.cells[j], columns.cells[j + 1]
            left, right = columns.first[x0], columns.second[x0]
            one = winner[top, left]
            if (
                one == winner[top, right]
                and one == winner[bottom, left]
                and one == winner[bottom, right]
            ):
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        labels[y, x] = one
                continue
            floor = np.float32(-np.inf)  # what some class reaches everywhere in the cell
            for c in range(classes):
                a, b = scores[c, top, left], scores[c, top, right]
                d, e = scores[c, bottom, left], scores[c, bottom, right]
                floor = max(floor, min(min(a, b), min(d, e)))
                highest[c] = max(max(a, b), max(d, e))
            count = 0
            for c in range(classes):
                rivals[count] = c
                count += highest[c] >= floor
            for y in range(y0, y1):
                down = rows.share[y]
                for x in range(x0, x1):
                    across = columns.share[x]
                    best, label = np.float32(-np.inf), np.uint32(0)
                    for rank in range(count):
                        c = rivals[rank]
                        a, b = scores[c, top, left], scores[c, top, right]
                        d, e = scores[c, bottom, left], scores[c, bottom, right]
                        above = a + across * (b - a)
                        value = above + down * (d + across * (e - d) - above)
                        ahead = value > best
                        best = value if ahead else best
                        label = c if ahead else label
                    labels[y, x] = label
