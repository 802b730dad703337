"""The deployed graph as a wrapper: the trained network goes in untouched."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.network import Deployed
from train.models import DeepLab
from train.models.hed import upsample


class Image(nn.Module):
    """(N, H, W, 3) BGR in 0..255 → (N, 3, H, W) RGB in 0..1: what networks are trained on."""

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        """Frames as decoded, in float32, → images."""
        return frame.permute(0, 3, 1, 2).flip(1) / 255


class Planes(nn.Module):
    """(N, H, W, 3) → (N, 3, H, W): the rest of ``Image`` can be folded into weights."""

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        """Frames as decoded → their planes, BGR in 0..255."""
        return frame.permute(0, 3, 1, 2)


class DeployGraph(Deployed):
    """(N, H, W, 3) uint8 BGR frame as decoded → (N, H, W) uint8 labels; nothing is left outside.

    Beside them it answers the scores that they come from, (N, C, H/4, W/4) float32 logits, for
    engines whose host upsamples and compares faster than the graph
    (``runtime.backends.label_tail``).

    size: the network's (H, W); frame_size: the camera's; score_size: of the decoder's own scores,
    a quarter of the network's, rounded up. Where they differ the frame is resized
    (bilinear) in the graph, and the logits go straight from 1/4 to the frame's size.
    """

    def __init__(self, model: DeepLab, size: tuple[int, int], frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.network = copy.deepcopy(model).eval()
        if not model.config.edges.fused:
            self.network.sides = None  # they only taught: no label depends on them
        self.image: nn.Module = Image()
        self.size, self.frame_size = size, frame_size
        self.score_size = -(-size[0] // 4), -(-size[1] // 4)

    def forward(self, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 BGR frames as decoded → uint8 labels, and the float32 scores behind them."""
        x = frame.float()  # TensorRT wants a Cast to be the first node behind uint8
        logits = self.network(upsample(self.image(x), self.size), self.score_size).logits
        best = upsample(logits, self.frame_size).argmax(1)
        return best.to(torch.int32).to(torch.uint8), logits  # TensorRT: by way of int32

    @torch.inference_mode()
    def multiply_adds(self) -> int:
        """Of one frame: convolutions and matrix products; all else is under 1 % of these networks.

        HED inside the graph counts, for it runs with every frame.
        """
        with FlopCounterMode(display=False) as counter:
            self(torch.zeros(1, *self.frame_size, 3, dtype=torch.uint8))
        return counter.get_total_flops() // 2
