"""A run's folder, and training as a function: it prints nothing and never exits the process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from runtime import files
from runtime.errors import HedgeError, OutputError
from runtime.outputs import sheet
from train.checkpoint import PREVIOUS, Checkpoint, find_checkpoint, last_good
from train.config import DEFAULT_DECODER, TrainConfig
from train.datasets import audit, default_data, open_index
from train.datasets.mixture import Portion, mixed
from train.loop.distributed import World, world
from train.loop.settings import CONFIG, RunConfig, to_builtins
from train.loop.task import VALIDATION, Epoch, Step, Task
from train.loop.trainer import Trainer
from train.record import curves
from train.record.logs import Log, TensorBoard, tracker
from train.segmentation import SegmentationTask

METRICS = "metrics.jsonl"
BATCH, CURVES = "batch.png", "results.png"
_REDRAW_S = 60  # between two drawings of the curves


@dataclass(frozen=True)
class RunResult:
    """A finished training.

    path: the run's folder with best.pt; miou, iou: of the best epoch, in 0..1 (miou is None if no
    epoch was validated, a class's if neither labels nor predictions have it); history: all epochs
    of the run, those before a resume included; best: the one with the highest mIoU, None without.
    """

    path: Path
    miou: float | None
    iou: dict[str, float | None]
    history: tuple[Epoch, ...]
    best: Epoch | None


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
    config = completed(config)

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
    history = _history(config.run)
    scored = [epoch for epoch in history if epoch.miou is not None]
    best = max(scored, key=lambda epoch: epoch.miou or 0, default=None)
    miou, iou = (best.miou, best.iou) if best else (None, {})
    return RunResult(config.run, miou, iou, history, best)


def _history(run: Path) -> tuple[Epoch, ...]:
    rows = (run / METRICS).read_bytes().splitlines()
    return tuple(msgspec.json.decode(row, type=Epoch) for row in rows)


def run(
    config: RunConfig,
    make_task: Callable[[World], Task],
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[Trainer], None] | None = None,
) -> None:
    """Train a task in the run's folder: config.json, metrics.jsonl, tensorboard/, its weights, and
    pictures of its first batch and its curves.

    OutputError if the folder holds another run and ``config`` says neither resume nor force, or if
    another process trains in it.
    """
    called = config.name or config.default_name
    if not config.resumed and (Path(called).name != called or called.startswith(".")):
        raise HedgeError(f"--name {called}: not a plain name; the folder of the runs is --out's")
    last = config.run / "last.pt"
    with world() as place, ExitStack() as stack:
        if place.first:
            stack.enter_context(files.locked(config.run))
        if last.exists() and not (config.resumed or config.force):
            raise OutputError(
                f"{config.run}: exists; --resume {config.run} continues it, --force replaces it"
            )
        trainer = Trainer(config, make_task(place), place)
        if config.resumed:
            trainer.restore(last)
        if not place.first:
            trainer.run(on_step or _ignore, on_epoch or _ignore)
            return
        logs: list[Log] = []
        for name in config.log:  # which may not start: what --force replaces is still there
            logs.append(tracker(name, config))
            stack.callback(logs[-1].close)
        _prepare(config, trainer.progress.epoch)
        if on_start:
            on_start(trainer)
        batches = trainer.sampler.batches
        done = trainer.progress.epoch * batches + trainer.progress.step
        logs.insert(0, TensorBoard(config.run / "tensorboard", done))
        stack.callback(logs[0].close)
        _draw_batch(config.run / BATCH, trainer, logs, done)
        stack.callback(_draw_results, config.run, trainer, logs)
        drawn = time.monotonic()

        def step(at: Step) -> None:
            for log in logs:
                log.step((at.epoch - 1) * batches + at.step, at.loss)
            (on_step or _ignore)(at)

        def epoch(row: Epoch) -> None:
            nonlocal drawn
            _record(config.run / METRICS, row)
            for log in logs:
                log.epoch(row.epoch * batches, row)
            if time.monotonic() - drawn > _REDRAW_S:
                curves.draw(_history(config.run), config.run / CURVES)
                drawn = time.monotonic()
            (on_epoch or _ignore)(row)

        trainer.run(step, epoch)


def _draw_batch(path: Path, trainer: Trainer, logs: Sequence[Log], done: int) -> None:
    """Before the first step, so that wrong labels show before hours are spent on them."""
    picture = trainer.task.example(trainer.sampler)
    if picture is not None:
        sheet.save(picture, path)
        for log in logs:
            log.picture(done, path)


def _draw_results(run: Path, trainer: Trainer, logs: Sequence[Log]) -> None:
    """At the end, also of an interrupted run."""
    if len(history := _history(run)) > 1:  # one point is no curve
        curves.draw(history, run / CURVES)
    done = trainer.progress.epoch * trainer.sampler.batches + trainer.progress.step
    for path in (run / CURVES, run / VALIDATION):
        for log in logs if path.exists() else ():
            log.picture(done, path)


def completed(config: TrainConfig) -> TrainConfig:
    """Options that ``config`` leaves open are those of the checkpoint it goes on with or starts
    from; terms those of its teacher as well."""
    if config.resumed:
        sources: list[Checkpoint | None] = [last_good(config.run / "last.pt", Checkpoint.load)]
    else:
        sources = [_loaded(config.start), _loaded(config.teacher)]
    start = sources[0]
    terms = dict.fromkeys(source.license for source in sources if source)
    return replace(
        config,
        backbone=config.backbone or (start.model.backbone if start else None),
        decoder=config.decoder or (start.model.decoder if start else DEFAULT_DECODER),
        size=config.size or (start.size if start and config.resumed else None),
        license=config.license or "; ".join(filter(None, terms)) or None,
    )


def _loaded(run: Path | None) -> Checkpoint | None:
    return None if run is None else Checkpoint.load(find_checkpoint(run))


def _ignore(_: object) -> None:
    """The callback where none is given."""


def _prepare(config: RunConfig, done: int) -> None:
    """Write config.json and cut metrics.jsonl back to the epochs that ``last.pt`` holds."""
    content = msgspec.json.format(msgspec.json.encode(to_builtins(config)))
    files.write_bytes(config.run / CONFIG, content)
    metrics = config.run / METRICS
    rows = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() and done else []
    files.write_bytes(metrics, b"".join(rows[:done]))
    if not config.resumed:
        # best.pt and its picture stay until better ones come.
        for name in ("last.pt", PREVIOUS, CURVES):
            (config.run / name).unlink(missing_ok=True)


def _record(metrics: Path, row: Epoch) -> None:
    with metrics.open("ab") as file:
        file.write(msgspec.json.encode(asdict(row)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
