"""Losses: what is ignored, what is hard, and that splitting a batch changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.bundle.classes import IGNORE
from train.balance import class_weights
from train.losses import edge_loss, jaccard_loss, label_boundaries, segmentation_loss
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
    cross_entropy = torch.nn.functional.cross_entropy
    loss = segmentation_loss(logits, target, weights=weights)
    torch.testing.assert_close(
        loss, cross_entropy(logits, target, weights, reduction="none").mean()
    )
    smooth = segmentation_loss(logits, target, smoothing=0.1)
    torch.testing.assert_close(smooth, cross_entropy(logits, target, label_smoothing=0.1))


def test_a_class_that_no_image_has_is_not_learnt_from_label_smoothing() -> None:
    """Its weight is that of a single pixel, a hundred times the others'."""
    weights = class_weights(np.array([[700_000, 300_000, 0]]), power=0.3)
    target = torch.tensor([[[0, 0, 1]]])
    logits = torch.zeros(1, 3, 1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        segmentation_loss(logits, target, smoothing=0.1, weights=weights).backward()
        optimizer.step()
    even = torch.tensor([0.1, 0.1, 0.1]) / 3 + 0.9 * torch.eye(3)[target[0, 0]]
    torch.testing.assert_close(logits.detach().softmax(1)[0, :, 0].T, even, atol=0.01, rtol=0)


def test_jaccard_is_one_minus_iou_of_the_classes_that_are_there() -> None:
    target = torch.tensor([[[0, 0, 0, 1], [0, 0, 1, IGNORE]]])
    guess = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 2]]])  # one pixel wrong, one ignored
    logits = 100 * torch.nn.functional.one_hot(guess, 4).permute(0, 3, 1, 2).float()
    assert jaccard_loss(logits, target) == pytest.approx(1 - (4 / 5 + 2 / 3) / 2)
    right = 100 * torch.nn.functional.one_hot(target.clamp(max=3), 4).permute(0, 3, 1, 2).float()
    assert jaccard_loss(right, target) == pytest.approx(0, abs=1e-6)


def test_gradients_lie_in_memory_as_the_logits_do() -> None:
    """Channel by channel, a bilinear upsampling before would be five times slower to go back."""
    logits = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    target = torch.randint(0, 3, (2, 8, 8))
    for loss in (segmentation_loss(logits, target, hardest=0.5), jaccard_loss(logits, target)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_jaccard_of_an_image_without_labels_is_zero() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = jaccard_loss(logits, torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert loss == 0 and torch.isfinite(logits.grad).all()


def test_jaccard_goes_down_as_a_thin_class_is_learnt() -> None:
    target = torch.zeros(1, 16, 16, dtype=torch.long)
    target[:, :, 7] = 1
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.5)
    losses = []
    for _ in range(20):
        loss = jaccard_loss(logits, target)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    assert (logits.argmax(1) == target).all()


@pytest.mark.parametrize("kind", ["segmentation", "jaccard", "edges"])
def test_mean_over_halves_is_the_whole(kind: str) -> None:
    """What makes two processes with half the batch each equal to one with all of it."""
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
    target[0, :6] = IGNORE  # the halves hold different numbers of labelled pixels

    def loss(part: slice) -> torch.Tensor:
        if kind == "edges":
            return edge_loss([logits[part, :1]], (target[part].clamp(max=1) * 254).byte())
        if kind == "jaccard":
            return jaccard_loss(logits[part], target[part])
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
