"""``python -m train``: ``train.run.train`` in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime import cli
from train import LIBRARIES
from train.config import TrainConfig
from train.datasets import require_there

if TYPE_CHECKING:
    from train.loop.task import Epoch
    from train.loop.trainer import Trainer
    from train.run import RunResult
    from train.segmentation import SegmentationTask


def main(config: TrainConfig) -> None:
    """Train, and show how it goes; the run's folder holds the results."""
    cli.require(LIBRARIES, "train")
    if config.data is not None:
        require_there(config.data)  # told at once, for PyTorch takes seconds to load
    # Here and below, not at the start: --help and a wrong option wait for no PyTorch.
    from train.device import keep_freed_memory
    from train.loop.display import Display
    from train.run import train

    keep_freed_memory()
    with Display(config.epochs, _headline) as display:
        result = train(config, display.step, display.epoch, display.start, quiet=False)
    if display.started and result.best is not None:
        _conclude(result, result.best, config)


def _conclude(result: RunResult, best: Epoch, config: TrainConfig) -> None:
    """The best epoch's table, where everything is, and what comes next."""
    from train.loop.task import VALIDATION
    from train.record import tables
    from train.run import BATCH, CURVES

    columns = {"IoU %": best.iou, "precision %": best.precision, "recall %": best.recall}
    columns = {name: values for name, values in columns.items() if values}  # of a version before
    means = [best.miou, *(tables.mean(columns[name].values()) for name in list(columns)[1:])]
    cli.out.print(tables.by_class(f"epoch {best.epoch}, validation", columns, means))
    last = result.history[-1].epoch
    if last < config.last_epoch:
        cli.say(f"ended after epoch {last}: no better mIoU for {config.patience} validations")
    path = result.path
    cli.say(f"best mIoU {100 * (best.miou or 0):.2f} % → {path / 'best.pt'}", style="bold")
    pictures = [path / name for name in (CURVES, VALIDATION, BATCH) if (path / name).exists()]
    cli.say(f"pictures: {', '.join(map(str, pictures))}")
    cli.say(f"next: hedge export {path} --int8")


def _headline(trainer: Trainer) -> str:
    task = cast("SegmentationTask", trainer.task)
    config = task.config
    given = config.start or config.weights
    start = "from scratch" if given is None else f"from {given}"
    start += f", taught by {config.teacher}" if config.teacher else ""
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
