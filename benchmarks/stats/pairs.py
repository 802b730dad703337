"""What one design gains on another with the same seeds, in pairs, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from scipy.special import stdtrit  # scipy.stats takes two seconds to load

from benchmarks.stats.interval import LEVEL

POWER = 0.8  # chance of telling a difference that is there
MOST = 1000  # pairs that anybody would train


@dataclass(frozen=True)
class Gain:
    """The mean of paired differences, of so many pairs; low, high: its 95 % interval by Student's
    t, which one pair alone does not have."""

    pairs: int
    mean: float
    low: float | None = None
    high: float | None = None


def gain(differences: Sequence[float]) -> Gain | None:
    """Of at least one difference; None without any."""
    if not differences:
        return None
    pairs, middle = len(differences), mean(differences)
    if pairs == 1:
        return Gain(pairs, middle)
    half = _quantile(pairs, (1 + LEVEL) / 2) * spread([differences]) / math.sqrt(pairs)
    return Gain(pairs, middle, middle - half, middle + half)


def spread(groups: Iterable[Sequence[float]]) -> float:
    """The standard deviation within groups, over all of them; NaN where none holds two."""
    squares, freedom = 0.0, 0
    for group in groups:
        squares += sum((value - mean(group)) ** 2 for value in group)
        freedom += max(len(group) - 1, 0)
    return math.sqrt(squares / freedom) if freedom else math.nan


def pairs_to_tell(difference: float, deviation: float) -> int | None:
    """Pairs, of differences that vary by ``deviation``, for which POWER of the repetitions have an
    interval without zero if the truth is ``difference``; None if MOST are not enough."""
    for pairs in range(2, MOST + 1):
        reach = _quantile(pairs, (1 + LEVEL) / 2) + _quantile(pairs, POWER)
        if reach * deviation / math.sqrt(pairs) <= difference:
            return pairs
    return None


def _quantile(pairs: int, share: float) -> float:
    return float(stdtrit(pairs - 1, share))
