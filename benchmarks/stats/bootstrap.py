"""How sure a comparison of times is: ratios with intervals, from rounds that cells share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.results import Timing

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and how far it may be off: low..high."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Interval:
        """Of what was counted, not timed."""
        return cls(value, value, value)

    @classmethod
    def around(cls, value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
        """The middle ``level`` of (D,) ``draws``, which may not leave ``value`` outside."""
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        return cls(value, min(value, float(low)), max(value, float(high)))

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside, and so no difference from it is proved."""
        return self.low <= value <= self.high


def draws(timing: Timing, quantile: float = 0.5, seed: int = 0) -> np.ndarray:
    """(DRAWS,) ms: the quantile of rounds drawn with replacement.

    Rounds are drawn in blocks, for neighbours resemble each other on a machine that drifts. Two
    cells with as many samples get the same rounds from the same ``seed``, so that what slowed both
    cancels in their ratio. Without samples, anything in the timing's own interval.
    """
    if len(timing.samples) < 2:
        scale = 1.0 if quantile == 0.5 else timing.p95 / timing.p50
        return scale * np.random.default_rng(seed).uniform(timing.low, timing.high, DRAWS)
    return _draws(tuple(timing.samples), quantile, seed)


@lru_cache(maxsize=1024)
def _draws(samples: tuple[float, ...], quantile: float, seed: int) -> np.ndarray:
    count = len(samples)
    block = max(1, round(count ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(count, size=(DRAWS, -(-count // block)))
    rounds = (starts[..., None] + np.arange(block)).reshape(DRAWS, -1)[:, :count] % count
    return np.quantile(np.asarray(samples)[rounds], quantile, axis=1)


def ratio(above: Timing, below: Timing) -> Interval:
    """Median of ``above`` over that of ``below``, of the same run."""
    if min(len(above.samples), len(below.samples)) < 2:
        low, high = above.low / below.high, above.high / below.low
        return Interval(above.p50 / below.p50, low, high)
    return Interval.around(above.p50 / below.p50, draws(above) / draws(below))
