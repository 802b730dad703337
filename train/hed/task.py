"""The task of ``python -m train.hed``: an edge network on annotated boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from runtime.errors import HedgeError
from train.augment import BatchSampler
from train.checkpoint import last_good, read_tensors, write_tensors
from train.datasets.bsds import Drawing
from train.device import half_precision
from train.hed.config import HedConfig
from train.hed.crops import Crops
from train.hed.start import start
from train.hed.teacher import CACHE, soft_edges
from train.loop.settings import from_builtins, to_builtins
from train.loop.task import State, Task, require_same_settings
from train.losses import edge_loss
from train.models.hed import HEDS

FORMAT = "hedge-edges-1"
_STRIDE = 32  # of the deepest layer


class EdgeTask(Task):
    """The edge network of ``config`` on ``device``; there is no validation score.

    quiet: no bar while a teacher draws. HedgeError if weights do not fit.
    """

    def __init__(
        self,
        config: HedConfig,
        drawings: Sequence[Drawing],
        device: torch.device,
        quiet: bool = True,
    ) -> None:
        self.config = config
        taught: Sequence[np.ndarray] = ()
        if config.teacher:
            taught = soft_edges(config.teacher, drawings, config.out / CACHE, device, quiet)
        self.crops = Crops(
            drawings, config.crop, config.scale, config.agreement, taught, config.teacher_weight
        )
        self.samples = len(drawings)
        bf16 = config.amp and half_precision(device) is torch.bfloat16
        self.half = torch.bfloat16 if bf16 else None
        torch.manual_seed(config.seed)
        self.network = HEDS[config.net]()
        if config.start:
            start(self.network, config.start)
        self.network.to(device).to(memory_format=torch.channels_last)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters with one rate and weight decay."""
        lr, decay = self.config.rate, self.config.weight_decay
        return [{"params": list(self.network.parameters()), "lr": lr, "weight_decay": decay}]

    def loader(self, sampler: BatchSampler) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of ``Crops``, cut in this process."""
        return DataLoader(self.crops, batch_sampler=sampler)

    def prepare(self, batch: Sequence[torch.Tensor], step: int) -> Sequence[torch.Tensor]:
        """Remove 0 to 31 rows and columns, a different number in each step.

        The padding of strided layers depends on whether a side is odd. A network trained on one
        size alone draws edges along the right and lower borders of other sizes.
        """
        random = np.random.default_rng([self.config.seed, step])
        rows, columns = random.integers(_STRIDE, size=2)
        return [tensor[..., rows:, columns:] for tensor in batch]

    def losses(
        self, outputs: Sequence[torch.Tensor], *targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """HED's loss; outputs: edge logit maps, targets: the edge target."""
        return {"edges": edge_loss(outputs, *targets)}

    def save(self, state: State, improved: bool) -> None:
        """edges.pt: the weights alone; last.pt: all that it takes to resume."""
        write_tensors(self.config.run / "edges.pt", state.weights)
        training, updates = state.training, state.training["ema_updates"]
        averaged = {f"module.{name}": tensor for name, tensor in state.weights.items()}
        content = {
            "format": FORMAT,
            "config": to_builtins(self.config),
            "epoch": state.epoch,
            "step": state.step,
            "weights": training["model"],
            "ema": None if updates is None else {"n_averaged": updates, **averaged},
            "optimizer": training["optimizer"],
            "schedule": training["schedule"],
            "losses": training["losses"],
        }
        write_tensors(self.config.run / "last.pt", content, keep=True)

    def load(self, path: Path) -> State:
        """The state in last.pt, or in previous.pt if that is damaged."""
        saved = last_good(path, read_tensors)
        if saved.get("format") != FORMAT:
            raise HedgeError(f"{path}: not the last.pt of an edge training; drop --resume")
        before = to_builtins(from_builtins(saved["config"], HedConfig))
        require_same_settings(path, self.config, before)
        averaged = saved["ema"] or {}
        training = {
            "model": saved["weights"],
            "optimizer": saved["optimizer"],
            "schedule": saved["schedule"],
            "scaler": {},  # of FP16 only
            "ema_updates": averaged.get("n_averaged"),
            "best": -1.0,
            "losses": saved.get("losses", {}),
        }
        weights = {
            name.removeprefix("module."): tensor
            for name, tensor in averaged.items()
            if name.startswith("module.")
        }
        step = saved.get("step", 0)  # absent in files of versions that saved epochs only
        return State(saved["epoch"], step, -1.0, weights, training)
