"""The processes of a training: torchrun's environment, or a single process without it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from runtime.errors import HedgeError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's rank, the number of processes, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def means(self, values: Sequence[torch.Tensor]) -> list[Any]:
        """The mean of each tensor over all processes, as floats or lists of floats.

        The tensors have one shape, and are read from the device at once.
        """
        together = torch.stack([value.detach() for value in values])
        if self.size > 1:
            dist.all_reduce(together)
            together /= self.size
        return together.tolist()

    def sum(self, counts: np.ndarray) -> np.ndarray:
        """The sum of int64 or float64 arrays of one shape over all processes."""
        if self.size == 1:
            return counts
        together = torch.from_numpy(counts).to(self.device)
        dist.all_reduce(together)
        return together.cpu().numpy()

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of ``items``; every item is in one part."""
        return items[self.rank :: self.size]

    def agree(self, network: nn.Module) -> None:
        """Give every process the first one's weights and statistics."""
        if self.size > 1:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process, so that all leave a loop at the same step."""
        if self.size == 1:
            return flag
        return self.means([torch.tensor(float(flag), device=self.device)])[0] > 0


@contextmanager
def world() -> Iterator[World]:
    """Join torchrun's process group; a single process where its environment is absent.

    HedgeError where there are more processes than GPUs.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda, gpus = torch.cuda.is_available(), torch.cuda.device_count()
    if cuda and local >= gpus:
        raise HedgeError(f"process {local + 1} has no GPU: torchrun --nproc-per-node {gpus} here")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield World(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
