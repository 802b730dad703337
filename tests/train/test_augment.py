"""Samples and batches are functions of the seed, never of who loads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from runtime.bundle.classes import IGNORE
from train.augment import BatchSampler, RandomScale, TrainingSet, training_transform
from train.datasets import open_index


@pytest.fixture(scope="module")
def samples(blocks: Path) -> TrainingSet:
    transform = training_transform((48, 64), (40, 56), (0.5, 2.0))
    return TrainingSet(open_index(blocks, "train"), transform)


def test_a_sample_depends_on_its_key_alone(samples: TrainingSet) -> None:
    first = samples.sample((3, 77))
    torch.manual_seed(5)
    torch.rand(10)
    again, other = samples.sample((3, 77)), samples.sample((3, 78))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)


def test_loading_a_sample_leaves_the_global_generator_alone(samples: TrainingSet) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    samples.sample((0, 1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("shape", [(30, 60), (40, 40), (96, 128)])
def test_scaling_ends_at_the_networks_shape(shape: tuple[int, int]) -> None:
    """Whatever the image's own shape: deployment squeezes a frame to the network's, too."""
    image = tv_tensors.Image(torch.zeros(3, *shape, dtype=torch.uint8))
    heights = set()
    for seed in range(20):
        torch.manual_seed(seed)
        height, width = RandomScale((48, 64), (0.5, 2.0))(image).shape[-2:]
        assert 24 <= height <= 96 and abs(width / height - 64 / 48) < 0.05
        heights.add(height)
    assert min(heights) < 40 and max(heights) > 70


@pytest.mark.parametrize("shape", [(48, 64), (96, 128)])
def test_labels_stay_where_their_image_is(shape: tuple[int, int]) -> None:
    """torchvision takes the upper left pixel of a mask: half a pixel to the right, and down."""
    beside: list[float] = []
    for seed in range(200):
        start = 10 + seed % 40
        picture = torch.zeros(3, *shape, dtype=torch.uint8)
        picture[:, start:, start:] = 200
        mask = (picture[:1] > 0).to(torch.uint8)
        torch.manual_seed(seed)
        image, label = RandomScale((48, 64), (0.5, 2.0))(
            tv_tensors.Image(picture), tv_tensors.Mask(mask)
        )
        assert isinstance(label, tv_tensors.Mask) and label.dtype == torch.uint8
        apart = image[0].float() / 200 - label[0].float()
        beside += [float(apart[-1].sum()), float(apart[:, -1].sum())]
    assert abs(np.mean(beside)) < 0.1


def test_labels_are_never_interpolated(samples: TrainingSet) -> None:
    """No value between two classes, and the image still fits its labels after all augmentation."""
    right = total = 0
    for seed in range(12):
        image, target, edges = samples.sample((seed % 8, seed))
        assert image.shape == (3, 40, 56) and target.shape == edges.shape == (40, 56)
        assert set(target.unique().tolist()) <= {0, 1, 2, IGNORE}
        assert set(edges.unique().tolist()) <= {0, 254, IGNORE}
        brightest = 2 - image.argmax(0)  # the classes are blue, green, red; the image is RGB
        known = target != IGNORE
        right += int((brightest == target)[known].sum())
        total += int(known.sum())
    assert right / total > 0.95


@given(
    length=st.integers(1, 40),
    share=st.integers(1, 4),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_processes_share_each_global_batch(length: int, share: int, world: int, seed: int) -> None:
    batch = share * world
    whole = list(BatchSampler(length, batch, seed))
    parts = [list(BatchSampler(length, batch, seed, rank, world)) for rank in range(world)]
    for number, expected in enumerate(whole):
        assert sorted(k for part in parts for k in part[number]) == sorted(expected)
        assert len(expected) == batch
    drawn = [position for keys in whole for position, _ in keys]
    assert np.bincount(drawn, minlength=length).max() <= -(-len(drawn) // length)


def test_a_resumed_epoch_goes_on_with_the_same_batches() -> None:
    sampler = BatchSampler(20, 4, seed=1)
    sampler.epoch = 3
    whole = list(sampler)
    sampler.start = 2
    assert len(sampler) == 3 and list(sampler) == whole[2:]
    sampler.start, sampler.epoch = 0, 4
    assert list(sampler) != whole


def test_batches_that_do_not_split_are_refused() -> None:
    with pytest.raises(ValueError, match="does not split over 3"):
        BatchSampler(20, 4, seed=1, rank=0, world=3)
