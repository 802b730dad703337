"""Building blocks: convolution, Squeeze-Excitation, atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from train.config import SqueezeExciteGate

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → the same minus mean, by deviation, channel by channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std


class ConvBNReLU(nn.Sequential):
    """Convolution that keeps the size at stride 1, batch-norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, rate: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(
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


class Depthwise(nn.Conv2d):
    """A depthwise convolution with stride or dilation; on a CPU it always trains in FP32.

    oneDNN's gradients of these in bf16 are slow: at stride 2 they take five to thirty times those
    of FP32, at dilation 2 twice. Its gradient of dilated weights is garbage, too, once the features
    are larger than about 16×16 (seen with torch 2.14: off by up to 1e35).
    """

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
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


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
    """

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        branches = [ConvBNReLU(in_channels, out_channels, kernel=1)]
        branches += [ConvBNReLU(in_channels, out_channels, rate=rate) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.pool = nn.Conv2d(in_channels, out_channels, 1)
        self.pool_project = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.project = nn.Sequential(
            nn.Conv2d(len(branches) * out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        local = self.project(torch.cat([branch(x) for branch in self.branches], dim=1))
        image = self.pool_project(self.pool(global_average(x)).relu())
        return (local + image).relu()
