"""Where a run is told to while it goes: TensorBoard's files, and trackers that are asked for.

A tracker is a row of ``TRACKERS`` and a class with ``Log``'s methods. Its library is imported when
it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import cv2
from torch.utils.tensorboard import SummaryWriter

from runtime import cli, files
from runtime.errors import HedgeError, one_line
from train.loop.settings import LogName, RunConfig, to_builtins
from train.loop.task import Epoch


class Log(Protocol):
    """What is told of a run; ``at``: steps since its start."""

    def step(self, at: int, loss: float) -> None:
        """After each step."""

    def epoch(self, at: int, row: Epoch) -> None:
        """After each epoch."""

    def picture(self, at: int, path: Path) -> None:
        """A PNG in the run's folder, when it is drawn."""

    def close(self) -> None:
        """At the run's end, or when it is interrupted."""


class TensorBoard:
    """Event files in the run's folder; what was told from step ``done`` on is forgotten."""

    def __init__(self, folder: Path, done: int) -> None:
        self._writer = SummaryWriter(folder, purge_step=done)
        self.close = self._writer.close

    def step(self, at: int, loss: float) -> None:
        """The curve of the loss."""
        self._writer.add_scalar("loss", loss, at)

    def epoch(self, at: int, row: Epoch) -> None:
        """Curves by epoch; a class without pixels has a gap."""
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, at)
        for name, iou in row.iou.items():
            self._writer.add_scalar(f"IoU/{name}", math.nan if iou is None else iou, row.epoch)

    def picture(self, at: int, path: Path) -> None:
        """By the file's name."""
        picture = cv2.imread(str(path))
        if picture is not None:
            self._writer.add_image(path.stem, picture[..., ::-1].copy(), at, dataformats="HWC")


class Mlflow:
    """A run of MLflow, at the place that its environment names (MLFLOW_TRACKING_URI)."""

    def __init__(self, config: RunConfig, known: str | None) -> None:
        import mlflow

        self._mlflow = mlflow
        self._run = mlflow.start_run(run_id=known, run_name=config.run.name)
        self.id: str = self._run.info.run_id
        if known is None:
            mlflow.log_params({name: str(value) for name, value in to_builtins(config).items()})

    def step(self, at: int, loss: float) -> None:
        """The curve of the loss."""
        self._mlflow.log_metric("loss", loss, step=at)

    def epoch(self, at: int, row: Epoch) -> None:
        """Curves by epoch."""
        self._mlflow.log_metrics(scalars(row) | _by_class(row), step=at)

    def picture(self, at: int, path: Path) -> None:
        """As an artifact."""
        self._mlflow.log_artifact(str(path))

    def close(self) -> None:
        """End MLflow's run."""
        self._mlflow.end_run()


class Wandb:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, config: RunConfig, known: str | None) -> None:
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project="hedge-seg", name=config.run.name, config=to_builtins(config), id=known,
            resume="allow", dir=str(config.run),
        )  # fmt: skip
        self.id: str = self._run.id

    def step(self, at: int, loss: float) -> None:
        """The curve of the loss."""
        self._run.log({"loss": loss}, step=at)

    def epoch(self, at: int, row: Epoch) -> None:
        """Curves by epoch, in the row of its last step."""
        self._run.log(scalars(row) | _by_class(row), step=at)

    def picture(self, at: int, path: Path) -> None:
        """As a picture."""
        self._run.log({path.stem: self._image(str(path))}, step=at)

    def close(self) -> None:
        """End the run there."""
        self._run.finish()


TRACKERS: dict[LogName, Callable[[RunConfig, str | None], Mlflow | Wandb]] = {
    "mlflow": Mlflow,
    "wandb": Wandb,
}


def scalars(row: Epoch) -> dict[str, float]:
    """The numbers of an epoch by the name of their curve."""
    values = {"lr": row.lr, "mIoU": row.miou, "val_loss": row.val_loss}
    values |= {f"losses/{name}": value for name, value in row.losses.items()}
    return {name: value for name, value in values.items() if value is not None}


def tracker(name: LogName, config: RunConfig) -> Mlflow | Wandb:
    """A tracker of ``TRACKERS`` that goes on with what it was told of this run before.

    MissingExtraError where its library is not installed; HedgeError says why it does not start.
    """
    cli.require((name,), name)
    config.run.mkdir(parents=True, exist_ok=True)  # a tracker may write there
    place = config.run / f".{name}"  # holds the tracker's own name of this run
    known = None
    if config.resumed:
        with suppress(FileNotFoundError):
            known = place.read_text().strip()
    try:
        log = TRACKERS[name](config, known)
    except Exception as error:  # of a library, a network, an account
        raise HedgeError(f"--log {name}: {one_line(error)}") from error
    files.write_bytes(place, log.id.encode())
    return log


def _by_class(row: Epoch) -> dict[str, float]:
    return {f"IoU/{name}": iou for name, iou in row.iou.items() if iou is not None}
