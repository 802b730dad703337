"""Samples of one cell → its percentiles, and the interval that a repetition's median falls into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from benchmarks.results import Timing

LEVEL = 0.95
REPEAT = 2**0.5  # two medians that are both uncertain differ by so much more than one from truth


def timing(samples: Sequence[float]) -> Timing:
    """Milliseconds in the order they were measured, at least one, → their summary."""
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, [50, 90, 95, 99]))
    low, high = interval(samples)
    return Timing(p50, p90, p95, p99, low, high, tuple(samples))


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """Where the median of a repetition with as many samples lies, with 95 % confidence.

    Two of the samples, by rank: no distribution is assumed. Ranks would be those of independent
    samples; as neighbours resemble each other on a machine whose speed wanders, n of them count as
    n / τ, where τ sums the autocorrelation of "above the median". √2 wider than the interval of
    the true median, since the repetition's is as uncertain. What changes between two runs but
    within neither is beyond any interval of one run.
    """
    ordered = np.sort(np.asarray(samples, np.float64))
    count = len(ordered)
    if count < 2:
        return float(ordered[0]), float(ordered[0])
    tau = _correlation(np.asarray(samples) > np.median(ordered))
    quantile = t.ppf((1 + LEVEL) / 2, max(1.0, count / tau - 1))
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
