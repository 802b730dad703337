"""Batch-norm statistics for whole frames: half those of the training's crops, half new ones.

usage: whole_frames.py CHECKPOINT OUT FULL SEQUENCES SMALL, data sets as in street19.sh
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.evaluation.scoring import load_model

EVERY = (1, 6, 60)  # of FULL, SEQUENCES and SMALL: 26 + 10 + 50 frames

source, target, *data = map(Path, sys.argv[1:])
checkpoint = Checkpoint.load(source)
model = load_model(checkpoint)
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm2d):
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
frames = []
for path, every in zip(data, EVERY, strict=True):
    index = open_index(path, "train")
    frames += [(index, item) for item in index.items[::every]]
with torch.no_grad():
    for start in range(0, len(frames), 2):
        images = [
            torch.from_numpy(index.read(item)[0].copy()).permute(2, 0, 1)[None] / 255
            for index, item in frames[start : start + 2]
        ]
        sized = [F.interpolate(x, checkpoint.size, mode="bilinear", antialias=True) for x in images]
        model(torch.cat(sized))
found = model.state_dict()
weights = {
    name: (tensor + found[name]) / 2 if tensor.is_floating_point() else tensor
    for name, tensor in checkpoint.weights.items()
}
replace(checkpoint, weights=weights).save(target)
