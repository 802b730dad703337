"""The interval of a median: known samples, and whether repetitions fall into it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.stats.interval import drift, interval, timing, width


def test_percentiles_and_samples_are_kept() -> None:
    found = timing([float(n) for n in range(101)])
    assert (found.p50, found.p90, found.p95, found.p99) == (50, 90, 95, 99)
    assert found.samples == tuple(range(101))
    assert found.low < 50 < found.high


def test_one_sample_is_its_own_interval() -> None:
    assert interval([7.0]) == (7.0, 7.0)


def test_equal_samples_leave_no_doubt() -> None:
    assert interval([5.0] * 20) == (5.0, 5.0)
    assert width(timing([5.0] * 20)) == 0


def test_ranks_of_independent_samples() -> None:
    # Alternating around the median: no autocorrelation. √2 × t(99) × √100 / 2 = 14.03 ranks.
    halves = np.arange(100.0).reshape(2, 50)
    samples = halves.T.ravel()
    assert interval(samples.tolist()) == (35, 64)


def test_a_few_samples_are_bounded_by_their_extremes() -> None:
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_what_wanders_is_less_certain() -> None:
    noise = np.random.default_rng(0).normal(10, 1, 100)
    wandering = np.sort(noise)  # the same samples, but neighbours resemble each other
    assert width(timing(wandering.tolist())) > 3 * width(timing(noise.tolist()))


def _wandering_run(rng: np.random.Generator) -> np.ndarray:
    """(8, 100) ms: eight cells of one machine, whose speed wanders by a few percent, slowly."""
    speed = [rng.normal(100, 5)]
    for _ in range(99):
        speed.append(100 + 0.9 * (speed[-1] - 100) + rng.normal(0, 5 * (1 - 0.9**2) ** 0.5))
    return rng.normal(0, 8, (8, 100)) + speed


def test_what_slows_all_cells_for_long_widens_all_intervals() -> None:
    rng = np.random.default_rng(0)
    with_drift = without = 0
    for _ in range(100):
        run, again = _wandering_run(rng), _wandering_run(rng)
        shared = drift(run.tolist())
        for samples, repeated in zip(run.tolist(), np.median(again, axis=1), strict=True):
            own, all_in = timing(samples), timing(samples, shared)
            assert all_in.low <= own.low and own.high <= all_in.high
            without += own.low <= repeated <= own.high
            with_drift += all_in.low <= repeated <= all_in.high
    assert with_drift >= 0.9 * 800 > without


def test_a_steady_machine_has_next_to_no_drift() -> None:
    rng = np.random.default_rng(0)
    assert drift(rng.normal(100, 5, (20, 100)).tolist()) < 0.02
    assert drift([[5.0] * 40] * 5) == 0


def test_drift_needs_cells_and_rounds_and_leaves_out_those_that_were_lost() -> None:
    assert drift([]) == 0
    assert drift([[1.0, 9.0] * 20] * 2) == 0, "two cells could be slow by themselves"
    assert drift([[1.0, 9.0] * 5] * 9) == 0, "ten rounds are no parts of a run"
    run = _wandering_run(np.random.default_rng(1)).tolist()
    assert drift([*run, run[0][:5]]) == drift(run)


def _independent(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(100, 5, 100)


def _with_tail(rng: np.random.Generator) -> np.ndarray:
    return 100 + rng.exponential(5, 100)


def _with_interruptions(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(100, 1, 100) + 50 * (rng.random(100) < 0.2)


def _correlated(rng: np.random.Generator) -> np.ndarray:
    values = [rng.normal(0, 5)]
    for _ in range(99):
        values.append(0.5 * values[-1] + rng.normal(0, 5))
    return 100 + np.array(values)


@pytest.mark.parametrize("draw", [_independent, _with_tail, _with_interruptions, _correlated])
def test_repetitions_fall_into_the_interval(
    draw: Callable[[np.random.Generator], np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = interval(draw(rng).tolist())
        inside += low <= np.median(draw(rng)) <= high
    assert inside >= 0.92 * 300
