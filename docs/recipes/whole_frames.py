"""Batch-norm statistics for whole frames: half those of the training's crops, half new ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import nn
from torch.nn import functional as F

from runtime import cli
from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.evaluation.scoring import load_model

EVERY = (1, 6, 60)  # of FULL, SEQUENCES and SMALL: 26 + 10 + 50 frames


@dataclass(frozen=True)
class WholeFrames:
    """Give a checkpoint batch-norm statistics of whole frames: half its own, half new ones.

    Data sets as in street19.sh, which calls this.

    Example: python docs/recipes/whole_frames.py runs/a/best.pt whole.pt full sequences.txt small
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """What was trained on crops."""
    out: Annotated[Path, tyro.conf.Positional]
    """The new checkpoint."""
    full: Annotated[Path, tyro.conf.Positional]
    """Exact frames, each of which counts."""
    sequences: Annotated[Path, tyro.conf.Positional]
    """Frames of sequences, of which every sixth counts."""
    small: Annotated[Path, tyro.conf.Positional]
    """Small frames, of which every sixtieth counts."""


def resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, 3, H, W) at ``size`` (H, W)."""
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def main(config: WholeFrames) -> None:
    """Pass the frames through the network, and write the mean of both statistics."""
    checkpoint = Checkpoint.load(config.checkpoint)
    model = load_model(checkpoint)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
    frames = []
    for path, every in zip((config.full, config.sequences, config.small), EVERY, strict=True):
        index = open_index(path, "train")
        frames += [(index, item) for item in index.items[::every]]
    with torch.no_grad():
        for start in range(0, len(frames), 2):
            images = [
                torch.from_numpy(index.read(item)[0].copy()).permute(2, 0, 1)[None] / 255
                for index, item in frames[start : start + 2]
            ]
            model(torch.cat([resized(image, checkpoint.size) for image in images]))
    found = model.state_dict()
    weights = {
        name: (tensor + found[name]) / 2 if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.weights.items()
    }
    replace(checkpoint, weights=weights).save(config.out)


if __name__ == "__main__":
    cli.run(WholeFrames, main, "python docs/recipes/whole_frames.py")
