"""``python -m train.hed``: prepare the run's folder, train, show progress."""

from __future__ import annotations

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar

from runtime import cli, files
from runtime.errors import OutputError
from train.config import to_builtins
from train.datasets import bsds
from train.device import keep_freed_memory
from train.hed.config import HedConfig
from train.hed.loop import HedTrainer

CONFIG, METRICS = "config.json", "metrics.jsonl"


def main(config: HedConfig) -> None:
    """Train; the run's folder holds everything that came of it."""
    keep_freed_memory()
    last = config.run / "last.pt"
    if last.exists() and not (config.resume or config.force):
        raise OutputError(f"{config.run}: exists; --resume continues it, --force replaces it")
    pairs = bsds.pairs(config.data, "train")
    drawings = [p.read() for p in track(pairs, "reading", console=cli.err, transient=True)]
    trainer = HedTrainer(config, drawings)
    if config.resume:
        trainer.restore(last)
    _prepare(config, trainer.epoch)
    parameters = sum(p.numel() for p in trainer.hed.parameters()) / 1e6
    cli.say(
        f"{config.net} ({parameters:.2f} M parameters, {config.start or 'from scratch'}), "
        f"{len(drawings)} images of {config.data}, crop {config.crop}, {trainer.device.type}",
        cli.err,
    )
    _run_with_progress(config, trainer)
    cli.say(f"{trainer.epoch} epochs → {config.run / 'edges.pt'}", style="bold")


def _prepare(config: HedConfig, done: int) -> None:
    """Write config.json and cut metrics.jsonl back to the epochs that ``last.pt`` holds."""
    content = msgspec.json.format(msgspec.json.encode(to_builtins(config)))
    files.write_bytes(config.run / CONFIG, content)
    metrics = config.run / METRICS
    rows = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() and done else []
    files.write_bytes(metrics, b"".join(rows[:done]))
    if not done:
        for name in ("edges.pt", "last.pt"):
            (config.run / name).unlink(missing_ok=True)


def _run_with_progress(config: HedConfig, trainer: HedTrainer) -> None:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    batches = trainer.sampler.batches
    with Bar(*columns, console=cli.err) as bar:
        task = bar.add_task(
            "", total=config.epochs * batches, completed=trainer.epoch * batches,
            epoch=trainer.epoch, loss="–",
        )  # fmt: skip
        for epoch in trainer.epochs(
            lambda loss: bar.update(task, advance=1, epoch=trainer.epoch + 1, loss=f"{loss:.4f}")
        ):
            with (config.run / METRICS).open("ab") as file:
                file.write(msgspec.json.encode(epoch) + b"\n")
            if not bar.console.is_terminal:  # a log file gets a line an epoch instead of a bar
                cli.err.print(
                    f"epoch {epoch.epoch}/{config.epochs} loss {epoch.loss:.4f} "
                    f"{epoch.images_per_s:.1f} images/s"
                )


if __name__ == "__main__":
    cli.run(HedConfig, main, "python -m train.hed")
