"""The deployed graph as its engines run it: arithmetic that constants can carry is in the weights.

A frame's bytes are what the first convolutions read: colour order, 1/255, mean and deviation are
in their weights and biases. Batch-norms are in the convolutions before them.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from export.own.deploy import DeployGraph, Planes
from train.models import DeepLab
from train.models.blocks import Normalize


class Centred(nn.Module):
    """(N, 3, H, W) BGR in 0..255 → the same, less ``mean`` (3,).

    Only the mean is left in front of a convolution: its padding is of zeros, which stand for the
    mean's colour and not for black.
    """

    mean: torch.Tensor

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) BGR in 0..255 → the same, less the mean."""
        return image - self.mean


def folded(graph: DeployGraph) -> DeployGraph:
    """A copy of ``graph`` that answers the same with fewer operations."""
    copied = copy.deepcopy(graph).eval()
    _fold_input(copied)
    _fold_batch_norms(copied)
    return copied


def _fold_input(graph: DeployGraph) -> None:
    network: DeepLab = graph.network
    bodies: list[tuple[nn.Module, nn.Module]] = [(network, network.backbone)]
    if network.hed is not None:
        bodies.append((network.hed, network.hed.stages[0]))
    readers = [_readers(owner, body, graph.size) for owner, body in bodies]
    if not all(readers):
        return  # something else reads the image: it is normalised before, as in PyTorch
    halves = _halves(graph)
    graph.image = Planes()
    for (owner, _), convolutions in zip(bodies, readers, strict=True):
        for convolution in convolutions:
            _fold_normalize(_normalize(owner), convolution)
            if halves:
                _fold_halving(convolution)
        owner.normalize = Centred(255 * _normalize(owner).mean.flip(1))
    if halves:
        graph.size = graph.frame_size


class _Reading(TorchFunctionMode):
    """Lists what is computed from ``image`` itself: a convolution's weights, None for all else."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = image
        self.weights: list[torch.Tensor | None] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """PyTorch's hook: one call of a function."""
        answer = func(*args, **(kwargs or {}))
        if isinstance(answer, torch.Tensor) and any(arg is self.image for arg in args):
            self.weights.append(args[1] if func is torch.conv2d else None)
        return answer


@torch.no_grad()
def _readers(owner: nn.Module, body: nn.Module, size: tuple[int, int]) -> list[nn.Conv2d]:
    """The convolutions of ``body`` that read ``owner``'s normalised image; none where anything else
    reads it, or where weights are made anew for each image (timm's NFNet).

    RepVGG, MobileOne and FastViT have several, side by side.
    """
    image = _normalize(owner)(torch.zeros(1, 3, *size))
    with _Reading(image) as reading:
        body(image)
    own: dict[torch.Tensor, nn.Conv2d] = {
        layer.weight: layer
        for layer in body.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1
    }
    found = [own.get(weight) for weight in reading.weights if weight is not None]
    convolutions = [layer for layer in found if layer is not None]
    return convolutions if len(convolutions) == len(reading.weights) else []


def _normalize(owner: nn.Module) -> Normalize:
    assert isinstance(owner.normalize, Normalize)
    return owner.normalize


def _fold_normalize(normalize: Normalize, first: nn.Conv2d) -> None:
    """Put a normalisation into a convolution behind it, but for the mean."""
    rgb = first.weight.data.flip(1) if normalize.bgr else first.weight.data
    first.weight.data = (rgb / (255 * normalize.std)).flip(1)


def _halves(graph: DeployGraph) -> bool:
    """Whether frames are twice the network's size, so that resizing is a mean of 2×2 pixels."""
    whole = tuple(2 * side for side in graph.size) == tuple(graph.frame_size)
    network: DeepLab = graph.network
    return whole and (network.edge_stem is None or network.hed is not None)


def _fold_halving(first: nn.Conv2d) -> None:
    """Let ``first`` read pixels where it read means of 2×2 of them: four equal weights for one."""
    kernel = first.weight.data.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    first.weight.data = kernel
    first.kernel_size = tuple(kernel.shape[2:])
    first.stride = tuple(2 * step for step in first.stride)
    first.padding = tuple(2 * int(side) for side in first.padding)


def _fold_batch_norms(graph: DeployGraph) -> None:
    """Make batch-norms part of the convolutions before them.

    The exporter folds them too, but only after it has traced, decomposed and translated each:
    with MobileNetV2 that takes as long as all the rest. A convolution and the batch-norm that
    runs on its output stand side by side in every module of ours; others are left to it.
    """
    for module in graph.modules():
        for (name, layer), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, next_name, nn.Identity())
