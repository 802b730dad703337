"""Building blocks: convolution, Squeeze-Excitation, atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from train.config import SqueezeExciteGate

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)
WIDEST = 128  # input channels of a convolution whose bf16 gradients are fast on a CPU


class Normalize(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → the same minus mean, by deviation, channel by channel.

    bgr: whether the network behind it wants blue first; mean, std: of RGB all the same.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) RGB in 0..1 → the same, less the mean, by the deviation."""
        normal = (image - self.mean) / self.std
        return normal.flip(1) if self.bgr else normal


class WideConv(nn.Conv2d):
    """A convolution whose bf16 gradients stay fast on a CPU with many input channels.

    oneDNN's gradients of 3×3 weights take three to ten times as long once an input has more than
    about 176 channels (torch 2.14), so training there sums over parts of the input.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, C', H', W'), as ``nn.Conv2d``."""
        if self.in_channels <= WIDEST or not _trains_in_half(x):
            return super().forward(x)
        parts = zip(x.split(WIDEST, 1), self.weight.split(WIDEST, 1), strict=True)
        return sum(self._conv_forward(part, weight, None) for part, weight in parts)


class ConvBNReLU(nn.Sequential):
    """Convolution that keeps the size at stride 1, batch-norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, rate: int = 1
    ) -> None:
        super().__init__(
            WideConv(
                in_channels,
                out_channels,
                kernel,
                stride,
                padding=rate * (kernel // 2),
                dilation=rate,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class ConvBN(nn.Sequential):
    """A 1×1 convolution and batch-norm: what a sum takes before its ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )


class Depthwise(nn.Conv2d):
    """A depthwise convolution with stride, dilation or a large kernel; fast to train on a CPU.

    oneDNN's bf16 gradients of these are slow: at stride 2 they take five to thirty times those of
    FP32, with 5×5 weights three times. Such a layer trains in FP32. Dilated ones are slow, too, and
    their bf16 weight gradients are garbage once the features are larger than about 16×16 (seen with
    torch 2.14: off by up to 1e35): where the features split evenly, training treats every
    dilation-th row and column as an image of its own, which needs no dilation.
    """

    @staticmethod
    def suits(conv: nn.Conv2d) -> bool:
        """Whether ``conv`` is depthwise and trains faster as one of these."""
        unusual = conv.stride != (1, 1) or conv.dilation != (1, 1) or conv.kernel_size[0] > 3
        return unusual and conv.groups > 1 and conv.bias is None

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Depthwise:
        """The depthwise ``conv``, with the same weights."""
        assert conv.bias is None and isinstance(conv.padding, tuple)
        kernel, stride, padding, dilation = (
            (pair[0], pair[1])
            for pair in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        )
        same = cls(
            conv.in_channels,
            conv.out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups=conv.groups,
            bias=False,
        )
        same.weight = conv.weight
        return same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, C, H', W'), as ``nn.Conv2d``."""
        if not _trains_in_half(x):
            return super().forward(x)
        rate = self._splits_into(x)
        assert isinstance(self.padding, tuple)
        padding, dilation = (
            [int(n) // rate for n in pair] for pair in (self.padding, self.dilation)
        )
        slow = self.stride != (1, 1) or dilation != [1, 1] or self.kernel_size[0] > 3
        with torch.autocast("cpu", enabled=not slow):
            parts = _interleaved(x.float() if slow else x, rate)
            y = F.conv2d(parts, self.weight, None, self.stride, padding, dilation, self.groups)
        return _woven(y.to(x.dtype), rate)

    def _splits_into(self, x: torch.Tensor) -> int:
        """The dilation where ``x`` splits evenly into as many rows and columns, else 1."""
        rate = self.dilation[0]
        sides = (*x.shape[-2:], *self.padding, self.dilation[1])
        return rate if self.stride == (1, 1) and not any(int(s) % rate for s in sides) else 1


def _trains_in_half(x: torch.Tensor) -> bool:
    """Whether gradients of half-precision convolutions are computed on a CPU."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def _interleaved(x: torch.Tensor, rate: int) -> torch.Tensor:
    """(N, C, H, W) → (N·rate², C, H/rate, W/rate): every rate-th row and column by itself."""
    count, channels, height, width = x.shape
    grid = x.permute(0, 2, 3, 1).reshape(count, height // rate, rate, width // rate, rate, channels)
    parts = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // rate, width // rate, channels)
    return parts.permute(0, 3, 1, 2)


def _woven(x: torch.Tensor, rate: int) -> torch.Tensor:
    """(N·rate², C, h, w) → (N, C, h·rate, w·rate), the inverse of ``_interleaved``."""
    _, channels, height, width = x.shape
    parts = x.permute(0, 2, 3, 1).reshape(-1, rate, rate, height, width, channels)
    grid = parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, height * rate, width * rate, channels)
    return grid.permute(0, 3, 1, 2)


class SeparableConv(nn.Sequential):
    """A depthwise 3×3, then a 1×1, each with batch-norm and ReLU (Chen et al., ECCV 2018)."""

    def __init__(self, in_channels: int, out_channels: int, rate: int = 1) -> None:
        depthwise = nn.Conv2d(
            in_channels, in_channels, 3,
            padding=rate, dilation=rate, groups=in_channels, bias=False,
        )  # fmt: skip
        super().__init__(
            Depthwise.of(depthwise) if Depthwise.suits(depthwise) else depthwise,
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            ConvBNReLU(in_channels, out_channels, kernel=1),
        )


def global_average(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) → (N, C, 1, 1) mean; export maps this very form to GlobalAveragePool."""
    return x.mean((2, 3), keepdim=True)


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., CVPR 2018), bottleneck ratio 16.

    Both gates are scaled so that zero logits are the identity: 2·sigmoid, and C·softmax over the
    C channels (plain softmax shrinks activations by 1/C). The last layer starts at zero, so that
    a block put into a pre-trained backbone changes nothing before it has learned to.
    """

    def __init__(self, channels: int, gate: SqueezeExciteGate) -> None:
        super().__init__()
        squeezed = max(channels // 16, 8)
        self.gate = gate
        self.channels = channels
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        nn.init.zeros_(self.expand.weight)
        assert self.expand.bias is not None
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → the same, each channel by its gate."""
        logits = self.expand(self.reduce(global_average(x)).relu())
        if self.gate == "softmax":
            return x * (logits.softmax(dim=1) * self.channels)
        return x * (logits.sigmoid() * 2)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., arXiv 1706.05587).

    The image-level branch is constant over the picture, so instead of being upsampled and
    concatenated it goes through its own 1×1 and is added to the projection: as expressive, without
    a resize, and without a batch-norm over single pixels. It is added behind the projection's
    batch-norm, which can so be folded into its convolution when the model is exported.

    kind: of the dilated 3×3, see ``DecoderDesign``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int],
        kind: Literal["dense", "narrow", "separable"] = "dense",
    ) -> None:
        super().__init__()
        self.narrow = kind == "narrow"
        dilated = SeparableConv if kind == "separable" else ConvBNReLU
        width = out_channels if self.narrow else in_channels
        branches: list[nn.Module] = [ConvBNReLU(in_channels, out_channels, kernel=1)]
        branches += [dilated(width, out_channels, rate=rate) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.pool = nn.Conv2d(in_channels, out_channels, 1)
        self.pool_project = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.project = nn.Sequential(
            nn.Conv2d(len(branches) * out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, C', H, W) at the same stride."""
        first, *dilated = self.branches
        near = first(x)
        wide = near if self.narrow else x
        local = self.project(torch.cat([near, *(branch(wide) for branch in dilated)], dim=1))
        image = self.pool_project(self.pool(global_average(x)).relu())
        return (local + image).relu()
