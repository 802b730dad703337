"""What a training loop needs to know of a task, and what it tells of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import HedgeError
from train.augment import BatchSampler
from train.config import RunConfig, to_builtins
from train.loop.distributed import World

# Options that a resumed run may change.
_MOVABLE = {"resume", "force", "until", "out", "name", "workers", "data", "validate_every"}


@dataclass(frozen=True)
class Step:
    """A finished step; loss is the mean over all processes."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_s: float


@dataclass(frozen=True)
class Epoch:
    """A finished epoch, a row of metrics.jsonl; scores are None where it was not validated.

    miou, pixel_accuracy, iou: in 0..1, on the validation split; loss: mean over the steps.
    """

    epoch: int
    loss: float
    miou: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]
    lr: float
    images_per_s: float
    seconds: float


@dataclass(frozen=True)
class State:
    """What a file of a run holds of the loop.

    weights: of the deployed network; training: the trained network's, the optimizer's, the
    schedule's and the scaler's state, the average's update count and the best mIoU.
    """

    epoch: int
    step: int
    miou: float
    weights: dict[str, torch.Tensor]
    training: dict[str, Any]


class Task(ABC):
    """What a run learns: network, data, loss, score and files. The loop is the same for all.

    network: on the run's device; samples: length of the training split; repeats: (samples,) mean
    draws of each sample in an epoch, None for one each; half: autocast's dtype, None for float32;
    fixed_size: whether all batches have the same size.
    """

    network: nn.Module
    samples: int
    repeats: np.ndarray | None = None
    half: torch.dtype | None = None
    fixed_size: bool = False

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups, with their learning rates and weight decays."""

    @abstractmethod
    def loader(self, sampler: BatchSampler) -> DataLoader[Any]:
        """Batches by ``sampler``: sequences of tensors, or a HedgeError; (N, 3, H, W) uint8 RGB
        images come first, then the loss's targets."""

    def forward(self, network: nn.Module, image: torch.Tensor, *targets: torch.Tensor) -> Any:
        """The network's outputs for (N, 3, H, W) RGB in 0..1, under autocast."""
        return network(image)

    @abstractmethod
    def loss(self, outputs: Any, *targets: torch.Tensor) -> torch.Tensor:
        """The scalar loss of the network's outputs."""

    @abstractmethod
    def save(self, state: State, improved: bool) -> None:
        """Write the run's files; ``improved``: the epoch has the best mIoU so far."""

    @abstractmethod
    def load(self, path: Path) -> State:
        """Read what ``save`` wrote to last.pt; HedgeError if its settings are others."""

    def prepare(self, batch: Sequence[torch.Tensor], step: int) -> Sequence[torch.Tensor]:
        """Change a batch before the run's ``step``-th step."""
        return batch

    def start_epoch(self, epoch: int) -> None:
        """Put the network in training mode, but for what is frozen in this epoch."""
        self.network.train()

    def validate(self, network: nn.Module, epoch: int, world: World) -> ConfusionMatrix | None:
        """The deployed network's score on this process's share; None where none is due."""
        return None


def require_same_settings(path: Path, config: RunConfig, saved: dict[str, Any]) -> None:
    """HedgeError if a run of the settings ``saved`` (of ``to_builtins``) cannot be continued."""
    now = to_builtins(config)
    changed = [key for key in now if key not in _MOVABLE and now[key] != saved.get(key)]
    if changed:
        what = ", ".join(f"{key} {saved.get(key)} → {now[key]}" for key in changed)
        raise HedgeError(f"{path}: cannot resume with other settings ({what}); drop --resume")
