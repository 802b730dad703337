"""Losses: what is ignored, what is hard, and that splitting a batch changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.classes import IGNORE
from train.datasets import open_index
from train.losses import class_weights, edge_loss, label_boundaries, segmentation_loss
from train.models.hed import HedLite, upsample


def test_ignored_pixels_do_not_count() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    expected = torch.nn.functional.cross_entropy(logits[:, :, :2], target[:, :2])
    target[:, 2:] = IGNORE
    torch.testing.assert_close(segmentation_loss(logits, target), expected)


def test_an_image_without_labels_has_no_loss_and_no_nan() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert loss == 0 and torch.isfinite(logits.grad).all()


def test_hardest_pixels_only() -> None:
    target = torch.zeros(1, 1, 4, dtype=torch.long)
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1] = torch.tensor([[5.0, 0, -5, -9]])
    one = segmentation_loss(logits, target, hardest=0.25)
    assert one == pytest.approx(5.0067, abs=1e-3)  # log(1 + e^5)
    torch.testing.assert_close(
        segmentation_loss(logits, target, hardest=1.0), segmentation_loss(logits, target)
    )


def test_smoothing_and_weights_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    weights = torch.tensor([1.0, 2.0, 4.0])
    loss = segmentation_loss(logits, target, smoothing=0.1, weights=weights)
    each = torch.nn.functional.cross_entropy(
        logits, target, weights, label_smoothing=0.1, reduction="none"
    )
    torch.testing.assert_close(loss, each.mean())


def test_rare_classes_weigh_more_and_the_mean_stays(blocks: Path) -> None:
    index = open_index(blocks, "train")
    counts = np.zeros(len(index.classes))
    for item in index.items:
        counts += np.bincount(index.read(item)[1].ravel(), minlength=256)[: len(counts)]
    weights = class_weights(index, 0.5).numpy()
    assert (np.argsort(weights) == np.argsort(-counts)).all()
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-3)
    assert weights.max() / weights.min() == pytest.approx(
        (counts.max() / counts.min()) ** 0.5, rel=1e-2
    )


@pytest.mark.parametrize("kind", ["segmentation", "edges"])
def test_mean_over_halves_is_the_whole(kind: str) -> None:
    """What makes two processes with half the batch each equal to one with all of it."""
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
    target[0, :6] = IGNORE  # the halves hold different numbers of labelled pixels

    def loss(part: slice) -> torch.Tensor:
        if kind == "edges":
            return edge_loss([logits[part, :1]], (target[part].clamp(max=1) * 254).byte())
        return segmentation_loss(logits[part], target[part])

    halves = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    torch.testing.assert_close(loss(slice(0, 4)), halves)


def test_boundaries_of_labels() -> None:
    target = torch.zeros(7, 8, dtype=torch.uint8)
    target[:, 4:] = 1
    target[6, 0] = IGNORE
    edges = label_boundaries(target)
    assert (edges[0] == torch.tensor([0, 0, 0, 254, 254, 0, 0, 0])).all()
    assert (edges[5:, :2] == IGNORE).all() and edges[4, 0] == 0


def test_edge_loss_prefers_the_truth() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.uint8)
    truth[:, :, 3] = 254
    right = (truth[:, None].float() / 254 - 0.5) * 8
    assert edge_loss([right], truth) < edge_loss([right * 0], truth) < edge_loss([-right], truth)


def test_the_light_net_learns_boundaries() -> None:
    torch.manual_seed(0)
    target = torch.zeros(4, 64, 64, dtype=torch.uint8)
    for index in range(4):
        target[index, 8 * index + 4 :, 10 * index + 8 :] = 1
    image = target[:, None].float().repeat(1, 3, 1, 1) * 0.6 + 0.1 * torch.rand(4, 3, 64, 64)
    edges = torch.stack([label_boundaries(t) for t in target])
    hed = HedLite()
    optimizer = torch.optim.AdamW(hed.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        edge_loss(hed(image), edges).backward()
        optimizer.step()
    strength = upsample(hed(image)[-1], (64, 64)).sigmoid()[:, 0]
    assert strength[edges == 254].mean() > 3 * strength[edges == 0].mean()
