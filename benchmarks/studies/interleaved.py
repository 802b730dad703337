"""Latency of engines, measured side by side: each round times every engine once.

On a machine whose speed drifts, engines timed one after the other differ for reasons of the
clock; interleaved, they share the drift, and their ratios hold.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import cv2
import numpy as np

from runtime.backends.base import Engine
from runtime.latency import Latency, settled_ms

WARM_UP = 3


def interleaved(
    engines: Mapping[str, Engine], frames: Sequence[np.ndarray], rounds: Iterable[int]
) -> dict[str, Latency]:
    """Milliseconds a call of each engine, over ``rounds``; the order changes with every round.

    frames: (H, W, 3) uint8 BGR, taken in turn; each engine gets them at its own input size. In its
    turn an engine is called until it has settled, and the call after that counts: ``settled_ms``.
    """
    batches = {name: list(_batches(engine, frames)) for name, engine in engines.items()}
    for name, engine in engines.items():
        for _ in range(WARM_UP):
            engine.infer(batches[name][0])
    times = {name: Latency() for name in engines}
    order, shuffle = list(engines), random.Random(0)
    for number in rounds:
        shuffle.shuffle(order)
        for name in order:
            batch = batches[name][number % len(frames)]
            times[name].add(settled_ms(partial(engines[name].infer, batch)))
    return times


def _batches(engine: Engine, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    shape = engine.manifest.input.shape
    for frame in frames:
        resized = cv2.resize(frame, (shape[2], shape[1]))
        yield np.repeat(resized[None], shape[0], axis=0)
