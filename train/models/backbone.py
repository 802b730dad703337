"""torchvision networks as four stages at 1/4, 1/8, 1/16 and 1/32, dilated and with SE as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models as tv
from torchvision.models.mobilenetv2 import InvertedResidual as InvertedResidualV2
from torchvision.models.mobilenetv3 import InvertedResidual as InvertedResidualV3
from torchvision.models.resnet import BasicBlock, Bottleneck

from runtime.errors import HedgeError
from train.checkpoint import load_state
from train.config import ModelConfig, SqueezeExciteGate
from train.models.blocks import Depthwise, SqueezeExcite
from train.models.spec import BackboneSpec, describe_keys

BACKBONES: dict[str, BackboneSpec] = {
    "resnet50": BackboneSpec(None, (256, 512, 1024, 2048), (256, 128)),
    "resnet18": BackboneSpec(None, (64, 128, 256, 512), (256, 128)),
    "mobilenet_v2": BackboneSpec((4, 7, 14, 18), (24, 32, 96, 320), (128, 64)),
    "mobilenet_v3_large": BackboneSpec((4, 7, 13, 16), (24, 40, 112, 160), (128, 64)),
}


class Backbone(nn.Module):
    """(N, 3, H, W) → features of four stages: at 1/4, 1/8, 1/16 and 1/output_stride.

    At output stride 8 those of the third stage are at 1/8 as well.

    SE sits in the stages at 1/4, 1/8 and 1/16 (the seed's stages 2-4; the last stage has none): in
    a ResNet in every block, before its last convolution, as RegNetY has it (Radosavovic et al.,
    CVPR 2020), which leaves the convolution next to the shortcut that engines fuse it with. The
    blocks of a mobile network are so quick that a gate in each would take a tenth of the frame, so
    there one gate closes each stage. Those that MobileNetV3 has by itself stay.
    """

    def __init__(self, config: ModelConfig, weights: str | None = None) -> None:
        super().__init__()
        network = tv.get_model(config.backbone, weights=None)
        if weights:
            load_backbone_weights(network, config.backbone, weights)
        stages = _stages(network, BACKBONES[config.backbone])
        for stage, rate in zip(stages[2:], _dilations(config.output_stride), strict=True):
            _dilate(stage, rate)
        for stage in stages:
            _replace_depthwise(stage)
        if config.se:
            for stage in stages[:3]:
                _insert_squeeze_excite(stage, config.se)
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) normalised RGB → features of the four stages."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def load_backbone_weights(network: nn.Module, name: str, weights: str) -> None:
    """Fill a plain torchvision network from a state-dict file, or from torchvision ("imagenet").

    The classifier, which segmentation drops, may be missing. HedgeError names keys that differ.
    """
    if weights == "imagenet":
        try:
            state = tv.get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        except OSError as error:
            raise HedgeError(
                f"cannot download {name} weights ({error}); give a file with --weights FILE"
            ) from error
    else:
        state = load_state(Path(weights))
    head = ("fc.", "classifier.", "features.18.", "features.16.")
    unused = head[:2] if name.startswith("resnet") else head
    own = network.state_dict()
    missing = [k for k in own if k not in state and not k.startswith(unused)]
    extra = [k for k in state if k not in own and not k.startswith(unused)]
    shapes = [k for k in state if k in own and state[k].shape != own[k].shape]
    if missing or extra or shapes:
        raise HedgeError(
            f"{weights}: not weights of {name}: {describe_keys(missing, extra, shapes)}"
        )
    network.load_state_dict(state, strict=False)


def _stages(network: nn.Module, spec: BackboneSpec) -> list[nn.Sequential]:
    parts: dict[str, Any] = dict(network.named_children())
    if spec.cuts is None:
        stem = [parts[name] for name in ("conv1", "bn1", "relu", "maxpool")]
        first = nn.Sequential(*stem, *parts["layer1"])
        return [first, parts["layer2"], parts["layer3"], parts["layer4"]]
    starts = (0, *spec.cuts[:3])
    return [parts["features"][start:end] for start, end in zip(starts, spec.cuts, strict=True)]


def _dilations(output_stride: int) -> tuple[int, int]:
    """Dilation of the stages that would run at 1/16 and 1/32; 1 leaves the stride alone."""
    return {8: (2, 4), 16: (1, 2), 32: (1, 1)}[output_stride]


def _dilate(stage: nn.Module, rate: int) -> None:
    """Trade the stage's stride for dilation (torchvision can do so for Bottleneck only)."""
    if rate == 1:
        return
    for conv in stage.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        conv.stride = (1, 1)
        if conv.kernel_size[0] > 1:
            conv.dilation = (rate, rate)
            conv.padding = (rate * (conv.kernel_size[0] // 2),) * 2


def _replace_depthwise(stage: nn.Module) -> None:
    """Put ours where a depthwise convolution is slow to train."""
    for parent in list(stage.modules()):
        for name, conv in parent.named_children():
            if isinstance(conv, nn.Conv2d) and Depthwise.suits(conv):
                setattr(parent, name, Depthwise.of(conv))


def _insert_squeeze_excite(stage: nn.Sequential, gate: SqueezeExciteGate) -> None:
    for block in stage:
        if isinstance(block, Bottleneck):
            block.conv3 = _preceded_by_se(block.conv3, gate)
        elif isinstance(block, BasicBlock):
            block.conv2 = _preceded_by_se(block.conv2, gate)
    if isinstance(stage[-1], InvertedResidualV2 | InvertedResidualV3):
        stage.add_module("squeeze_excite", SqueezeExcite(stage[-1].out_channels, gate))


def _preceded_by_se(conv: nn.Conv2d, gate: SqueezeExciteGate) -> nn.Sequential:
    return nn.Sequential(SqueezeExcite(conv.in_channels, gate), conv)
