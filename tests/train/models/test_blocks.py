"""Layers that compute in another way while they train on a CPU: the answers stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from train.models.blocks import WIDEST, Depthwise, WideConv


def assert_nearly(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal but for the rounding of bf16."""
    tolerance = 0.02 * float(wanted.detach().abs().max())
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=tolerance)


KINDS = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (5, 1, 2), (3, 1, 4)]


@pytest.mark.parametrize("size", [(16, 24), (17, 24), (23, 30)])
@pytest.mark.parametrize(("kernel", "stride", "rate"), KINDS)
def test_depthwise_answers_and_learns_as_torch_does(
    kernel: int, stride: int, rate: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, rate * (kernel // 2), rate, groups=16, bias=False)
    assert Depthwise.suits(conv) == ((kernel, stride, rate) != (3, 1, 1))
    layer = Depthwise.of(conv)
    image = torch.randn(2, 16, *size).contiguous(memory_format=torch.channels_last)
    image.requires_grad_()
    wanted = conv(image)
    direction = torch.randn_like(wanted)
    gradients = torch.autograd.grad(wanted, (image, conv.weight), direction)
    with torch.autocast("cpu", torch.bfloat16):
        answer = layer(image)
    found = torch.autograd.grad(answer, (image, layer.weight), direction.to(answer.dtype))
    for a, b in zip((answer, *found), (wanted, *gradients), strict=True):
        torch.testing.assert_close(
            a.float(), b, rtol=0.02, atol=0.02 * float(b.detach().abs().max())
        )


def test_a_wide_convolution_is_the_sum_over_its_parts() -> None:
    torch.manual_seed(0)
    layer = WideConv(2 * WIDEST + 52, 8, 3, padding=2, dilation=2, bias=False)
    image = torch.randn(1, layer.in_channels, 12, 16)
    wanted = F.conv2d(image, layer.weight, padding=2, dilation=2)
    torch.testing.assert_close(layer(image), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        answer = layer(image).float()
    torch.testing.assert_close(
        answer, wanted, rtol=0.02, atol=0.02 * float(wanted.detach().abs().max())
    )
    assert not torch.equal(answer, wanted)
