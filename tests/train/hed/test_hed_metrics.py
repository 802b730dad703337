"""Matching edges with drawings: what ODS and OIS must do, whatever the maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from train.hed.metrics import compare, people, score, thin, thresholds

SIZE = (90, 120)  # diagonal 150: a tolerance of 0.02 is 3 pixels
TOLERANCE = 0.02


def outline(left: int = 30, top: int = 25) -> np.ndarray:
    """(1, H, W) bool: one person's drawing of a rectangle, a pixel wide."""
    drawn = np.zeros(SIZE, np.uint8)
    cv2.rectangle(drawn, (left, top), (left + 50, top + 40), 1)
    return drawn[None] > 0


def f_of(edges: np.ndarray, drawn: np.ndarray, count: int = 9) -> float:
    return score([compare(edges, drawn, count, TOLERANCE)]).ods


def test_a_map_against_itself_is_perfect() -> None:
    drawn = outline()
    result = score([compare(drawn[0].astype(np.float32), drawn, 9, TOLERANCE)])
    assert (result.ods, result.ois, result.precision, result.recall) == (1, 1, 1, 1)


def test_a_shift_within_the_tolerance_costs_nothing_and_one_beyond_falls_off() -> None:
    drawn = outline()
    shifted = [f_of(outline(30 + d, 25 + d)[0].astype(np.float32), drawn) for d in range(8)]
    assert shifted[:3] == [1, 1, 1]  # (2, 2) is 2.8 pixels away
    # Beyond it sides still meet where they cross, and nowhere else.
    assert shifted[4] < 0.2 and shifted[7] < 0.2
    diagonal = np.eye(*SIZE, dtype=np.float32)
    far = np.roll(diagonal, 7, axis=1)  # 4.9 pixels from line to line
    assert f_of(far, diagonal[None] > 0) < 0.1


def test_one_drawn_pixel_answers_for_one_pixel_of_the_map() -> None:
    drawn = outline()
    thick = cv2.dilate(drawn[0].astype(np.float32), np.ones((3, 3)))
    result = score([compare(thick, drawn, 9, TOLERANCE)])
    assert result.recall == 1
    assert result.precision == pytest.approx(drawn.sum() / thick.sum())


def test_a_pixel_that_any_person_drew_is_right_and_all_people_must_be_found() -> None:
    drawn = np.concatenate([outline(), outline(60, 45)])
    result = score([compare(drawn[0].astype(np.float32), drawn, 9, 0)])
    assert result.precision == 1
    assert 0.5 <= result.recall < 0.55  # the other rectangle crosses this one twice


def test_ois_picks_a_threshold_for_each_image() -> None:
    drawn = outline()
    noise = np.zeros(SIZE, np.float32)
    noise[::10, ::10] = 1
    strong = np.maximum(0.9 * drawn[0], 0.45 * noise).astype(np.float32)
    weak = np.maximum(0.4 * drawn[0], 0.2 * noise).astype(np.float32)
    result = score([compare(edges, drawn, 9, TOLERANCE) for edges in (strong, weak)])
    assert result.ois == 1 and result.ods < 0.95


def test_an_empty_map_scores_zero_and_nothing_divides_by_zero() -> None:
    assert f_of(np.zeros(SIZE, np.float32), outline()) == 0
    assert f_of(np.ones(SIZE, np.float32), np.zeros((2, *SIZE), bool)) == 0


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.floats(0, 0.12), st.floats(0.02, 0.4), st.floats(0.02, 0.4))
def test_as_many_pairs_as_a_largest_matching_at_every_threshold(
    seed: int, tolerance: float, density: float, drawn_density: float
) -> None:
    random = np.random.default_rng(seed)
    edges = (random.random((16, 20)) * (random.random((16, 20)) < density)).astype(np.float32)
    drawn = random.random((1, 16, 20)) < drawn_density
    counts = compare(edges, drawn, 4, tolerance)
    radius = tolerance * float(np.hypot(16, 20))
    for index, threshold in enumerate(thresholds(4)):
        here, there = np.argwhere(edges >= threshold), np.argwhere(drawn[0])
        near = ((here[:, None] - there[None]) ** 2).sum(-1) <= radius**2
        largest = 0
        if near.any():
            largest = int((maximum_bipartite_matching(csr_array(near)) >= 0).sum())
        assert counts.matched[index] == counts.found[index] == largest
        assert (counts.predicted[index], counts.drawn[index]) == (len(here), len(there))


def test_people_who_agree_score_one() -> None:
    same = np.repeat(outline(), 3, axis=0)
    assert score([people(same, TOLERANCE)]).ods == 1
    alone = np.concatenate([same, outline(10, 8)])
    assert score([people(alone, TOLERANCE)]).ods < 0.8


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 130])
def test_a_wide_ridge_becomes_a_line_a_pixel_wide_where_it_was(angle: float) -> None:
    direction = np.deg2rad(angle)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    across = (x - 60) * np.sin(direction) - (y - 45) * np.cos(direction)
    ridge = np.exp(-(across**2) / 18).astype(np.float32)
    line = thin(ridge)
    inner = (np.hypot(x - 60, y - 45) < 30) & (line > 0.3)
    assert np.abs(across[inner]).max() < 1
    longer = 60 * max(abs(np.cos(direction)), abs(np.sin(direction)))
    assert inner.sum() == pytest.approx(longer, abs=4)  # as many pixels as the line has
    assert not line[0].any() and not line[:, -1].any()
