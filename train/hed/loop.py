"""The training of an edge network: an epoch a step of an iterator, state that resumes exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from runtime.errors import GateError, HedgeError
from train.augment import BatchSampler
from train.checkpoint import read_tensors, write_tensors
from train.config import to_builtins
from train.datasets.bsds import Drawing
from train.device import half_precision
from train.hed.config import HedConfig
from train.hed.crops import Crops
from train.hed.start import start
from train.losses import edge_loss
from train.models.hed import HEDS, Hed
from train.optimize import average, poly

FORMAT = "hedge-edges-1"
_STRIDE = 32  # of the deepest layer
_MOVABLE = {"resume", "force", "until", "out", "name", "data"}


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: a line of metrics.jsonl."""

    epoch: int
    loss: float
    lr: float
    images_per_s: float


class HedTrainer:
    """A run: the network, what trains it, and where it stands. ``epochs`` does the work."""

    def __init__(self, config: HedConfig, drawings: Sequence[Drawing]) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.hed = HEDS[config.net]()
        if config.start:
            start(self.hed, config.start)
        self.amp = config.amp and half_precision(self.device) is torch.bfloat16
        self.hed.to(self.device).to(memory_format=torch.channels_last)
        self.ema = average(self.hed, config.ema)
        self.sampler = BatchSampler(len(drawings), config.batch, config.seed)
        crops = Crops(drawings, config.crop, config.scale, config.agreement)
        self.loader = DataLoader(crops, batch_sampler=self.sampler)
        self.optimizer = torch.optim.AdamW(
            self.hed.parameters(), config.rate, weight_decay=config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, poly(config.epochs * self.sampler.batches)
        )
        self.epoch = 0

    @property
    def deployed(self) -> Hed:
        """The network that is kept: the average where there is one."""
        return cast(Hed, self.ema.module) if self.ema is not None else self.hed

    def epochs(self, on_step: Callable[[float], None]) -> Iterator[Epoch]:
        """Train to the last epoch, saving after each; ``on_step`` gets each step's loss."""
        last = min(self.config.until or self.config.epochs, self.config.epochs)
        while self.epoch < last:
            started = time.perf_counter()
            self.sampler.epoch = self.epoch
            self.hed.train()
            losses = []
            for image, target in self.loader:
                losses.append(self._step(image, target))
                on_step(losses[-1])
            self.epoch += 1
            self._save()
            seconds = time.perf_counter() - started
            yield Epoch(
                epoch=self.epoch,
                loss=sum(losses) / len(losses),
                lr=float(self.schedule.get_last_lr()[0]),
                images_per_s=len(losses) * self.config.batch / seconds,
            )

    def _step(self, image: torch.Tensor, target: torch.Tensor) -> float:
        image, target = self._trim(image).to(self.device).float() / 255, self._trim(target)
        target = target.to(self.device)
        image = image.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            edges = self.hed(image)
        loss = edge_loss(edges, target)
        if not torch.isfinite(loss):
            raise GateError(
                f"loss is {float(loss.detach())} in epoch {self.epoch + 1}; "
                f"{self.config.run / 'last.pt'} holds the last good state; try a lower --lr"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.hed)
        return float(loss.detach())

    def _trim(self, batch: torch.Tensor) -> torch.Tensor:
        """Take a few rows and columns off, other ones each step.

        How strided layers pad depends on whether a side is odd. Trained on one size alone, they
        draw edges along the right and lower rim of all others.
        """
        step = self.schedule.last_epoch
        rows, columns = np.random.default_rng([self.config.seed, step]).integers(_STRIDE, size=2)
        return batch[..., rows:, columns:]

    def _save(self) -> None:
        """``edges.pt``: the weights alone; ``last.pt``: all that it takes to go on."""
        write_tensors(self.config.run / "edges.pt", self.deployed.state_dict())
        state = {
            "format": FORMAT,
            "config": to_builtins(self.config),
            "epoch": self.epoch,
            "weights": self.hed.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        write_tensors(self.config.run / "last.pt", state)

    def restore(self, path: Path) -> None:
        """Take up a run at its ``last.pt``; HedgeError names settings that differ from it."""
        saved = read_tensors(path)
        if saved.get("format") != FORMAT:
            raise HedgeError(f"{path}: not the last.pt of an edge training; drop --resume")
        now, then = to_builtins(self.config), saved["config"]
        changed = [k for k in now if k not in _MOVABLE and now[k] != then.get(k)]
        if changed:
            what = ", ".join(f"{k} {then.get(k)} → {now[k]}" for k in changed)
            raise HedgeError(f"{path}: cannot resume with other settings ({what}); drop --resume")
        self.hed.load_state_dict(saved["weights"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.epoch = saved["epoch"]
