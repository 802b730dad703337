"""Losses. Each is a mean over images of a mean within the image: splitting a batch over processes
changes neither its value nor its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from runtime.bundle.classes import IGNORE
from train.models.hed import upsample

TEMPERATURE = 2.0  # of the teacher's scores: what it holds for second best shows as well


def segmentation_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    hardest: float | None = None,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of (N, C, H, W) logits against (N, H, W) training ids, ignored pixels left out.

    hardest: share of each image's pixels that count, those with the highest loss (online hard
    example mining, Shrivastava et al., CVPR 2016); None counts all. smoothing: share of a target
    that is spread over all classes (Szegedy et al., CVPR 2016); weights: (C,), of a pixel by its
    class.
    """
    ids = target.long().flatten()
    loss = F.cross_entropy(
        by_pixel(logits).flatten(0, 2),
        ids,
        ignore_index=IGNORE,
        reduction="none",
        label_smoothing=smoothing,
    )
    if weights is not None:
        # Not PyTorch's argument: it also weighs the share that is spread, most of which would be
        # that of the rarest class, even of one that no image has.
        loss = loss * weights[ids.clamp(max=len(weights) - 1)]
    loss, valid = loss.reshape(len(target), -1), (target != IGNORE).flatten(1)
    if hardest is not None:
        count = max(1, int(hardest * loss.shape[1]))
        loss, order = loss.topk(count, dim=1)  # ignored pixels have loss 0 and come last
        valid = valid.gather(1, order)
    return (loss.sum(1) / valid.sum(1).clamp(min=1)).mean()


def jaccard_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - soft intersection over union, a mean over the classes that an image has.

    logits: (N, C, H, W); target: (N, H, W) training ids, ignored pixels left out. Rahman & Wang,
    ISVC 2016: it counts a thin pole as much as the road, as mIoU does.
    """
    classes = logits.shape[1]
    valid = target != IGNORE
    ids = torch.where(valid, target, classes).long()
    truth = F.one_hot(ids, classes + 1)[..., :classes].float()
    guess = by_pixel(logits).softmax(-1) * valid[..., None]
    overlap = (guess * truth).sum((1, 2))
    area = truth.sum((1, 2))
    iou = overlap / (guess.sum((1, 2)) + area - overlap).clamp(min=1e-6)
    present = area > 0
    return (((1 - iou) * present).sum(1) / present.sum(1).clamp(min=1)).mean()


def teacher_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of softened probabilities from a teacher's (Hinton et al., 2015).

    logits, taught: (N, C, H, W) scores of both. All pixels count, those without a label as well.
    """
    own, given = ((by_pixel(scores) / TEMPERATURE).log_softmax(-1) for scores in (logits, taught))
    divergence = F.kl_div(own, given, reduction="none", log_target=True).sum(-1)
    return TEMPERATURE**2 * divergence.mean()  # the square: gradients as large as without it


def by_pixel(logits: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) → (N, H, W, C) float32.

    The network computes in channels_last, where this is how logits lie in memory. Losses of this
    view leave their gradient in the same order; with the classes second it comes channel by
    channel, and the upsampling before takes five times as long to go back.
    """
    return logits.float().permute(0, 2, 3, 1)


def edge_loss(edges: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Class-balanced cross-entropy on every side output and the fusion (HED, equation 2).

    edges: logit maps (N, 1, h, w), brought to the target's size; target: (N, H, W) uint8 edge
    strength 0..254, IGNORE where unknown. Edge pixels weigh as much as all others together.
    """
    valid = target != IGNORE
    truth = (target.float() / 254).clamp(max=1) * valid
    edge_share = truth.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    balance = edge_share.reshape(-1, 1, 1)
    weight = (truth * (1 - balance) + (1 - truth) * balance) * valid
    per_image = torch.stack([_weighted(logits, truth, weight) for logits in edges])
    return (per_image / valid.sum((1, 2)).clamp(min=1)).mean()


def _weighted(logits: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    full = upsample(logits.float(), truth.shape[-2:])[:, 0]
    loss = F.binary_cross_entropy_with_logits(full, truth, weight, reduction="none")
    return loss.sum((1, 2))


def label_boundaries(target: torch.Tensor) -> torch.Tensor:
    """(H, W) uint8 training ids → (H, W) uint8: 254 where the 3×3 neighbourhood holds two classes.

    Pixels with an ignored neighbour are IGNORE, since a boundary there is unknown.
    """
    ids = target.float()[None, None]
    highest = F.max_pool2d(ids, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-ids, 3, stride=1, padding=1)
    unknown = F.max_pool2d((ids == IGNORE).float(), 3, stride=1, padding=1) > 0
    edges = torch.where(unknown, IGNORE, 254 * (highest != lowest))
    return edges[0, 0].to(torch.uint8)
