"""Class imbalance: class weights for the loss, and repeat factors for the sampler."""

from __future__ import annotations

import numpy as np
import torch

from runtime import cli
from runtime.bundle.classes import IGNORE
from train.datasets.index import Index

PRESENT = 1e-3  # of an image's pixels: what is less may be a stray label


def label_counts(index: Index, quiet: bool = False) -> np.ndarray:
    """(images, classes) int64: pixels of each class in each image of ``index``.

    All labels are read, a minute for Cityscapes. A progress bar is shown unless ``quiet``.
    """
    classes = len(index.classes)
    items = index.items if quiet else cli.track(index.items, "counting classes", transient=True)
    rows = (
        np.bincount(index.read_label(item.label).ravel(), minlength=IGNORE + 1)[:classes]
        for item in items
    )
    return np.stack(list(rows))


def class_weights(counts: np.ndarray, power: float) -> torch.Tensor:
    """(C,) float32: class weight = frequency^-power, scaled to a mean of 1 over the pixels.

    counts: of ``label_counts``; an absent class counts as one pixel.
    """
    total = counts.sum(0) + 1.0
    share = total / total.sum()
    weights = share**-power
    return torch.from_numpy(weights / (share * weights).sum()).float()


def repeat_factors(
    counts: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """(images,) float64 with mean 1: repeat factors (LVIS: Gupta et al., CVPR 2019).

    A class in a share f of the images has the factor max(1, sqrt(threshold / f)); an image has that
    of its rarest class. counts: of ``label_counts``; weights: (images,) additional factors.
    """
    present = counts > PRESENT * counts.sum(1, keepdims=True)
    share = np.maximum(present.mean(0), 1 / len(counts))
    repeats = np.where(present, np.maximum(1, np.sqrt(threshold / share)), 1).max(1)
    repeats = repeats if weights is None else repeats * weights
    return repeats / repeats.mean()
