"""The learning-rate schedule, and the exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARMUP_STEPS = 50


def poly(steps: int) -> Callable[[int], float]:
    """Learning-rate factor by step: short linear warm-up, then (1 - t)^0.9 down to zero."""
    warmup = min(WARMUP_STEPS, steps // 10)

    def factor(step: int) -> float:
        rising = (step + 1) / (warmup + 1) if step < warmup else 1.0
        return rising * max(0.0, 1 - step / steps) ** 0.9

    return factor


class Average(AveragedModel):
    """The exponential moving average of weights and statistics.

    The decay after t steps is min(decay, (1 + t) / (10 + t)): the warm-up keeps the initial weights
    out of the average of a short training.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay

    def update_parameters(self, model: nn.Module) -> None:
        """Take in the current weights. The base class would wait for the GPU in each step."""
        done = int(self.n_averaged)  # lies on the CPU
        decay = min(self.decay, (1 + done) / (10 + done)) if done else 0.0
        groups: dict[torch.dtype, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for own, current in zip(_tensors(self.module), _tensors(model), strict=True):
            averaged, new = groups.setdefault(own.dtype, ([], []))
            averaged.append(own.detach())
            new.append(current.detach())
        for averaged, new in groups.values():
            get_ema_multi_avg_fn(decay)(averaged, new, done)
        self.n_averaged += 1


def average(model: nn.Module, decay: float | None) -> Average | None:
    """The model's ``Average``; None for a ``decay`` of None."""
    return None if decay is None else Average(model, decay)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
