"""Rare classes: how much they weigh in the loss, and how often their images are drawn."""

from __future__ import annotations

import numpy as np
import torch

from runtime import cli
from runtime.bundle.classes import IGNORE
from train.datasets.index import Index

PRESENT = 1e-3  # of an image's pixels: what is less may be a stray label


def label_counts(index: Index, quiet: bool = False) -> np.ndarray:
    """(images, classes) int64: pixels of each class in each image of ``index``.

    It reads every label, a minute for all of Cityscapes: a bar shows it, unless ``quiet``.
    """
    classes = len(index.classes)
    items = index.items if quiet else cli.track(index.items, "counting classes", transient=True)
    rows = (
        np.bincount(index.read_label(item.label).ravel(), minlength=IGNORE + 1)[:classes]
        for item in items
    )
    return np.stack(list(rows))


def class_weights(counts: np.ndarray, power: float) -> torch.Tensor:
    """(C,) float32: each class's share of the labelled pixels to the power of -power.

    counts: of ``label_counts``. Scaled so that the mean over the pixels is 1; a class that never
    occurs weighs as if it had one.
    """
    total = counts.sum(0) + 1.0
    share = total / total.sum()
    weights = share**-power
    return torch.from_numpy(weights / (share * weights).sum()).float()


def repeat_factors(
    counts: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """(images,) float64 with mean 1: how often each image is drawn in an epoch.

    A class that fewer than ``threshold`` of the images show is drawn more often, by the root of
    what it lacks; an image goes by its rarest class (LVIS: Gupta et al., CVPR 2019). weights:
    (images,) factors on top of it.
    """
    present = counts > PRESENT * counts.sum(1, keepdims=True)
    share = np.maximum(present.mean(0), 1 / len(counts))
    repeats = np.where(present, np.maximum(1, np.sqrt(threshold / share)), 1).max(1)
    repeats = repeats if weights is None else repeats * weights
    return repeats / repeats.mean()
