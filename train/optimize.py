"""What moves the weights: learning rates by layer and by step, and the average over steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.config import TrainConfig
from train.models import DeepLab

WARMUP_STEPS = 50


def poly(steps: int) -> Callable[[int], float]:
    """Learning-rate factor by step: short linear warm-up, then (1 - t)^0.9 down to zero."""
    warmup = min(WARMUP_STEPS, steps // 10)

    def factor(step: int) -> float:
        rising = (step + 1) / (warmup + 1) if step < warmup else 1.0
        return rising * max(0.0, 1 - step / steps) ** 0.9

    return factor


def parameter_groups(model: DeepLab, config: TrainConfig) -> list[dict[str, Any]]:
    """Backbone and new layers with their rates; norms and biases without weight decay."""
    backbone_lr = config.lr * (config.backbone_lr if config.weights or config.start else 1.0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        lr = backbone_lr if name.startswith("backbone.") else config.lr
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]


def average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """An exponential moving average of weights and statistics, None where none is asked for.

    It is short at first, so that an early step weighs nothing in the average of a short training.
    """
    if decay is None:
        return None
    longest = decay

    def update(averaged: Any, current: Any, steps: Any) -> None:
        own = min(longest, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(own)(averaged, current, steps)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
