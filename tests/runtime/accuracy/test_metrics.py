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


def in_reach(boundary: np.ndarray, y: int, x: int, tolerance: int) -> bool:
    """Whether ``boundary`` has a pixel near (y, x), counted one by one."""
    found = False
    for v, u in np.argwhere(boundary):
        rows = abs(int(v) - y)
        if rows <= tolerance:
            found |= abs(int(u) - x) <= round((tolerance**2 - rows**2) ** 0.5)
    return found


def rim(labels: np.ndarray, index: int) -> np.ndarray:
    """The pixels of a class that have another class above, below, or at a side."""
    padded = np.pad(labels, 1, mode="edge")
    others = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (labels == index) & np.any([side != index for side in others], axis=0)


@pytest.mark.parametrize("tolerance", [1, 3])
def test_boundary_f_equals_counting_by_hand(tolerance: int) -> None:
    coarse = np.random.default_rng(4).integers(0, 3, (2, 2, 5, 6), np.uint8)
    score, counted = BoundaryF(THREE, tolerance), np.zeros((3, 4))
    for target, labels in coarse.repeat(4, 2).repeat(3, 3):
        score.update(target, labels)
        for index in range(3):
            true, predicted = rim(target, index), rim(labels, index)
            right = sum(in_reach(true, y, x, tolerance) for y, x in np.argwhere(predicted))
            found = sum(in_reach(predicted, y, x, tolerance) for y, x in np.argwhere(true))
            counted[index] += (right, predicted.sum(), found, true.sum())
    precision, recall = counted[:, 0] / counted[:, 1], counted[:, 2] / counted[:, 3]
    assert precision.min() > 0 and precision.max() < 1  # neither all nor nothing
    np.testing.assert_allclose(score.f(), 2 * precision * recall / (precision + recall))


def test_what_a_class_is_taken_for_is_a_share_of_it() -> None:
    matrix = ConfusionMatrix(THREE)
    target = np.array([[0, 0, 0, 0, 1, 1, 1, 2]], np.uint8)
    matrix.update(target, np.array([[0, 1, 1, 1, 1, 0, 0, 2]], np.uint8))
    assert matrix.confusions() == [("a", "b", 3 / 4), ("b", "a", 2 / 3)]
    np.testing.assert_allclose(matrix.precision(), [1 / 3, 1 / 4, 1])
    np.testing.assert_allclose(matrix.recall(), [1 / 4, 1 / 3, 1])


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
