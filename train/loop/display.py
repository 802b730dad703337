"""A training in the terminal: a line an epoch that stays, and a bar below it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from runtime import cli
from train.device import slowed_by
from train.loop.task import Epoch, Step
from train.loop.trainer import Trainer


class Display(ExitStack):
    """Callbacks of ``train.run`` that show a run of so many epochs; a bar until it is left."""

    def __init__(self, epochs: int, headline: Callable[[Trainer], str]) -> None:
        super().__init__()
        self.epochs, self.headline = epochs, headline
        self.best = 0.0
        self.started = False
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]:.1f} images/s"),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=cli.err,
        )

    def start(self, trainer: Trainer) -> None:
        """Print the headline, and start the bar where the run stands."""
        cli.say(self.headline(trainer), cli.err)
        if trainer.world.device.type == "cpu" and (reason := slowed_by()):
            cli.warn(reason)
        batches, progress = trainer.sampler.batches, trainer.progress
        self.best = max(progress.best, 0.0)
        done = progress.epoch * batches + progress.step
        fields: dict[str, Any] = {"epoch": progress.epoch, "loss": "–", "rate": 0.0, "score": ""}
        self.enter_context(self.bar)
        self.started = True
        self.task = self.bar.add_task("", total=self.epochs * batches, completed=done, **fields)

    def step(self, step: Step) -> None:
        """Advance the bar."""
        loss = f"{step.loss:.4f}"
        self.bar.update(self.task, advance=1, epoch=step.epoch, loss=loss, rate=step.images_per_s)

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line, which stays above the bar."""
        best = epoch.miou is not None and epoch.miou > self.best
        self.best = max(self.best, epoch.miou or 0.0)
        words = [f"epoch {epoch.epoch}/{self.epochs} loss {epoch.loss:.4f}"]
        if epoch.val_loss is not None:
            words.append(f"val {epoch.val_loss:.4f}")
        if epoch.miou is not None:
            words.append(f"mIoU {100 * epoch.miou:.2f} %{' best' if best else ''}")
        words.append(f"{epoch.images_per_s:.1f} images/s {epoch.seconds:.0f} s")
        self.bar.update(self.task, score=f"best {100 * self.best:.2f} %" if self.best else "")
        self.bar.console.print(" ".join(words), soft_wrap=True)
