"""DeepLabV3 encoder-decoder (Chen et al., ECCV 2018) with Squeeze-Excitation and HED inside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from train.config import DECODERS, TIMM, ModelConfig
from train.models.backbone import BACKBONES, Backbone
from train.models.blocks import ASPP, ConvBN, ConvBNReLU, Normalize, SeparableConv
from train.models.hed import HEDS, HedLite, SideOutputs, upsample
from train.models.timm_backbone import TimmBackbone, timm_spec

AUXILIARY = "auxiliary."  # how the names of the second head's weights begin
SKIP_CHANNELS = 48
EDGE_CHANNELS = 16


class Segmentation(NamedTuple):
    """What the network answers.

    logits: (N, C, H, W); edges: logit maps (N, 1, h, w) of HED or of the trunk's side outputs, the
    fusion last, None without either. The edge map itself is ``edges[-1].sigmoid()``; auxiliary:
    (N, C, H, W) logits of the head that is there in training alone, None without it.
    """

    logits: torch.Tensor
    edges: list[torch.Tensor] | None
    auxiliary: torch.Tensor | None = None


class DeepLab(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → class logits at the same size; any H and W.

    Normalisation is part of the network, so that training, evaluation and the exported graph
    cannot drift apart. The decoder, a row of DECODERS, climbs from 1/output_stride through skips at
    1/16, where it has one, 1/8 and 1/4. Edges enter it at 1/4: HED's map, or side outputs of the
    backbone. (A fourth input channel, where the seed had them too, takes a sixth of a mobile
    network's frame.)

    auxiliary: whether there is a second head, on the backbone's last features, which answers in
    training mode alone. It is no part of ``config``, nor of a checkpoint's weights.
    """

    def __init__(
        self, config: ModelConfig, weights: str | None = None, auxiliary: bool = False
    ) -> None:
        super().__init__()
        ours = not config.backbone.startswith(TIMM)
        spec = BACKBONES[config.backbone] if ours else timm_spec(config)
        quarter, eighth, sixteenth, deep = spec.channels
        wide, narrow = spec.decoder
        design = config.edges
        self.config = config
        self.normalize = Normalize(spec.mean, spec.std)
        self.hed = HEDS[design.network]() if design.network else None
        self.edge_stem = _edge_stem(self.edge_stride) if config.edge_map else None
        self.sides = SideOutputs((quarter, eighth, deep)) if design.trunk else None
        self.backbone = (Backbone if ours else TimmBackbone)(config, weights)
        edge = EDGE_CHANNELS if config.edge_map else 0
        if self.sides is not None and design.fused:
            edge = self.sides.maps
        decoder = DECODERS[config.decoder]
        fuse = SeparableConv if decoder.fuse == "separable" else ConvBNReLU
        self.aspp = ASPP(deep, wide, config.atrous_rates, decoder.aspp)
        self.skip8: nn.Module
        self.skip4: nn.Module
        if decoder.skips == "add":
            self.skip8 = ConvBN(eighth, wide)
            self.skip4 = ConvBN(quarter + edge, narrow)
            self.fuse8 = fuse(wide, narrow)
            self.fuse4 = fuse(narrow, narrow)
        else:
            self.skip8 = ConvBNReLU(eighth, SKIP_CHANNELS, kernel=1)
            self.skip4 = ConvBNReLU(quarter, SKIP_CHANNELS, kernel=1)
            up = narrow if decoder.taper else wide
            self.fuse8 = fuse(wide + SKIP_CHANNELS, up)
            self.fuse4 = fuse(up + SKIP_CHANNELS + edge, narrow)
        if decoder.skip16:
            self.skip16 = ConvBNReLU(sixteenth, SKIP_CHANNELS, kernel=1)
            self.fuse16 = fuse(wide + SKIP_CHANNELS, wide)
        self.classifier = nn.Conv2d(narrow, config.num_classes, 1)
        self.auxiliary: nn.Module | None = None
        if auxiliary:
            head = nn.Conv2d(narrow, config.num_classes, 1)
            self.auxiliary = nn.Sequential(ConvBNReLU(deep, narrow), head)

    def require(self, size: tuple[int, int]) -> None:
        """HedgeError unless the backbone takes images of (H, W): some of timm's take few sizes."""
        if isinstance(self.backbone, TimmBackbone):
            self.backbone.require(size)

    def forward(self, image: torch.Tensor, out_size: tuple[int, int] | None = None) -> Segmentation:
        """out_size: (H, W) of the logits, reached in the one upsampling; default the image's."""
        edges, edge_features = None, []
        if self.edge_stem is not None:
            edge = torch.zeros_like(image[:, :1, :: self.edge_stride, :: self.edge_stride])
            if self.hed is not None:
                edges = self.hed(image)
                edge = edges[-1].sigmoid()  # 1/edge_stride
            edge_features = [self.edge_stem(edge)]  # 1/4
        quarter, eighth, sixteenth, deep = self.backbone(self.normalize(image))
        if self.sides is not None:
            maps = self.sides(quarter, eighth, deep)  # 1/4
            edges = list(maps.split(1, dim=1))
            if self.config.edges.fused:
                edge_features = [maps.sigmoid()]
        x = self.aspp(deep)  # 1/output_stride
        if DECODERS[self.config.decoder].skip16:
            x = self.fuse16(self._joined(x, self.skip16, sixteenth))
        x = self.fuse8(self._joined(x, self.skip8, eighth))  # 1/8
        x = self.fuse4(self._joined(x, self.skip4, quarter, *edge_features))  # 1/4
        size = out_size or image.shape[-2:]
        auxiliary = None
        if self.auxiliary is not None and self.training:
            auxiliary = upsample(self.auxiliary(deep), size)
        return Segmentation(upsample(self.classifier(x), size), edges, auxiliary)

    def _joined(
        self, x: torch.Tensor, skip: nn.Module, features: torch.Tensor, *edges: torch.Tensor
    ) -> torch.Tensor:
        """What comes from below, at twice its size, with the backbone's features and edges."""
        x = upsample(x, features.shape[-2:])
        if DECODERS[self.config.decoder].skips == "add":
            return (x + skip(torch.cat([features, *edges], dim=1))).relu()
        return torch.cat([x, skip(features), *edges], dim=1)

    @property
    def edge_stride(self) -> int:
        """The edge map's resolution is one in so many; a blank map has the light net's."""
        return self.hed.stride if self.hed is not None else HedLite.stride


def _edge_stem(stride: int) -> nn.Sequential:
    """An edge map to 1/4; strided convolutions keep what pooling would blur."""
    if stride == 4:
        return ConvBNReLU(1, EDGE_CHANNELS)
    return nn.Sequential(ConvBNReLU(1, 8, stride=2), ConvBNReLU(8, EDGE_CHANNELS, stride=2))
