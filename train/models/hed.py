"""Holistically-nested edge detection (Xie and Tu, ICCV 2015), and a light net of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from runtime.errors import HedgeError
from train.checkpoint import load_state
from train.config import HedName
from train.models.backbone import describe_keys
from train.models.blocks import ConvBNReLU

# Caffe's means, BGR, on the 0-255 scale: the published weights expect them.
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
_PUBLISHED = ("One", "Two", "Three", "Four", "Five")


class Hed(nn.Module):
    """Five stages, a 1×1 score on each, a 1×1 fusion: (N, 3, H, W) RGB in 0..1 → edge logits.

    Returns six tensors: five side outputs at the first stage's size (bilinear upsampling), then
    the fusion at (N, 1, H, W). Fusing before the last upsampling is the same as after it, since a
    1×1 convolution and bilinear interpolation commute, and costs less.
    """

    mean_rgb: torch.Tensor

    def __init__(self, stages: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.scores = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)
        self.combine = nn.Conv2d(len(channels), 1, 1)
        nn.init.constant_(self.combine.weight, 1 / len(channels))  # the paper starts at the mean
        assert self.combine.bias is not None
        nn.init.zeros_(self.combine.bias)
        mean_rgb = torch.tensor(MEAN_BGR[::-1]).reshape(1, 3, 1, 1)
        self.register_buffer("mean_rgb", mean_rgb / 255, persistent=False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.prepare(image)
        sides: list[torch.Tensor] = []
        for stage, score in zip(self.stages, self.scores, strict=True):
            x = stage(x)
            side = score(x)
            sides.append(upsample(side, sides[0].shape[-2:]) if sides else side)
        fused = self.combine(torch.cat(sides, dim=1))
        return [*sides, upsample(fused, image.shape[-2:])]

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Centre the image; the light net takes it as it comes from 0..1."""
        return (image - self.mean_rgb) * 4  # about unit variance


class HedVgg16(Hed):
    """The paper's network: the convolutions of VGG-16, 14.7 M parameters."""

    def __init__(self) -> None:
        widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
        stages, channels = [], 3
        for number, stage_widths in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2, 2, ceil_mode=True)] if number else []
            for width in stage_widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            stages.append(nn.Sequential(*layers))
        super().__init__(stages, [w[-1] for w in widths])

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """RGB in 0..1 → BGR on the 0-255 scale, minus Caffe's means."""
        return ((image - self.mean_rgb) * 255).flip(1)


class HedLite(Hed):
    """The same five side outputs for edge boxes: 1/2 to 1/32, 0.15 M parameters.

    Starting at half resolution keeps it under 1 % of the VGG net's multiply-adds.
    """

    def __init__(self) -> None:
        channels = (16, 32, 48, 64, 64)
        stages, last = [], 3
        for width in channels[:4]:
            stages.append(
                nn.Sequential(ConvBNReLU(last, width, stride=2), ConvBNReLU(width, width))
            )
            last = width
        stages.append(ConvBNReLU(last, channels[4], kernel=3, stride=2))
        super().__init__(stages, channels)


class SideOutputs(nn.Module):
    """HED's side outputs on another network's stages: a 1×1 score on each, a 1×1 fusion.

    (N, C, h, w) features at 1/4, 1/8 and deeper → edge logits (N, 1, H/4, W/4), one map a stage
    and then the fusion. About 1 % of a network's work, or none where the maps only teach.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)
        self.combine = nn.Conv2d(len(channels), 1, 1)
        nn.init.constant_(self.combine.weight, 1 / len(channels))

    @property
    def maps(self) -> int:
        """How many maps it answers."""
        return len(self.scores) + 1

    def forward(self, *stages: torch.Tensor) -> list[torch.Tensor]:
        size = stages[0].shape[-2:]
        sides = [upsample(f(x), size) for f, x in zip(self.scores, stages, strict=True)]
        return [*sides, self.combine(torch.cat(sides, dim=1))]


HEDS: dict[HedName, Callable[[], Hed]] = {"vgg16": HedVgg16, "lite": HedLite}


def upsample(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear to (H, W); nothing at all when it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def load_hed_weights(hed: Hed, path: Path) -> None:
    """Fill ``hed`` from a file: the published key names (moduleVggOne.0.weight …), its own keys,
    or a checkpoint of ours that holds an edge network. HedgeError names the keys that differ."""
    state = {_own_key(key): value for key, value in load_state(path).items()}
    nested = {k.removeprefix("hed."): v for k, v in state.items() if k.startswith("hed.")}
    state, own = nested or state, hed.state_dict()
    missing = [k for k in own if k not in state]
    extra = [k for k in state if k not in own]
    shapes = [k for k in state if k in own and state[k].shape != own[k].shape]
    if missing or extra or shapes:
        kind = type(hed).__name__
        raise HedgeError(f"{path}: not weights of {kind}: {describe_keys(missing, extra, shapes)}")
    hed.load_state_dict(state)


def _own_key(key: str) -> str:
    for prefix in ("module", "net"):
        for index, number in enumerate(_PUBLISHED):
            key = key.replace(f"{prefix}Vgg{number}.", f"stages.{index}.")
            key = key.replace(f"{prefix}Score{number}.", f"scores.{index}.")
        key = key.replace(f"{prefix}Combine.0.", "combine.")
    return key
