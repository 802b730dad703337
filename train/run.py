"""A run's folder, and training as a function: it prints nothing and never exits the process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
from torch.utils.tensorboard import SummaryWriter

from runtime import files
from runtime.errors import HedgeError, OutputError
from train.checkpoint import PREVIOUS, Checkpoint, find_checkpoint
from train.config import RunConfig, TrainConfig, to_builtins
from train.datasets import audit, default_data, open_index
from train.datasets.mixture import Portion, mixed
from train.loop.distributed import World, world
from train.loop.task import Epoch, Step, Task
from train.loop.trainer import Trainer
from train.segmentation import SegmentationTask

CONFIG, METRICS = "config.json", "metrics.jsonl"


@dataclass(frozen=True)
class RunResult:
    """A finished training.

    path: the run's folder with best.pt; miou, iou: of the best epoch, in 0..1 (miou is None if no
    epoch was validated, a class's if neither labels nor predictions have it); history: all epochs
    of the run, those before a resume included.
    """

    path: Path
    miou: float | None
    iou: dict[str, float | None]
    history: tuple[Epoch, ...]


def train(
    config: TrainConfig,
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[Trainer], None] | None = None,
    quiet: bool = True,
) -> RunResult:
    """Train a segmentation model in ``config.run``; the callbacks run in the first process only.

    on_start: called once, before the first step, with the run as restored; quiet: no warnings and
    no progress bars while data is generated, checked or counted. HedgeError (exit codes in
    runtime.errors) names a setting or a file; KeyboardInterrupt after a signal, with last.pt saved.
    """
    config = _completed(config)

    def task(place: World) -> Task:
        hushed = quiet or not place.first
        data = config.data or default_data(hushed)
        train, val = (open_index(data, split, hushed) for split in ("train", "val"))
        if train.classes != val.classes:
            raise HedgeError(f"{data}: train and val have different class lists")
        portions = [Portion.parse(text) for text in config.also]
        others = [(open_index(each.data, "train", hushed), each.weight) for each in portions]
        train = mixed(train, others, hushed)
        audit.before_training(train, val, hushed)
        return SegmentationTask(config, train, val, place, hushed)

    run(config, task, on_step, on_epoch, on_start)
    rows = (config.run / METRICS).read_bytes().splitlines()
    history = tuple(msgspec.json.decode(row, type=Epoch) for row in rows)
    scored = [epoch for epoch in history if epoch.miou is not None]
    best = max(scored, key=lambda epoch: epoch.miou or 0, default=None)
    return RunResult(config.run, best.miou if best else None, best.iou if best else {}, history)


def run(
    config: RunConfig,
    make_task: Callable[[World], Task],
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[Trainer], None] | None = None,
) -> None:
    """Train a task in the run's folder: config.json, metrics.jsonl, tensorboard/, its weights.

    OutputError if the folder holds another run and ``config`` says neither resume nor force, or if
    another process trains in it.
    """
    last = config.run / "last.pt"
    with world() as place, ExitStack() as stack:
        if place.first:
            stack.enter_context(files.locked(config.run))
        if last.exists() and not (config.resume or config.force):
            raise OutputError(f"{config.run}: exists; --resume continues it, --force replaces it")
        trainer = Trainer(config, make_task(place), place)
        if config.resume:
            trainer.restore(last)
        if not place.first:
            trainer.run(on_step or _ignore, on_epoch or _ignore)
            return
        _prepare(config, trainer.progress.epoch)
        if on_start:
            on_start(trainer)
        batches = trainer.sampler.batches
        done = trainer.progress.epoch * batches + trainer.progress.step
        with SummaryWriter(config.run / "tensorboard", purge_step=done) as curves:

            def step(at: Step) -> None:
                curves.add_scalar("loss", at.loss, (at.epoch - 1) * batches + at.step)
                (on_step or _ignore)(at)

            def epoch(row: Epoch) -> None:
                _record(config.run / METRICS, row)
                curves.add_scalar("lr", row.lr, row.epoch * batches)
                if row.miou is not None:
                    curves.add_scalar("mIoU", row.miou, row.epoch * batches)
                for name, iou in row.iou.items():
                    value = iou if iou is not None else math.nan
                    curves.add_scalar(f"IoU/{name}", value, row.epoch)
                (on_epoch or _ignore)(row)

            trainer.run(step, epoch)


def _completed(config: TrainConfig) -> TrainConfig:
    """Options that ``config`` leaves open are those of the checkpoint it starts from."""
    if config.start is None:
        return config
    start = Checkpoint.load(find_checkpoint(config.start))
    backbone = config.backbone or start.model.backbone
    return replace(config, backbone=backbone, license=config.license or start.license)


def _ignore(_: object) -> None:
    """The callback where none is given."""


def _prepare(config: RunConfig, done: int) -> None:
    """Write config.json and cut metrics.jsonl back to the epochs that ``last.pt`` holds."""
    content = msgspec.json.format(msgspec.json.encode(to_builtins(config)))
    files.write_bytes(config.run / CONFIG, content)
    metrics = config.run / METRICS
    rows = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() and done else []
    files.write_bytes(metrics, b"".join(rows[:done]))
    if not config.resume:
        for name in ("last.pt", PREVIOUS):  # weights stay until new ones take their place
            (config.run / name).unlink(missing_ok=True)


def _record(metrics: Path, row: Epoch) -> None:
    with metrics.open("ab") as file:
        file.write(msgspec.json.encode(asdict(row)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
