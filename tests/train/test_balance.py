"""Rare classes weigh more, and their images come more often."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from train.augment import BatchSampler
from train.balance import class_weights, label_counts, repeat_factors
from train.datasets import open_index
from train.loop.distributed import World

ALONE = World(0, 1, torch.device("cpu"))


class Notes:
    """A list of paths that is pickled as nothing: readers that note alike are the same reader."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __reduce__(self) -> tuple[type, tuple[list[Path]]]:
        return Notes, ([],)


def _noted(decode: Callable[[Path], np.ndarray], notes: Notes, path: Path) -> np.ndarray:
    notes.paths.append(path)
    return decode(path)


def _turned(decode: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    """Class 0 is 1, 1 is 2 and 2 is 0; the blocks have three."""
    label = decode(path)
    return np.where(label < 3, (label + 1) % 3, label).astype(np.uint8)


def test_counts_are_those_of_the_labels(blocks: Path, tmp_path: Path) -> None:
    index = open_index(blocks, "train")
    counts = label_counts(index, ALONE, tmp_path)
    assert counts.shape == (len(index), len(index.classes))
    for item, row in zip(index.items, counts, strict=True):
        label = index.read(item)[1]
        assert row.tolist() == [(label == id_).sum() for id_ in range(len(index.classes))]


def test_labels_are_counted_once_for_as_long_as_they_are_the_same(
    blocks: Path, tmp_path: Path
) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(blocks, data)
    decoded: list[Path] = []

    def counted() -> np.ndarray:
        index = open_index(data, "train")
        decode = partial(_noted, index.read_label, Notes(decoded))
        return label_counts(replace(index, read_label=decode), ALONE, cache)

    first = counted()
    assert len(decoded) == len(first)
    assert np.array_equal(counted(), first) and len(decoded) == len(first)
    one, other = (item.label for item in open_index(data, "train").items[:2])
    other.write_bytes(one.read_bytes())
    changed = counted()
    assert len(decoded) == 2 * len(first) and np.array_equal(changed[1], changed[0])
    for path in cache.iterdir():  # what a full disk or a bad one leaves
        path.write_bytes(path.read_bytes()[:-8])
    assert np.array_equal(counted(), changed) and len(decoded) == 3 * len(first)


def test_counts_of_other_classes_are_other_counts(blocks: Path, tmp_path: Path) -> None:
    index = open_index(blocks, "train")
    before = label_counts(index, ALONE, tmp_path)
    turned = replace(index, read_label=partial(_turned, index.read_label))
    assert np.array_equal(label_counts(turned, ALONE, tmp_path), before[:, [2, 0, 1]])


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
