"""Gains of pairs, and how many pairs it takes: by tables of Student's t and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.stats.pairs import Gain, gain, pairs_to_tell, spread


def test_an_interval_is_students() -> None:
    found = gain([1.0, 2.0, 3.0])
    half = 4.303 / math.sqrt(3)  # of the tables, two degrees of freedom
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-3)
    assert gain([1.5]) == Gain(1, 1.5) and gain([]) is None


def test_spread_is_within_groups() -> None:
    assert spread([[1.0, 3.0], [101.0, 103.0], [7.0]]) == pytest.approx(math.sqrt(2))
    assert math.isnan(spread([[1.0], []]))


@pytest.mark.parametrize(("difference", "deviation"), [(1.5, 1.4), (1.0, 0.5), (0.5, 1.0)])
def test_so_many_pairs_tell_it_in_four_of_five_cases(difference: float, deviation: float) -> None:
    pairs = pairs_to_tell(difference, deviation)
    assert pairs is not None
    random = np.random.default_rng(0)

    def told(count: int) -> float:
        found = (gain(random.normal(difference, deviation, count).tolist()) for _ in range(2000))
        return float(np.mean([one is not None and (one.low or 0) > 0 for one in found]))

    assert told(pairs) >= 0.77
    assert told(max(2, pairs // 2)) < 0.77


def test_a_difference_beyond_any_budget_is_none() -> None:
    assert pairs_to_tell(0.01, 5.0) is None
