"""Checkpoints: written whole or not at all, read without pickle's powers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from runtime import files
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, OutputError
from train.config import ModelConfig, TrainConfig, from_builtins, to_builtins

FORMAT = "hedge-checkpoint-1"
RUNS = Path("runs")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with all that is needed to use it, and to go on training it.

    weights: state dict of the network; size: (H, W) it was validated at; epoch, step: finished
    ones; miou: of this epoch on the validation split, in 0..1; training: optimizer and schedule
    state, only in ``last.pt``.
    """

    config: TrainConfig
    model: ModelConfig
    classes: ClassSet
    size: tuple[int, int]
    weights: dict[str, torch.Tensor]
    epoch: int
    step: int
    miou: float
    training: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write atomically: a crash leaves the previous checkpoint in place."""
        content = {
            "format": FORMAT,
            "config": to_builtins(self.config),
            "model": to_builtins(self.model),
            "classes": to_builtins(self.classes),
            "size": list(self.size),
            "weights": self.weights,
            "epoch": self.epoch,
            "step": self.step,
            "miou": self.miou,
            "training": self.training,
        }
        write_tensors(path, content)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint of ours to the CPU; HedgeError says what a foreign file is instead."""
        content = read_tensors(path)
        if content.get("format") != FORMAT:
            raise HedgeError(
                f"{path}: not a Hedge checkpoint (format {content.get('format')!r}); "
                "train one: python -m train"
            )
        try:
            return cls(
                config=from_builtins(content["config"], TrainConfig),
                model=from_builtins(content["model"], ModelConfig),
                classes=from_builtins(content["classes"], ClassSet),
                size=(content["size"][0], content["size"][1]),
                **{k: content[k] for k in ("weights", "epoch", "step", "miou", "training")},
            )
        except (KeyError, ValueError, TypeError) as error:
            raise HedgeError(f"{path}: damaged checkpoint: {error}") from error


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """A bare state dict, or the weights inside a checkpoint of ours; never runs foreign code."""
    content = read_tensors(path)
    state = content.get("weights", content) if content.get("format") == FORMAT else content
    if not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise HedgeError(f"{path}: holds no state dict (names with tensors)")
    return state


def start_from(model: nn.Module, path: Path) -> None:
    """Take over every tensor of a checkpoint that fits; HedgeError if the backbone does not.

    Where ``model`` has more input channels (edges, which come last), their weights start at zero.
    """
    state, own = load_state(path), model.state_dict()
    fitting = {
        name: _widened(state[name], tensor)
        for name, tensor in own.items()
        if name in state and _fits(tensor, state[name])
    }
    if not any(name.startswith("backbone.") for name in fitting):
        raise HedgeError(f"{path}: its backbone is another; train with the same --backbone")
    model.load_state_dict(fitting, strict=False)


def _fits(own: torch.Tensor, given: torch.Tensor) -> bool:
    if own.ndim != 4 or given.ndim != 4:
        return own.shape == given.shape
    same = (own.shape[0], *own.shape[2:]) == (given.shape[0], *given.shape[2:])
    return same and own.shape[1] >= given.shape[1]


def _widened(given: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    if given.shape == own.shape:
        return given
    return functional.pad(given, (0, 0, 0, 0, 0, own.shape[1] - given.shape[1]))


def newest_run(root: Path = RUNS) -> Path:
    """The run under ``root`` with the newest best.pt."""
    return files.newest(root, "best.pt", "train a model first: python -m train")


def find_checkpoint(run: Path | None) -> Path:
    """``best.pt`` of a run folder, a checkpoint file itself, or by default the newest run's."""
    run = run or newest_run()
    path = run / "best.pt" if run.is_dir() else run
    if not path.is_file():
        raise HedgeError(f"{path}: no such checkpoint; train one: python -m train")
    return path


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values atomically; OutputError where it does not fit."""
    with files.atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # all that torch says of a full disk
            raise OutputError(f"{path}: could not be written; is the disk full?") from error


def read_tensors(path: Path) -> dict[str, Any]:
    """A dict of tensors and plain values, on the CPU; HedgeError names any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HedgeError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise HedgeError(
            f"{path}: not a plain tensor file (damaged, or a pickle that would run code)"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HedgeError(f"{path}: unreadable checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise HedgeError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content
