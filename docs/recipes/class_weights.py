"""What class weights of the loss cost a trained network: its scores with them taken back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from runtime import cli
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import HedgeError
from train.balance import class_weights
from train.checkpoint import Checkpoint, find_checkpoint
from train.datasets import open_index
from train.evaluation.scoring import evaluation_index, load_model
from train.models.hed import upsample

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class ClassWeights:
    """Tell a run's mIoU on val with its class weights taken back, in part or wholly.

    A class that weighs w in the cross-entropy has a score that is higher by log w at the optimum,
    which can be taken back behind the training (Menon et al., ICLR 2021).

    Example: python docs/recipes/class_weights.py runs/camvid/last.pt --data camvid
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run or checkpoint."""
    data: Path = field(default_factory=lambda: Path("camvid"))
    """The data set that it was trained on."""


@torch.inference_mode()
def main(config: ClassWeights) -> None:
    """Print a line a share."""
    checkpoint = Checkpoint.load(find_checkpoint(config.run))
    power = checkpoint.config.class_balance
    if not power:
        raise HedgeError(f"{config.run}: was trained with --class-balance 0; nothing to take back")
    train = open_index(config.data, "train")
    labels = (train.read_label(item.label) for item in cli.track(train.items, "counting classes"))
    counts = np.stack([np.bincount(x.ravel(), minlength=256)[: len(train.classes)] for x in labels])
    weights = class_weights(counts, power).log().reshape(-1, 1, 1)
    model, index = load_model(checkpoint), evaluation_index(checkpoint, config.data, "val")
    found = [ConfusionMatrix(index.classes) for _ in SHARES]
    for item in cli.track(index.items, f"evaluating {config.run}"):
        image, target = index.read(item)
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        scores = model(upsample(x, checkpoint.size), target.shape).logits[0]
        for share, confusion in zip(SHARES, found, strict=True):
            labels = (scores - share * weights).argmax(0).numpy().astype(np.uint8)
            confusion.update(target, labels)
    for share, confusion in zip(SHARES, found, strict=True):
        cli.out.print(f"{share:.0%} of the class weights taken back: {confusion.miou():.2%} mIoU")


if __name__ == "__main__":
    cli.run(ClassWeights, main, "python docs/recipes/class_weights.py")
