"""DeepLabV3 encoder-decoder (Chen et al., ECCV 2018) with Squeeze-Excitation and HED inside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from train.config import ModelConfig
from train.models.backbone import BACKBONES, Backbone
from train.models.blocks import ASPP, ConvBNReLU
from train.models.hed import HEDS, SideOutputs, upsample

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)
SKIP_CHANNELS = 48
EDGE_CHANNELS = 16


class Segmentation(NamedTuple):
    """What the network answers.

    logits: (N, C, H, W); edges: logit maps of HED (five sides, then the fusion at the image's
    size) or of the trunk's side outputs, None without either. The edge map itself is
    ``edges[-1].sigmoid()``.
    """

    logits: torch.Tensor
    edges: list[torch.Tensor] | None


class DeepLab(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → class logits at the same size; any H and W.

    Normalisation is part of the network, so that training, evaluation and the exported graph
    cannot drift apart. The decoder climbs from 1/output_stride through skips at 1/8 and 1/4. HED's
    edge map enters as fourth input channel and again, at 1/4, before the classifier; side outputs
    of the backbone enter there only.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig, weights: str | None = None) -> None:
        super().__init__()
        spec = BACKBONES[config.backbone]
        quarter, eighth, deep = spec.channels
        wide, narrow = spec.decoder
        design = config.edges
        self.config = config
        self.hed = HEDS[design.network]() if design.network else None
        self.edge_stem = _edge_stem() if config.edge_input else None
        self.sides = SideOutputs(spec.channels) if design.trunk else None
        self.backbone = Backbone(config, weights)
        edge = EDGE_CHANNELS if config.edge_input else 0
        if self.sides is not None and design.fused:
            edge = self.sides.maps
        self.aspp = ASPP(deep, wide, config.atrous_rates)
        self.skip8 = ConvBNReLU(eighth, SKIP_CHANNELS, kernel=1)
        self.skip4 = ConvBNReLU(quarter, SKIP_CHANNELS, kernel=1)
        self.fuse8 = ConvBNReLU(wide + SKIP_CHANNELS, wide)
        self.fuse4 = ConvBNReLU(wide + SKIP_CHANNELS + edge, narrow)
        self.classifier = nn.Conv2d(narrow, config.num_classes, 1)
        self.register_buffer("mean", _per_channel(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", _per_channel(IMAGENET_STD), persistent=False)

    def forward(self, image: torch.Tensor, out_size: tuple[int, int] | None = None) -> Segmentation:
        """out_size: (H, W) of the logits, reached in the one upsampling; default the image's."""
        x = (image - self.mean) / self.std
        edges, edge_features = None, []
        if self.edge_stem is not None:
            edge = torch.zeros_like(image[:, :1])
            if self.hed is not None:
                edges = self.hed(image)
                edge = edges[-1].sigmoid()  # 1/1
            x = torch.cat([x, edge], dim=1)
            edge_features = [self.edge_stem(edge)]  # 1/4
        quarter, eighth, deep = self.backbone(x)
        if self.sides is not None:
            edges = self.sides(quarter, eighth, deep)  # 1/4
            if self.config.edges.fused:
                edge_features = [torch.cat(edges, dim=1).sigmoid()]
        x = upsample(self.aspp(deep), eighth.shape[-2:])
        x = self.fuse8(torch.cat([x, self.skip8(eighth)], dim=1))  # 1/8
        x = upsample(x, quarter.shape[-2:])
        x = self.fuse4(torch.cat([x, self.skip4(quarter), *edge_features], dim=1))  # 1/4
        logits = upsample(self.classifier(x), out_size or image.shape[-2:])
        return Segmentation(logits, edges)


def _edge_stem() -> nn.Sequential:
    """The edge map to 1/4 by two strided convolutions, which keep what pooling would blur."""
    return nn.Sequential(ConvBNReLU(1, 8, stride=2), ConvBNReLU(8, EDGE_CHANNELS, stride=2))


def _per_channel(values: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)
