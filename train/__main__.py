"""``python -m train``: prepare the run's folder, train, show progress."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch.utils.tensorboard import SummaryWriter

from runtime import cli, files
from runtime.errors import HedgeError, OutputError
from train.checkpoint import Checkpoint, find_checkpoint
from train.config import TrainConfig, to_builtins
from train.datasets import audit, default_data, open_index
from train.datasets.mixture import Portion, mixed
from train.device import keep_freed_memory
from train.distributed import world
from train.loop import Epoch, Step, Trainer

CONFIG, METRICS = "config.json", "metrics.jsonl"


def main(config: TrainConfig) -> None:
    """Train; the run's folder holds everything that came of it."""
    keep_freed_memory()
    config = _completed(config)
    with world() as place:
        data = config.data or default_data()
        train, val = open_index(data, "train"), open_index(data, "val")
        if train.classes != val.classes:
            raise HedgeError(f"{data}: train and val have different class lists")
        portions = [Portion.parse(text) for text in config.also]
        others = [(open_index(each.data, "train"), each.weight) for each in portions]
        train = mixed(train, others, quiet=not place.first)
        audit.require_classes(train)
        if place.first:
            audit.warn_of(train)
            audit.warn_of(val)
        trainer = Trainer(config, train, val, place)
        last = config.run / "last.pt"
        if config.resume:
            trainer.restore(last)
        elif last.exists() and not config.force:
            raise OutputError(f"{config.run}: exists; --resume continues it, --force replaces it")
        if not place.first:
            trainer.run(on_step=lambda step: None, on_epoch=lambda epoch: None)
            return
        _prepare(config, trainer.progress.epoch)
        cli.say(_headline(config, trainer, data), cli.err)
        _run_with_progress(config, trainer)
        cli.say(
            f"best mIoU {100 * trainer.progress.best:.2f} % → {config.run / 'best.pt'}",
            style="bold",
        )


def _completed(config: TrainConfig) -> TrainConfig:
    """What the command line leaves open is as in the checkpoint it starts from."""
    if config.start is None:
        return config
    start = Checkpoint.load(find_checkpoint(config.start))
    return replace(
        config,
        backbone=config.backbone or start.model.backbone,
        license=config.license or start.license,
    )


def _prepare(config: TrainConfig, done: int) -> None:
    """Write config.json and cut metrics.jsonl back to the epochs that ``last.pt`` holds."""
    files.write_bytes(
        config.run / CONFIG, msgspec.json.format(msgspec.json.encode(to_builtins(config)))
    )
    metrics = config.run / METRICS
    rows = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() and done else []
    files.write_bytes(metrics, b"".join(rows[:done]))
    if not config.resume:
        for name in ("best.pt", "last.pt"):
            (config.run / name).unlink(missing_ok=True)


def _headline(config: TrainConfig, trainer: Trainer, data: Path) -> str:
    given = config.start or config.weights
    start = "from scratch" if given is None else f"from {given}"
    dtype = str(trainer.amp_dtype or "float32").removeprefix("torch.")
    sources = " + ".join([str(data), *config.also])
    parameters = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    return (
        f"{config.variant} on {config.backbone_name} ({parameters:.1f} M parameters, {start}), "
        f"{len(trainer.train_index)} + {len(trainer.val_index)} images of {sources}, "
        f"crop {trainer.crop[0]}×{trainer.crop[1]}, {trainer.world.device.type} {dtype}"
    )


def _run_with_progress(config: TrainConfig, trainer: Trainer) -> None:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[rate]:.1f} images/s"),
        TextColumn("mIoU {task.fields[miou]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    batches = trainer.sampler.batches
    done = trainer.progress.epoch * batches + trainer.progress.step
    with (
        SummaryWriter(config.run / "tensorboard", purge_step=done) as curves,
        Bar(*columns, console=cli.err) as bar,
    ):
        task = bar.add_task(
            "", total=config.epochs * batches, completed=done,
            epoch=trainer.progress.epoch, loss="–", rate=0.0, miou="–",
        )  # fmt: skip

        def on_step(step: Step) -> None:
            bar.update(
                task, advance=1, epoch=step.epoch, loss=f"{step.loss:.3f}", rate=step.images_per_s
            )
            curves.add_scalar("loss", step.loss, (step.epoch - 1) * batches + step.step)

        trainer.run(on_step, _epoch_writer(config, curves, bar, task, batches))


def _epoch_writer(
    config: TrainConfig, curves: SummaryWriter, bar: Bar, task: TaskID, batches: int
) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        with (config.run / METRICS).open("ab") as file:
            file.write(msgspec.json.encode(asdict(epoch)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        curves.add_scalar("lr", epoch.lr, epoch.epoch * batches)
        if epoch.miou is not None:
            curves.add_scalar("mIoU", epoch.miou, epoch.epoch * batches)
            bar.update(task, miou=f"{100 * epoch.miou:.2f} %")
        for name, iou in epoch.iou.items():
            curves.add_scalar(f"IoU/{name}", iou if iou is not None else math.nan, epoch.epoch)
        score = "–" if epoch.miou is None else f"{100 * epoch.miou:.2f} %"
        if not bar.console.is_terminal:  # a log file gets a line an epoch instead of a bar
            cli.err.print(
                f"epoch {epoch.epoch}/{config.epochs} loss {epoch.loss:.4f} "
                f"mIoU {score} {epoch.images_per_s:.1f} images/s "
                f"{epoch.seconds:.0f} s"
            )

    return on_epoch


if __name__ == "__main__":
    cli.run(TrainConfig, main, "python -m train")
