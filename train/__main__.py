"""``python -m train``: ``train.run.train`` in the terminal."""

from __future__ import annotations

from typing import cast

from runtime import cli
from train.config import TrainConfig
from train.device import keep_freed_memory
from train.loop.display import Display
from train.loop.trainer import Trainer
from train.run import train
from train.segmentation import SegmentationTask


def main(config: TrainConfig) -> None:
    """Train, and show how it goes; the run's folder holds the results."""
    keep_freed_memory()
    with Display(config.epochs, _headline) as display:
        result = train(config, display.step, display.epoch, display.start, quiet=False)
    if display.started and result.miou is not None:
        best = result.path / "best.pt"
        cli.say(f"best mIoU {100 * result.miou:.2f} % → {best}", style="bold")


def _headline(trainer: Trainer) -> str:
    task = cast(SegmentationTask, trainer.task)
    config = task.config
    given = config.start or config.weights
    start = "from scratch" if given is None else f"from {given}"
    dtype = str(task.half or "float32").removeprefix("torch.")
    parameters = sum(p.numel() for p in task.network.parameters()) / 1e6
    sources = " + ".join([str(config.data or task.train.root), *config.also])
    return (
        f"{config.variant} on {config.backbone_name} ({parameters:.1f} M parameters, {start}), "
        f"{len(task.train)} + {len(task.val)} images of {sources}, "
        f"crop {task.crop[0]}×{task.crop[1]}, {task.device.type} {dtype}"
    )


if __name__ == "__main__":
    cli.run(TrainConfig, main, "python -m train")
