"""``python -m train.hed``: the edge network's training in the terminal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from runtime import cli
from train import LIBRARIES
from train.hed.config import HedConfig

if TYPE_CHECKING:
    from train.hed.task import EdgeTask
    from train.loop.distributed import World
    from train.loop.trainer import Trainer


def main(config: HedConfig) -> None:
    """Train, and show how it goes; the run's folder holds the results."""
    cli.require(LIBRARIES, "train")
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from train.datasets import bsds
    from train.device import keep_freed_memory
    from train.hed.task import EdgeTask
    from train.loop.display import Display
    from train.run import run

    keep_freed_memory()

    def task(place: World) -> EdgeTask:
        pairs = bsds.pairs(config.data, "train")
        shown = cli.track(pairs, "reading", transient=True) if place.first else pairs
        drawings = [pair.read() for pair in shown]
        return EdgeTask(config, drawings, place.device, quiet=not place.first)

    with Display(config.epochs, partial(_headline, config)) as display:
        run(config, task, display.step, display.epoch, display.start)
    if display.started:
        cli.say(f"{config.last_epoch} epochs → {config.run / 'edges.pt'}", style="bold")


def _headline(config: HedConfig, trainer: Trainer) -> str:
    parameters = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    start = config.start or "from scratch"
    start += f", taught by {config.teacher}" if config.teacher else ""
    return (
        f"{config.net} ({parameters:.2f} M parameters, {start}), "
        f"{trainer.task.samples} images of {config.data}, crop {config.crop}, "
        f"{trainer.world.device.type}"
    )


if __name__ == "__main__":
    cli.run(HedConfig, main, "python -m train.hed")
