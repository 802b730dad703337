"""The training loop of segmentation and edge networks; a run resumes bit-exactly on a CPU."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import GateError, HedgeError, one_line
from runtime.interrupt import interruptible
from train.augment import BatchSampler
from train.config import RunConfig
from train.device import exact_fp32
from train.loop.distributed import World
from train.loop.optimize import average, poly
from train.loop.task import Epoch, State, Step, Task

READ_EVERY = 16  # steps on a GPU between two looks at the loss, and at signals in other processes


@dataclass
class Progress:
    """Where a run stands: finished epochs, finished steps of the current one, best mIoU so far."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0


class Trainer:
    """A run: a task, what optimises its network, and where it stands."""

    def __init__(self, config: RunConfig, task: Task, world: World) -> None:
        self.config, self.task, self.world = config, task, world
        self.progress = Progress()
        self.network = task.network
        if world.size > 1 and world.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.ema = average(self.network, config.ema)
        self.sampler = BatchSampler(
            task.samples, config.batch, config.seed, world.rank, world.size, task.repeats
        )
        self.optimizer = torch.optim.AdamW(task.parameter_groups())
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, poly(config.epochs * self.sampler.batches)
        )
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=task.half is torch.float16)
        # Reading a loss waits for the GPU to finish its step.
        self.read_every = READ_EVERY if world.device.type == "cuda" else 1
        self._stop = threading.Event()

    @property
    def deployed(self) -> nn.Module:
        """The network that is validated and kept: the average where there is one."""
        return self.ema.module if self.ema is not None else self.network

    def run(self, on_step: Callable[[Step], None], on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the last epoch, saving after each; the first process calls the callbacks.

        In the main thread, the first SIGINT or SIGTERM ends the run after the current step, with
        a KeyboardInterrupt after a clean save; the second one acts at once.
        """
        parallel: nn.Module = self.network
        if self.world.size > 1:
            parallel = DistributedDataParallel(self.network)
        loader = self.task.loader(self.sampler)
        with interruptible(()) as self._stop, exact_fp32(self.task.fixed_size):
            while self.progress.epoch < self.config.last_epoch:
                started = time.perf_counter()
                loss, images_per_s = self._train_epoch(parallel, loader, on_step)
                seconds = time.perf_counter() - started
                self.progress = replace(self.progress, epoch=self.progress.epoch + 1, step=0)
                self._finish_epoch(loss, images_per_s, seconds, on_epoch)

    def _train_epoch(
        self, parallel: nn.Module, loader: DataLoader[Any], on_step: Callable[[Step], None]
    ) -> tuple[float, float]:
        self.sampler.epoch, self.sampler.start = self.progress.epoch, self.progress.step
        self.task.start_epoch(self.progress.epoch)
        total, batches, rate, started = 0.0, 0, 0.0, time.perf_counter()
        unread: list[torch.Tensor] = []
        for batch in loader:
            if isinstance(batch, HedgeError):
                raise batch
            unread.append(self._train_step(parallel, batch))
            self.progress.step += 1
            if not self._due():
                continue
            losses = self.world.means(unread)
            unread.clear()
            total, batches = sum(losses, total), batches + len(losses)
            rate = batches * self.config.batch / (time.perf_counter() - started)
            self._tell(losses, rate, on_step)
            if self.world.any(self._stop.is_set()):
                self._save(self.progress.best)
                raise KeyboardInterrupt
        return total / max(batches, 1), rate

    def _due(self) -> bool:
        """Whether losses are read after this step: by the count, in all processes alike."""
        step = self.progress.step
        alone = self.world.size == 1 and self._stop.is_set()
        return step % self.read_every == 0 or step == self.sampler.batches or alone

    def _tell(self, losses: list[float], rate: float, on_step: Callable[[Step], None]) -> None:
        """Call back for the last steps, one by one; GateError names the first without a loss."""
        epoch, steps = self.progress.epoch + 1, self.sampler.batches
        for step, loss in enumerate(losses, self.progress.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise GateError(
                    f"loss is {loss} at step {step} of epoch {epoch}; "
                    f"{self.config.run / 'last.pt'} holds the last good state; "
                    "try a lower --lr or --no-amp"
                )
            if self.world.first:
                on_step(Step(epoch, step, steps, loss, rate))

    def _train_step(self, parallel: nn.Module, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        batch = self.task.prepare(batch, self.schedule.last_epoch)
        image, *targets = (tensor.to(self.world.device, non_blocking=True) for tensor in batch)
        image = (image.float() / 255).to(memory_format=torch.channels_last)
        with self._autocast():
            outputs = self.task.forward(parallel, image, *targets)
        loss = self.task.loss(outputs, *targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return loss.detach()

    def _finish_epoch(
        self, loss: float, images_per_s: float, seconds: float, on_epoch: Callable[[Epoch], None]
    ) -> None:
        confusion = self._validated()
        if self.world.first:
            miou = confusion.miou() if confusion else None
            on_epoch(
                Epoch(
                    epoch=self.progress.epoch,
                    loss=loss,
                    miou=miou,
                    pixel_accuracy=confusion.pixel_accuracy() if confusion else None,
                    iou=confusion.iou_by_name() if confusion else {},
                    lr=float(self.schedule.get_last_lr()[-1]),
                    images_per_s=images_per_s,
                    seconds=seconds,
                )
            )
            improved = miou is not None and miou > self.progress.best
            if miou is not None:
                self.progress.best = max(miou, self.progress.best)
            self._save(self.progress.best if miou is None else miou, improved)
        if self.world.any(self._stop.is_set()):
            raise KeyboardInterrupt

    def _validated(self) -> ConfusionMatrix | None:
        """The score of the weights that the first process saves, each process's share summed."""
        self.world.agree(self.deployed)
        with self._autocast():
            confusion = self.task.validate(self.deployed, self.progress.epoch, self.world)
        if confusion is not None:
            confusion.counts = self.world.sum(confusion.counts)
        return confusion

    def _autocast(self) -> torch.autocast:
        half = self.task.half
        return torch.autocast(self.world.device.type, half, enabled=half is not None)

    def _save(self, miou: float, improved: bool = False) -> None:
        if not self.world.first:
            return
        training = {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema_updates": self.ema.n_averaged if self.ema is not None else None,
            "best": self.progress.best,
        }
        epoch, step, weights = self.progress.epoch, self.progress.step, self.deployed.state_dict()
        self.task.save(State(epoch, step, miou, weights, training), improved)

    def restore(self, path: Path) -> None:
        """Continue the run whose ``last.pt`` is ``path``; HedgeError if its settings differ."""
        saved = self.task.load(path)
        try:
            self._take_up(saved)
        except Exception as error:  # a file from anywhere may hold anything
            raise HedgeError(f"{path}: damaged training state: {one_line(error)}") from error

    def _take_up(self, saved: State) -> None:
        training = saved.training
        self.network.load_state_dict(training["model"])
        if self.ema is not None:
            self.deployed.load_state_dict(saved.weights)
            self.ema.n_averaged.copy_(training["ema_updates"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        if training["scaler"]:  # empty of a run in bf16, or in FP32
            self.scaler.load_state_dict(training["scaler"])
        self.progress = Progress(saved.epoch, saved.step, training["best"])
