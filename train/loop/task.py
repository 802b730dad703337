"""What a training loop needs to know of a task, and what it tells of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import HedgeError
from train.augment import BatchSampler
from train.loop.distributed import World
from train.loop.settings import RunConfig, to_builtins

VALIDATION = "val.png"  # of the run's best weights, in its folder

# Options that a resumed run may change.
_MOVABLE = {
    "resumed", "force", "until", "out", "name", "workers", "data", "validate_every", "patience",
    "log", "preset",
}  # fmt: skip
# Those whose files may lie elsewhere, but which a run neither drops nor begins to have.
_PLACES = {"also", "teacher"}


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

    miou, pixel_accuracy, iou, precision, recall: in 0..1, on the validation split; loss: mean over
    the steps; losses: its parts with their weights, which add up to it; lr: of the new layers;
    val_loss: mean cross-entropy of the validation images.
    """

    epoch: int
    loss: float
    miou: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]
    lr: float
    images_per_s: float
    seconds: float
    losses: dict[str, float] = field(default_factory=dict)
    val_loss: float | None = None
    precision: dict[str, float | None] = field(default_factory=dict)
    recall: dict[str, float | None] = field(default_factory=dict)


@dataclass
class Validation:
    """What a process found on its share of the validation split; ``shared`` adds the others'.

    loss: the sum of the images' cross-entropy, and their number, (2,) float64; images: (validation
    images,) float64 mIoU of each, 0 for those of other processes.
    """

    confusion: ConfusionMatrix
    loss: np.ndarray
    images: np.ndarray

    def shared(self, world: World) -> None:
        """Add up over all processes."""
        self.confusion.counts = world.sum(self.confusion.counts)
        self.loss, self.images = world.sum(self.loss), world.sum(self.images)

    def mean_loss(self) -> float | None:
        """The mean cross-entropy; None where no image has a label."""
        total, count = self.loss
        return float(total / count) if count else None


@dataclass(frozen=True)
class State:
    """What a file of a run holds of the loop.

    weights: of the deployed network; training: the trained network's, the optimizer's, the
    schedule's and the scaler's state, the average's update count, the best mIoU, and how many
    validations ago it was.
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
    fixed_size: whether all batches have the same size; patience: validations in a row without a
    better mIoU that end the run, None for none.
    """

    network: nn.Module
    samples: int
    repeats: np.ndarray | None = None
    half: torch.dtype | None = None
    fixed_size: bool = False
    patience: int | None = None

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
    def losses(self, outputs: Any, *targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """The scalar parts of the loss of the network's outputs, by name; they are added up."""

    @abstractmethod
    def save(self, state: State, improved: bool) -> None:
        """Write the run's files; ``improved``: the epoch has the best mIoU so far."""

    def example(self, sampler: BatchSampler) -> np.ndarray | None:
        """(H, W, 3) uint8 BGR: a batch as trained on, with its labels; None where none is drawn."""
        return None

    def looked_at(self, network: nn.Module, miou: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 BGR: the worst validation images, and some in the middle.

        miou: (validation images,) of each by ``network``; NaN of one without labels.
        """
        return None

    @abstractmethod
    def load(self, path: Path) -> State:
        """Read what ``save`` wrote to last.pt; HedgeError if its settings are others."""

    def prepare(self, batch: Sequence[torch.Tensor], step: int) -> Sequence[torch.Tensor]:
        """Change a batch before the run's ``step``-th step."""
        return batch

    def start_epoch(self, epoch: int) -> None:
        """Put the network in training mode, but for what is frozen in this epoch."""
        self.network.train()

    def validate(self, network: nn.Module, epoch: int, world: World) -> Validation | None:
        """The deployed network's score on this process's share; None where none is due."""
        return None


def require_same_settings(
    path: Path, config: RunConfig, saved: dict[str, Any], fix: str = "drop --resume"
) -> None:
    """HedgeError if a run of the settings ``saved`` (of ``to_builtins``) cannot be continued."""
    now = to_builtins(config)
    changed = [key for key in now if key not in _MOVABLE and now[key] != saved.get(key)]
    changed = [key for key in changed if key not in _PLACES or not (now[key] and saved.get(key))]
    if config.epochs > saved.get("epochs", 0):  # a run may grow
        changed.remove("epochs")
    if changed:
        what = ", ".join(f"{key} {saved.get(key)} → {now[key]}" for key in changed)
        raise HedgeError(f"{path}: cannot resume with other settings ({what}); {fix}")
