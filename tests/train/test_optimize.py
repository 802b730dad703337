"""Rates and averages, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.loop.optimize import average


@pytest.mark.parametrize(("steps", "share"), [(20, 0.95), (2000, 0.80)])
def test_the_average_forgets_how_a_training_began(steps: int, share: float) -> None:
    """The weights move from 0 to 1 at once; how much of the move the average has after steps."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = average(model, 0.999)
    assert ema is not None
    ema.update_parameters(model)
    nn.init.ones_(model.weight)
    for _ in range(steps):
        ema.update_parameters(model)
    assert share < float(ema.module.weight.detach()) <= 1


def test_a_long_average_has_the_decay_that_was_asked_for() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = average(model, 0.9)
    assert ema is not None
    for _ in range(200):
        ema.update_parameters(model)
    nn.init.ones_(model.weight)
    ema.update_parameters(model)
    assert torch.allclose(ema.module.weight, torch.tensor(0.1))
