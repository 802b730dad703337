"""Rare classes weigh more, and their images come more often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.augment import BatchSampler
from train.balance import class_weights, label_counts, repeat_factors
from train.datasets import open_index


def test_counts_are_those_of_the_labels(blocks: Path) -> None:
    index = open_index(blocks, "train")
    counts = label_counts(index)
    assert counts.shape == (len(index), len(index.classes))
    for item, row in zip(index.items, counts, strict=True):
        label = index.read(item)[1]
        assert row.tolist() == [(label == id_).sum() for id_ in range(len(index.classes))]


def test_rare_classes_weigh_more_and_the_mean_stays() -> None:
    counts = np.array([[900, 90, 0], [880, 110, 20]])
    weights = class_weights(counts, 0.5).numpy()
    total = counts.sum(0)
    assert (np.argsort(weights) == np.argsort(-total)).all()
    assert (weights * total).sum() / total.sum() == pytest.approx(1, rel=1e-2)
    assert weights[2] / weights[0] == pytest.approx((1780 / 20) ** 0.5, rel=0.03)


def test_images_of_a_rare_class_are_drawn_more_often() -> None:
    counts = np.full((100, 2), 5000)
    counts[4:, 1] = 0  # the second class is in 4 of 100 images
    counts[50, 1] = 1  # and a stray label elsewhere does not count
    repeats = repeat_factors(counts, 0.16)
    assert repeats.mean() == pytest.approx(1)
    assert (repeats[:4] / repeats[4]).tolist() == pytest.approx([2.0] * 4)  # √(0.16 / 0.04)
    assert set(repeats[4:]) == {repeats[4]}


def test_nothing_is_rare_below_the_threshold() -> None:
    assert repeat_factors(np.full((5, 2), 10), 0.9).tolist() == [1.0] * 5


def test_over_many_epochs_images_come_as_often_as_asked() -> None:
    counts = np.array([[9, 9]] + [[9, 0]] * 7)
    repeats = repeat_factors(counts, 0.5)
    sampler = BatchSampler(8, 2, seed=0, repeats=repeats)
    drawn = np.zeros(8)
    for sampler.epoch in range(400):
        keys = [key for batch in sampler for key in batch]
        assert len(keys) == 8
        drawn += np.bincount([position for position, _ in keys], minlength=8)
    assert repeats.max() > 1.5
    assert drawn / 400 == pytest.approx(repeats, rel=0.1)
