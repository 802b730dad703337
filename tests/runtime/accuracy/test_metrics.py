"""Accuracy against hand-computed numbers and a slow reference; percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.latency import Latency

THREE = ClassSet(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def test_iou_of_a_hand_computed_example() -> None:
    matrix = ConfusionMatrix(THREE)
    target = np.array([[0, 0, 0, 1], [1, 1, IGNORE, IGNORE]], np.uint8)
    labels = np.array([[0, 0, 1, 1], [1, 0, 2, 0]], np.uint8)
    matrix.update(target, labels)
    # a: hit 2, target 3, predicted 3 → 2/4; b: hit 2, target 3, predicted 3 → 2/4; c: only where
    # nothing counts → it does not occur
    assert matrix.iou()[:2].tolist() == [0.5, 0.5]
    assert np.isnan(matrix.iou()[2])
    assert matrix.miou() == 0.5
    assert matrix.pixel_accuracy() == pytest.approx(4 / 6)
    assert matrix.iou_by_name() == {"a": 0.5, "b": 0.5, "c": None}


def test_a_class_only_predicted_counts_as_zero() -> None:
    matrix = ConfusionMatrix(THREE)
    matrix.update(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 2]], np.uint8))
    assert matrix.iou()[2] == 0
    assert matrix.miou() == pytest.approx((3 / 4 + 0) / 2)


def test_nothing_labelled_has_no_miou() -> None:
    matrix = ConfusionMatrix(THREE)
    matrix.update(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8))
    assert np.isnan(matrix.miou())
    assert np.isnan(matrix.pixel_accuracy())


pixels = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, IGNORE]), st.integers(0, 2)), min_size=1, max_size=60
)


@given(st.lists(pixels, min_size=1, max_size=3))
def test_iou_equals_counting_by_hand(frames: list[list[tuple[int, int]]]) -> None:
    matrix = ConfusionMatrix(THREE)
    for frame in frames:
        target, labels = np.array(frame, np.uint8).T
        matrix.update(target[None], labels[None])
    counted = [(t, p) for frame in frames for t, p in frame if t != IGNORE]
    for index, value in enumerate(matrix.iou()):
        both = sum(t == index and p == index for t, p in counted)
        either = sum(t == index or p == index for t, p in counted)
        assert (np.isnan(value) and not either) or value == pytest.approx(both / either)


def halves(column: int) -> np.ndarray:
    """(40, 40) uint8: class 0 left of ``column``, class 1 from it on."""
    labels = np.zeros((40, 40), np.uint8)
    labels[:, column:] = 1
    return labels


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (3, 1.0), (4, 0.0), (9, 0.0)])
def test_boundary_f_forgives_the_tolerance_and_no_more(shift: int, expected: float) -> None:
    score = BoundaryF(THREE, tolerance=3)
    score.update(halves(20), halves(20 + shift))
    assert score.mean() == pytest.approx(expected)


def test_boundary_f_of_a_map_against_itself_is_one() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (8, 8), np.uint8).repeat(6, 0).repeat(6, 1)
    score = BoundaryF(THREE)
    score.update(labels, labels)
    assert score.mean() == pytest.approx(1)


def test_boundary_f_has_no_value_without_a_boundary() -> None:
    score = BoundaryF(THREE)
    score.update(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8))
    assert np.isnan(score.mean())


def test_boundaries_next_to_ignored_pixels_do_not_count() -> None:
    target = halves(20)
    target[:, 18:23] = IGNORE
    score = BoundaryF(THREE)
    score.update(target, halves(20))
    assert np.isnan(score.mean())
    score.update(target, halves(30))  # a boundary where labels, but for the band, have none
    assert np.isnan(score.mean())
    score.update(halves(20), halves(20))
    assert score.f()[0] == pytest.approx(2 / 3)  # half of what was predicted, all of what there is


def test_percentiles_of_known_times() -> None:
    latency = Latency()
    assert latency.percentiles() == {"p50": None, "p95": None, "p99": None}
    for value in range(101):
        latency.add(float(value))
    assert latency.percentiles() == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
