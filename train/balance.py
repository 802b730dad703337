"""Class imbalance: class weights for the loss, and repeat factors for the sampler."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import torch

from runtime import cli, files
from runtime.bundle.classes import IGNORE
from train.datasets.index import Index
from train.loop.distributed import World

PRESENT = 1e-3  # of an image's pixels: what is less may be a stray label


def label_counts(index: Index, world: World, cache: Path, quiet: bool = False) -> np.ndarray:
    """(images, classes) int64: pixels of each class in each image of ``index``.

    All labels are read, a minute for Cityscapes, each by one of the processes; ``cache``: the
    folder that keeps the answer for as long as labels and classes stay. A progress bar is shown
    unless ``quiet``.
    """
    path = cache / _content(index)
    counts = _known(path, (len(index), len(index.classes)))
    if world.any(counts is None):
        counts = world.sum(_counted(index, world, quiet))
        if world.first:
            files.save_sealed(path, counts.tobytes())
    assert counts is not None
    return counts


def _counted(index: Index, world: World, quiet: bool) -> np.ndarray:
    """The counts with this process's share of the rows, and zeros in the others."""
    classes = len(index.classes)
    counts = np.zeros((len(index), classes), np.int64)
    mine = world.share(range(len(index)))
    for row in mine if quiet else cli.track(mine, "counting classes", transient=True):
        label = index.read_label(index.items[row].label)
        counts[row] = np.bincount(label.ravel(), minlength=IGNORE + 1)[:classes]
    return counts


def _known(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    data = files.read_sealed(path)
    return np.frombuffer(data, np.int64).reshape(shape) if data else None


def _content(index: Index) -> str:
    """sha256 of all that the counts follow from: the labels' bytes, and how ids become classes."""
    digest = hashlib.sha256(repr(index.classes).encode())
    digest.update(pickle.dumps(index.read_label))  # its arguments: class lists, tables of ids
    for item in index.items:
        digest.update(hashlib.sha256(item.label.read_bytes()).digest())
    return digest.hexdigest()


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
