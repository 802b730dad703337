"""Frames larger than a network's: overlapping tiles of its own size, their scores blended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from runtime.backends.base import Engine, OneAtATime, check_batch, require_scores
from runtime.backends.label_tail import upsampled_argmax
from runtime.backends.registry import computes
from runtime.errors import HedgeError

OVERLAP = 4  # a tile shares one part in so many of its side with the next


def tiled(engine: Engine, tiles: tuple[int, int] | None) -> Engine:
    """``engine`` itself, or, of rows and columns of ``tiles``, one of frames that they cover."""
    if tiles is None:
        return engine
    rows, columns = tiles
    if min(rows, columns) < 1:
        raise HedgeError(f"tiles {rows}, {columns}: give rows and columns from 1")
    return Tiled(engine, rows, columns)


class Tiled(OneAtATime):
    """An engine of single frames that ``rows`` × ``columns`` overlapping tiles of another cover.

    Where tiles overlap, each pixel's scores are their average, weighted by how far it lies inside
    of each: what a network tells of a pixel at its border, it tells without seeing what is beyond.
    Labels are made of the average, so that no tile's edge is one of theirs. Raises HedgeError for
    an engine without scores.
    """

    def __init__(self, engine: Engine, rows: int, columns: int) -> None:
        require_scores(engine, "so the seams between tiles cannot be blended")
        manifest = engine.manifest
        assert manifest.logits is not None, "there are no scores without"
        self.backend, self.computes = engine.backend, computes(engine)
        self._engine, self._labels = engine, upsampled_argmax
        down = _Axis(rows, manifest.input.shape[1], manifest.logits.shape[2])
        across = _Axis(columns, manifest.input.shape[2], manifest.logits.shape[3])
        self._corners = [(y, x) for y in down.pixels for x in across.pixels]
        self._cells = [(y, x) for y in down.cells for x in across.cells]
        self._weights = [np.outer(y, x) for y in down.weights for x in across.weights]
        self._size, cells = (down.size, across.size), (down.count, across.count)
        self.manifest = replace(
            manifest,
            input=replace(manifest.input, shape=(1, *self._size, 3)),
            output=replace(manifest.output, shape=(1, *self._size)),
            logits=replace(manifest.logits, shape=(1, len(manifest.classes), *cells)),
        )
        self._slots = np.zeros(manifest.input.shape, np.uint8)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        check_batch(self.manifest, batch)
        assert self.manifest.logits is not None
        blended = np.zeros(self.manifest.logits.shape, np.float32)
        places = zip(self._cells, self._weights, self._scores_of(batch[0]), strict=True)
        for (top, left), weight, scores in places:
            height, width = weight.shape
            blended[0, :, top : top + height, left : left + width] += weight * scores
        self.scores = blended
        return self._labels(blended, self._size)

    def keep_scores(self) -> bool:
        """See ``Engine``."""
        return True

    def close(self) -> None:
        """See ``Engine``."""
        self._engine.close()

    def _scores_of(self, frame: np.ndarray) -> Iterator[np.ndarray]:
        """(C, h, w) float32 of each tile, in order, as many at once as the engine takes."""
        step, running = len(self._slots), deque[int]()
        for first in range(0, len(self._corners), step):
            corners = self._corners[first : first + step]
            for slot, (top, left) in zip(self._slots, corners, strict=False):
                slot[:] = frame[top : top + slot.shape[0], left : left + slot.shape[1]]
            self._engine.submit(self._slots)
            running.append(len(corners))
            if len(running) == self._engine.in_flight:
                yield from self._taken(running.popleft())
        while running:
            yield from self._taken(running.popleft())

    def _taken(self, count: int) -> np.ndarray:
        self._engine.result()
        assert self._engine.scores is not None, "a result comes with its scores"
        return self._engine.scores[:count]


class _Axis:
    """Where ``tiles`` of ``side`` pixels and ``own`` cells of scores lie along an axis.

    pixels, cells: where each begins; size, count: the length of all, in pixels and in cells;
    weights: (own,) float32 of each tile, which add up to 1 everywhere.
    """

    def __init__(self, tiles: int, side: int, own: int) -> None:
        shared = own // OVERLAP
        self.cells = [tile * (own - shared) for tile in range(tiles)]
        # Half a pixel off at most, where pixels do not divide into cells.
        self.pixels = [round(cell * side / own) for cell in self.cells]
        self.size, self.count = self.pixels[-1] + side, self.cells[-1] + own
        self.weights = np.ones((tiles, own), np.float32)
        rise = (np.arange(shared, dtype=np.float32) + 0.5) / max(shared, 1)
        self.weights[1:, :shared] = rise
        self.weights[:-1, own - shared :] = rise[::-1]
