"""The learning-rate schedule, and the exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """The exponential moving average of weights and statistics; None for a ``decay`` of None.

    The decay after t steps is min(decay, (1 + t) / (10 + t)): the warm-up keeps the initial weights
    out of the average of a short training.
    """
    if decay is None:
        return None
    final = decay

    def update(averaged: Any, current: Any, steps: Any) -> None:
        warm = min(final, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(warm)(averaged, current, steps)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
