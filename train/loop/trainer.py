"""The training loop of segmentation and edge networks; a run resumes bit-exactly on a CPU."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from runtime.errors import GateError, HedgeError, one_line
from runtime.interrupt import interruptible
from runtime.outputs import sheet
from train.augment import BatchSampler
from train.device import exact_fp32
from train.loop.distributed import World
from train.loop.optimize import average, poly
from train.loop.settings import RunConfig
from train.loop.task import VALIDATION, Epoch, State, Step, Task, Validation

READ_EVERY = 16  # steps on a GPU between two looks at the loss, and at signals in other processes


@dataclass
class Progress:
    """Where a run stands: finished epochs, finished steps of the current one, best mIoU so far,
    validations since then, and the sum of each part of the loss over the current epoch's steps."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    stale: int = 0
    losses: dict[str, float] = field(default_factory=dict)


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

    @property
    def rate(self) -> float:
        """The learning rate of the network's last layer, which is a new one."""
        *_, last = self.network.parameters()
        groups = self.optimizer.param_groups
        return next(float(g["lr"]) for g in groups if any(p is last for p in g["params"]))

    @property
    def stuck(self) -> bool:
        """Whether the task's patience is over: too many validations without a better mIoU."""
        patience = self.task.patience
        return patience is not None and self.progress.stale >= patience

    def run(self, on_step: Callable[[Step], None], on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the last epoch, saving after each; the first process calls the callbacks.

        In the main thread, the first SIGINT, SIGTERM or SIGHUP ends it after the current step, with
        a KeyboardInterrupt after a clean save; the second one acts at once.
        """
        parallel: nn.Module = self.network
        if self.world.size > 1:
            parallel = DistributedDataParallel(self.network)
        loader = self.task.loader(self.sampler)
        with interruptible(()) as self._stop, exact_fp32(self.task.fixed_size), _ending(loader):
            while self.progress.epoch < self.config.last_epoch and not self.stuck:
                started = time.perf_counter()
                losses, images_per_s = self._train_epoch(parallel, loader, on_step)
                seconds = time.perf_counter() - started
                epoch = self.progress.epoch + 1
                self.progress = replace(self.progress, epoch=epoch, step=0, losses={})
                self._finish_epoch(losses, images_per_s, seconds, on_epoch)

    def _train_epoch(
        self, parallel: nn.Module, loader: DataLoader[Any], on_step: Callable[[Step], None]
    ) -> tuple[dict[str, float], float]:
        """The mean of each part of the loss over all of the epoch's steps, also those before a
        resume, and images per second."""
        self.sampler.epoch, self.sampler.start = self.progress.epoch, self.progress.step
        self.task.start_epoch(self.progress.epoch)
        batches, rate, started = 0, 0.0, time.perf_counter()
        totals = self.progress.losses
        unread: list[torch.Tensor] = []
        for batch in loader:
            if isinstance(batch, HedgeError):
                raise batch
            parts = self._train_step(parallel, batch)
            unread.append(torch.stack(list(parts.values())))
            self.progress.step += 1
            if not self._due():
                continue
            steps = self.world.means(unread)
            unread.clear()
            for name, values in zip(parts, zip(*steps, strict=True), strict=True):
                totals[name] = totals.get(name, 0.0) + sum(values)
            batches += len(steps)
            rate = batches * self.config.batch / (time.perf_counter() - started)
            self._tell([sum(step) for step in steps], rate, on_step)
            if self.world.any(self._stop.is_set()):
                self._require_finite()
                self._save(self.progress.best)
                raise KeyboardInterrupt
        return {name: total / self.progress.step for name, total in totals.items()}, rate

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
                raise self._diverged(f"loss is {loss} at step {step} of epoch {epoch}")
            if self.world.first:
                on_step(Step(epoch, step, steps, loss, rate))

    def _require_finite(self) -> None:
        """GateError, before anything is saved, where the last step spoiled the weights: its loss is
        that of the weights before it."""
        spoiled = not all(tensor.isfinite().all() for tensor in self.network.state_dict().values())
        if self.world.any(spoiled):
            raise self._diverged(f"weights are not finite after {self.schedule.last_epoch} steps")

    def _diverged(self, what: str) -> GateError:
        last = self.config.run / "last.pt"
        kept = f"{last} holds the last good state; " if last.exists() else ""
        return GateError(f"{what}; {kept}try a lower --lr or --no-amp")

    def _train_step(
        self, parallel: nn.Module, batch: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        batch = self.task.prepare(batch, self.schedule.last_epoch)
        image, *targets = (tensor.to(self.world.device, non_blocking=True) for tensor in batch)
        image = (image.float() / 255).to(memory_format=torch.channels_last)
        with self._autocast():
            outputs = self.task.forward(parallel, image, *targets)
        parts = self.task.losses(outputs, *targets)
        loss = functools.reduce(torch.add, parts.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return {name: part.detach() for name, part in parts.items()}

    def _finish_epoch(
        self,
        losses: dict[str, float],
        images_per_s: float,
        seconds: float,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        self._require_finite()
        found = self._validated()
        confusion = found.confusion if found else None
        miou = confusion.miou() if confusion else None
        if self.world.first:
            on_epoch(
                Epoch(
                    epoch=self.progress.epoch,
                    loss=sum(losses.values()),
                    miou=miou,
                    pixel_accuracy=confusion.pixel_accuracy() if confusion else None,
                    iou=confusion.iou_by_name() if confusion else {},
                    lr=self.rate,
                    images_per_s=images_per_s,
                    seconds=seconds,
                    losses=losses,
                    val_loss=found.mean_loss() if found else None,
                    precision=confusion.by_name(confusion.precision()) if confusion else {},
                    recall=confusion.by_name(confusion.recall()) if confusion else {},
                )
            )
        improved = miou is not None and miou > self.progress.best
        if miou is not None:
            self.progress.best = max(miou, self.progress.best)
            self.progress.stale = 0 if improved else self.progress.stale + 1
        self._save(self.progress.best if miou is None else miou, improved)
        if found and improved and self.world.first:
            with self._autocast():
                picture = self.task.looked_at(self.deployed, found.images)
            if picture is not None:
                sheet.save(picture, self.config.run / VALIDATION)
        if self.world.any(self._stop.is_set()):
            raise KeyboardInterrupt

    def _validated(self) -> Validation | None:
        """The score of the weights that the first process saves, each process's share summed."""
        self.world.agree(self.deployed)
        with self._autocast():
            found = self.task.validate(self.deployed, self.progress.epoch, self.world)
        if found is not None:
            found.shared(self.world)
        return found

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
            "stale": self.progress.stale,
            "losses": self.progress.losses,
        }
        epoch, step, weights = self.progress.epoch, self.progress.step, self.deployed.state_dict()
        self.task.save(State(epoch, step, miou, weights, training), improved)

    def restore(self, path: Path) -> None:
        """Continue the run whose ``last.pt`` is ``path``; HedgeError if its settings differ."""
        try:
            self._take_up(self.task.load(path))
        except HedgeError:
            raise
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
        batches = self.sampler.batches  # of other data than before there may be more, or fewer
        self.schedule.last_epoch = saved.epoch * batches + min(saved.step, batches)
        if training["scaler"]:  # empty of a run in bf16, or in FP32
            self.scaler.load_state_dict(training["scaler"])
        self._set_rates()
        best, stale = training["best"], training.get("stale", 0)
        losses = dict(training.get("losses", {}))  # a version before kept none
        self.progress = Progress(saved.epoch, saved.step, best, stale, losses)

    def _set_rates(self) -> None:
        """The learning rates of the schedule at its step, which is another one in a grown run."""
        schedule = self.schedule
        for group, base, factor in zip(
            self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)


@contextmanager
def _ending(loader: DataLoader[Any]) -> Iterator[None]:
    """End the loader's processes with the block; HedgeError where one of them was killed.

    Also where what went wrong is kept, as a notebook does: its traceback holds the loader, and
    Python's own exit waits for them without end, for they leave signals to their parent.
    """
    try:
        yield
    except RuntimeError as error:  # PyTorch raises it anywhere
        if not str(error).startswith("DataLoader worker"):
            raise
        raise HedgeError(
            f"{one_line(error)} Where memory is full, or a container's /dev/shm (docker run "
            "--shm-size 2g), give --workers 0 or a smaller --batch or --crop; --resume goes on"
        ) from error
    finally:
        if loader._iterator is not None:  # there are processes
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the parallel one
