"""The training loop: one function a step, one an epoch, state that resumes bit-exactly on a CPU."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import GateError, HedgeError
from train.augment import BatchSampler, Loaded, Sample, TrainingSet, collate, training_transform
from train.balance import class_weights, label_counts, repeat_factors
from train.checkpoint import Checkpoint, find_checkpoint, start_from
from train.config import TrainConfig, to_builtins
from train.datasets.index import Index
from train.device import half_precision
from train.distributed import World
from train.evaluate import evaluate
from train.losses import edge_loss, jaccard_loss, segmentation_loss
from train.models import DeepLab
from train.models.hed import load_hed_weights
from train.optimize import average, parameter_groups, poly

LONGEST_SIDE = 1024


@dataclass
class Progress:
    """Where a run stands: finished epochs, finished steps of the current one, best mIoU so far."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0


@dataclass(frozen=True)
class Step:
    """What the display shows after each step; loss is the mean over all processes."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_s: float


@dataclass(frozen=True)
class Epoch:
    """A row of metrics.jsonl; without scores where the epoch was not validated."""

    epoch: int
    loss: float
    miou: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]
    lr: float
    images_per_s: float
    seconds: float


class Trainer:
    """A run: the network, what trains it, and where it stands. ``run`` does the work."""

    def __init__(self, config: TrainConfig, train: Index, val: Index, world: World) -> None:
        self.config, self.world = config, world
        self.train_index, self.val_index = train, val
        self.size = config.size or default_size(train)
        self.crop = config.crop or self.size
        self.progress = Progress()
        torch.manual_seed(config.seed)
        self.model = DeepLab(config.model(len(train.classes)), config.weights)
        if config.edge_weights:
            if self.model.hed is None:
                raise HedgeError(
                    f"--edge-weights {config.edge_weights}: this model has no edge network to "
                    "fill; add --variant dlse_hed --hed lite (or vgg16), or drop the weights"
                )
            load_hed_weights(self.model.hed, config.edge_weights)
            self.model.hed.requires_grad_(False)
        if config.start:
            start_from(self.model, find_checkpoint(config.start))
        self.model.to(world.device).to(memory_format=torch.channels_last)
        self.class_weights: torch.Tensor | None = None
        repeats = None
        if config.class_balance or config.oversample or train.weights is not None:
            counts = label_counts(train, quiet=not world.first)
            if config.class_balance:
                self.class_weights = class_weights(counts, config.class_balance).to(world.device)
            repeats = repeat_factors(counts, config.oversample, train.weights)
        if world.size > 1 and world.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.ema = average(self.model, config.ema)
        self.sampler = BatchSampler(
            len(train.items), config.batch, config.seed, world.rank, world.size, repeats
        )
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, config), config.lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, poly(config.epochs * self.sampler.batches)
        )
        self.scaler = torch.amp.GradScaler(enabled=self.amp_dtype is torch.float16)
        self._stop = False

    @property
    def amp_dtype(self) -> torch.dtype | None:
        """The half precision this device computes in; None for full precision."""
        return half_precision(self.world.device) if self.config.amp else None

    @property
    def deployed(self) -> DeepLab:
        """The network that is validated and kept: the average where there is one."""
        return cast(DeepLab, self.ema.module) if self.ema is not None else self.model

    @property
    def _frozen_hed(self) -> nn.Module | None:
        """The edge network, where it came with weights and has nothing to learn."""
        return self.model.hed if self.config.edge_weights else None

    def run(self, on_step: Callable[[Step], None], on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the last epoch, saving after each; KeyboardInterrupt after a clean save."""
        parallel: nn.Module = self.model
        if self.world.size > 1:
            parallel = DistributedDataParallel(self.model)
        loader = self._loader()
        with self._stop_on_signals():
            while self.progress.epoch < self.config.last_epoch:
                started = time.perf_counter()
                loss, images_per_s = self._train_epoch(parallel, loader, on_step)
                seconds = time.perf_counter() - started
                self.progress = replace(self.progress, epoch=self.progress.epoch + 1, step=0)
                self._finish_epoch(loss, images_per_s, seconds, on_epoch)

    def _train_epoch(
        self,
        parallel: nn.Module,
        loader: DataLoader[Loaded],
        on_step: Callable[[Step], None],
    ) -> tuple[float, float]:
        self.sampler.epoch, self.sampler.start = self.progress.epoch, self.progress.step
        parallel.train()
        self._hold_still()
        total, batches, started = 0.0, 0, time.perf_counter()
        for sample in loader:
            if isinstance(sample, HedgeError):
                raise sample
            loss = self.world.mean(self._train_step(parallel, sample))
            total, batches = total + loss, batches + 1
            self.progress.step += 1
            rate = batches * self.config.batch / (time.perf_counter() - started)
            here = (self.progress.epoch + 1, self.progress.step, self.sampler.batches)
            on_step(Step(*here, loss, rate))
            if self.world.any(self._stop):
                self._save("last.pt", miou=self.progress.best)
                raise KeyboardInterrupt
        return total / max(batches, 1), batches * self.config.batch / (
            time.perf_counter() - started
        )

    def _train_step(self, parallel: nn.Module, sample: Sample) -> torch.Tensor:
        device = self.world.device
        image, target, edges = (tensor.to(device, non_blocking=True) for tensor in sample)
        image = (image.float() / 255).to(memory_format=torch.channels_last)
        target, edges = (self._thinned(labels) for labels in (target, edges))
        size = (target.shape[-2], target.shape[-1])
        with torch.autocast(device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            logits, edge_logits = parallel(image, size)
        loss = segmentation_loss(
            logits, target, self.config.ohem, self.config.label_smoothing, self.class_weights
        )
        if self.config.jaccard:
            loss = loss + self.config.jaccard * jaccard_loss(logits, target)
        if edge_logits is not None and self._frozen_hed is None:
            loss = loss + self.config.edge_loss * edge_loss(edge_logits, edges)
        if not torch.isfinite(loss):
            raise GateError(
                f"loss is {float(loss.detach())} at step {self.progress.step + 1} of epoch "
                f"{self.progress.epoch + 1}; {self.config.run / 'last.pt'} holds the last good "
                "state; try a lower --lr or --no-amp"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return loss.detach()

    def _thinned(self, labels: torch.Tensor) -> torch.Tensor:
        """Every loss_stride-th row and column of (N, H, W) labels, the first by the step's turn."""
        stride, step = self.config.loss_stride, self.progress.step
        return labels[:, step % stride :: stride, step // stride % stride :: stride]

    def _finish_epoch(
        self, loss: float, images_per_s: float, seconds: float, on_epoch: Callable[[Epoch], None]
    ) -> None:
        if self.world.first:
            confusion = self._validated() if self._is_validation_due() else None
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
            if miou is not None and miou > self.progress.best:
                self.progress.best = miou
                self._save("best.pt", miou)
            self._save("last.pt", self.progress.best if miou is None else miou)
        if self.world.any(self._stop):
            raise KeyboardInterrupt

    def _is_validation_due(self) -> bool:
        epoch, last = self.progress.epoch, self.config.last_epoch
        return epoch % self.config.validate_every == 0 or epoch == last

    def _validated(self) -> ConfusionMatrix:
        """What the network that is kept makes of the validation split."""
        device = self.world.device.type
        with torch.autocast(device, self.amp_dtype, enabled=self.amp_dtype is not None):
            result = evaluate(self.deployed.eval(), self.val_index, self.size, boundaries=False)
        return result.confusion

    def _save(self, name: str, miou: float) -> None:
        if not self.world.first:
            return
        training: dict[str, Any] = {}
        if name == "last.pt":
            training = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema_updates": self.ema.n_averaged if self.ema is not None else None,
                "best": self.progress.best,
            }
        Checkpoint(
            config=self.config,
            model=self.model.config,
            classes=self.train_index.classes,
            size=self.size,
            weights=self.deployed.state_dict(),
            epoch=self.progress.epoch,
            step=self.progress.step,
            miou=miou,
            training=training,
            license=self.config.license,
        ).save(self.config.run / name)

    def restore(self, path: Path) -> None:
        """Take up a run at its ``last.pt``; HedgeError names settings that differ from it."""
        saved = Checkpoint.load(path)
        now, then = to_builtins(self.config), to_builtins(saved.config)
        for name in ("hed", "backbone"):  # defaults change
            now[name], then[name] = getattr(self.model.config, name), getattr(saved.model, name)
        movable = {"resume", "force", "until", "out", "name", "workers", "data", "validate_every"}
        changed = [k for k in now if k not in movable and now[k] != then.get(k)]
        if changed or saved.classes != self.train_index.classes:
            what = ", ".join(f"{k} {then.get(k)} → {now[k]}" for k in changed) or "classes"
            raise HedgeError(f"{path}: cannot resume with other settings ({what}); drop --resume")
        if not saved.training:
            raise HedgeError(f"{path}: holds no training state; resume from last.pt")
        self.model.load_state_dict(saved.training["model"])
        if self.ema is not None:
            self.deployed.load_state_dict(saved.weights)
            self.ema.n_averaged.copy_(saved.training["ema_updates"])
        self.optimizer.load_state_dict(saved.training["optimizer"])
        self.schedule.load_state_dict(saved.training["schedule"])
        self.scaler.load_state_dict(saved.training["scaler"])
        self.progress = Progress(saved.epoch, saved.step, saved.training["best"])

    def _loader(self) -> DataLoader[Loaded]:
        transform = training_transform(self.size, self.crop, self.config.scale)
        return DataLoader(
            TrainingSet(self.train_index, transform),
            batch_sampler=self.sampler,
            collate_fn=collate,
            num_workers=self.config.workers,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=self.world.device.type == "cuda",
        )

    def _hold_still(self) -> None:
        """Keep what must not move this epoch: frozen batch-norm statistics, frozen HED."""
        if self.progress.epoch < self.config.freeze_bn:
            for module in self.model.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if self._frozen_hed is not None:
            self._frozen_hed.eval()

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """First SIGINT or SIGTERM: finish the step, save, leave. The second one kills."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._stop = True
            signal.signal(number, previous[signal.Signals(number)])

        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def default_size(index: Index) -> tuple[int, int]:
    """The first image's (H, W), scaled down to at most 1024 on the longer side."""
    height, width = index.read(index.items[0])[0].shape[:2]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    return round(height * shrink), round(width * shrink)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A terminal's Ctrl-C reaches the whole group; workers must live until the step is saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
