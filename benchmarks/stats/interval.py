"""Samples of one cell → its percentiles, and the interval that a repetition's median falls into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes two seconds to load

from benchmarks.results import Timing

LEVEL = 0.95
REPEAT = 2**0.5  # two medians that are both uncertain differ by so much more than one from truth
BLOCKS = 5  # parts of a run, minutes long in a full one
LEAST_CELLS, LEAST_ROUNDS = 3, 4 * BLOCKS  # from which the machine's own drift can be told


def timing(samples: Sequence[float], drift: float = 0.0) -> Timing:
    """Milliseconds in the order they were measured, at least one, → their summary.

    drift: of the machine, as ``drift`` below tells it; the interval grows by it.
    """
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, [50, 90, 95, 99]))
    low, high = interval(samples)
    low, high = p50 - math.hypot(p50 - low, drift * p50), p50 + math.hypot(high - p50, drift * p50)
    return Timing(p50, p90, p95, p99, low, high, tuple(samples))


def drift(cells: Iterable[Sequence[float]]) -> float:
    """How far a repetition may be off because the whole machine is, as a share of any median.

    cells: milliseconds of each, a round after the other. What slows a shared machine for minutes
    slows all cells, so the median over the cells of a round shows it without their own noise. How
    much BLOCKS of the run differ from each other tells how much another run will differ, with 95 %
    confidence. 0 where cells or rounds are too few to tell.
    """
    found = list(cells)
    longest = max(map(len, found), default=0)
    whole = [samples for samples in found if 2 * len(samples) >= longest]  # not lost half-way
    rounds = min(map(len, whole), default=0)
    if len(whole) < LEAST_CELLS or rounds < LEAST_ROUNDS:
        return 0.0
    times = np.array([samples[:rounds] for samples in whole], np.float64)
    speed = np.median(times / np.median(times, axis=1, keepdims=True), axis=0)
    blocks = [np.median(block) for block in np.array_split(speed, BLOCKS)]
    quantile = stdtrit(BLOCKS - 1, (1 + LEVEL) / 2)
    return float(REPEAT * quantile * np.std(blocks, ddof=1) / BLOCKS**0.5)


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """Where the median of a repetition with as many samples lies, with 95 % confidence.

    Two of the samples, by rank: no distribution is assumed. Ranks would be those of independent
    samples; as neighbours resemble each other on a machine whose speed wanders, n of them count as
    n / τ, where τ sums the autocorrelation of "above the median". √2 wider than the interval of
    the true median, since the repetition's is as uncertain. Drift that takes minutes hides in a
    cell's own noise: see ``drift``. What changes between two runs but within neither is beyond any
    interval of one run.
    """
    ordered = np.sort(np.asarray(samples, np.float64))
    count = len(ordered)
    if count < 2:
        return float(ordered[0]), float(ordered[0])
    tau = _correlation(np.asarray(samples) > np.median(ordered))
    quantile = stdtrit(max(1.0, count / tau - 1), (1 + LEVEL) / 2)
    ranks = REPEAT * quantile * (count * tau) ** 0.5 / 2
    first = max(0, int(count / 2 - ranks))
    return float(ordered[first]), float(ordered[-1 - first])


def width(found: Timing) -> float:
    """Half the interval over the median: 0.02 is ±2 %."""
    return (found.high - found.low) / 2 / found.p50


def _correlation(above: np.ndarray) -> float:
    """Samples that tell as much as one independent one, 1 or more.

    Geyer's initial positive sequence (Statistical Science 7, 1992): autocorrelations are added in
    pairs until a pair is not positive.
    """
    centred = above - above.mean()
    products = np.correlate(centred, centred, "full")[len(above) - 1 :]
    if not products[0]:
        return 1.0
    pairs = (products / products[0])[: len(above) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    return max(1.0, 2 * float(pairs[: ended[0] if len(ended) else None].sum()) - 1)
