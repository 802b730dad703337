"""Holistically-nested edge detection (Xie and Tu, ICCV 2015), and a light net of the same shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from runtime.errors import HedgeError
from train.checkpoint import load_state
from train.config import HedName
from train.models.blocks import ConvBN, ConvBNReLU, Normalize
from train.models.spec import describe_keys

# Caffe's means, BGR, on the 0-255 scale: the published weights expect them.
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
PIXEL_DEVIATION = 64  # on that scale, about: what comes after the first layer is near 1
_PUBLISHED = ("One", "Two", "Thr", "Fou", "Fiv")


class Hed(nn.Module):
    """Stages, a 1×1 score on each, a 1×1 fusion: (N, 3, H, W) RGB in 0..1 → edge logits.

    Returns a side output of each stage at the stage's own size, then what they are combined to at
    the first's, which is 1/stride of the image's.
    """

    stride = 1

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        normalize: Normalize,
        combine: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.scores = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)
        self.combine = combine or Fusion(len(channels))
        self.normalize = normalize

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) RGB in 0..1 → edge logits (N, 1, h, w) a stage, their fusion last."""
        sides = self.sides(self.features(image))
        return [*sides, self.combine(sides)]

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) RGB in 0..1 → what each stage makes of it, (N, C, h, w)."""
        x = self.normalize(image)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def sides(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Features of each stage → edge logits (N, 1, h, w) of each."""
        return [score(x) for score, x in zip(self.scores, features, strict=True)]


class Fusion(nn.Module):
    """The paper's 1×1 convolution: a weighted sum of the sides, which starts as their mean."""

    def __init__(self, sides: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, sides, 1, 1), 1 / sides))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, sides: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sides (N, 1, h, w), the largest first → their sum at its size, from the coarsest up: each
        step doubles what is there.

        A 1×1 convolution and bilinear interpolation commute, so this is the paper's fusion but for
        the smoother interpolation, and it handles one large map where that has five.
        """
        weights = self.weight.unbind(1)
        fused = sides[-1] * weights[-1]
        for side, weight in zip(sides[-2::-1], weights[-2::-1], strict=True):
            fused = upsample(fused, side.shape[-2:]) + side * weight
        return fused + self.bias


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al., CVPR 2017): what is seen coarsely comes down, and the finest
    level answers."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvBN(c, width) for c in channels)
        self.smooth = nn.ModuleList(ConvBNReLU(width, width) for _ in channels[:-1])
        self.score = nn.Conv2d(width, 1, 1)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features (N, C, h, w), the largest first → edge logits (N, 1, h, w) at its size."""
        x = self.lateral[-1](features[-1]).relu()
        steps = list(zip(self.lateral, self.smooth, features, strict=False))
        for lateral, smooth, near in reversed(steps):
            x = smooth((lateral(near) + upsample(x, near.shape[-2:])).relu())
        return self.score(x)


class HedVgg16(Hed):
    """The paper's network: the convolutions of VGG-16, 14.7 M parameters."""

    def __init__(self) -> None:
        widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
        stages: list[nn.Module] = []
        channels = 3
        for number, stage_widths in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2, 2, ceil_mode=True)] if number else []
            for width in stage_widths:
                conv = nn.Conv2d(channels, width, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # no batch-norm here
                if channels == 3:
                    conv.weight.data /= PIXEL_DEVIATION
                layers += [conv, nn.ReLU(inplace=True)]
                channels = width
            stages.append(nn.Sequential(*layers))
        mean = [value / 255 for value in MEAN_BGR[::-1]]  # the image comes as RGB in 0..1
        normalize = Normalize(mean, [1 / 255] * 3, bgr=True)
        super().__init__(stages, [w[-1] for w in widths], normalize)


class HedLite(Hed):
    """A net of the same shape for edge boxes: side outputs at 1/4 to 1/32, 0.19 M parameters.

    Nearly all of an engine's time for edges goes into maps larger than 1/4, where the segmentation
    network has no use for them. It normalises as that one does, so that engines do it once.
    """

    stride = 4
    channels = (32, 48, 64, 64)

    def __init__(self, combine: nn.Module | None = None) -> None:
        stages, last = [], 16
        for width in self.channels:
            layers = [ConvBNReLU(last, width, stride=2), ConvBNReLU(width, width)]
            stages.append(nn.Sequential(*layers))
            last = width
        stages[0].insert(0, ConvBNReLU(3, 16, stride=2))
        super().__init__(stages, self.channels, Normalize(), combine)


class HedFpn(HedLite):
    """The light net's stages under a feature pyramid, 0.21 M parameters.

    A sum of single maps cannot say that what is faint nearby is an outline from afar. Its side
    outputs only teach: they are there in training mode alone.
    """

    def __init__(self) -> None:
        super().__init__(Pyramid(self.channels, width=24))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) RGB in 0..1 → edge logits at 1/4, in training behind those of each stage."""
        features = self.features(image)
        return [*(self.sides(features) if self.training else ()), self.combine(features)]


class SideOutputs(nn.Module):
    """HED's side outputs on another network's stages: a 1×1 score on each, a 1×1 fusion.

    (N, C, h, w) features at 1/4, 1/8 and deeper → edge logits (N, maps, H/4, W/4), one map a stage
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

    def forward(self, *stages: torch.Tensor) -> torch.Tensor:
        """Features of each stage → edge logits (N, maps, H/4, W/4) of each, their fusion last.

        A 1×1 convolution and bilinear interpolation commute, so all maps are one sum of what each
        stage gives to each of them: engines resize and join single channels slowly.
        """
        count, size = len(self.scores), stages[0].shape[-2:]
        fusion = self.combine.get_parameter("weight").flatten(1)
        shares = torch.cat([torch.eye(count, device=fusion.device), fusion])  # (maps, stages)
        maps = F.pad(self.combine.get_parameter("bias"), (count, 0)).reshape(1, -1, 1, 1)
        for score, stage, share in zip(self.scores, stages, shares.unbind(1), strict=True):
            weight = share.reshape(-1, 1, 1, 1) * score.get_parameter("weight")
            given = F.conv2d(stage, weight, share * score.get_parameter("bias"))
            maps = maps + upsample(given, size)
        return maps


HEDS: dict[HedName, Callable[[], Hed]] = {
    "vgg16": HedVgg16,
    "lite": HedLite,
    "fpn": HedFpn,
}


def upsample(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear to (H, W); nothing at all when it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def load_hed_weights(hed: Hed, path: Path) -> None:
    """Fill ``hed`` from a file; HedgeError names the keys that differ.

    It takes published key names (moduleVggOne.0.weight … or Caffe's conv1_1.weight …), the
    network's own keys, a run of train.hed, and checkpoints of ours that hold an edge network.
    """
    _fill(hed, _edge_state(path), path)


def edge_file(source: Path) -> Path:
    """The weights of a run of train.hed, or the file itself."""
    return source / "edges.pt" if source.is_dir() else source


def read_hed(path: Path) -> Hed:
    """The edge network whose weights ``path`` holds, as ``load_hed_weights`` takes them."""
    state = _edge_state(path)
    networks = [make() for make in HEDS.values()]
    nearest = min(networks, key=lambda network: len(network.state_dict().keys() ^ state.keys()))
    _fill(nearest, state, path)
    return nearest


def _edge_state(path: Path) -> dict[str, torch.Tensor]:
    state = {_own_key(key): value for key, value in load_state(edge_file(path)).items()}
    nested = {k.removeprefix("hed."): v for k, v in state.items() if k.startswith("hed.")}
    return nested or state


def _fill(hed: Hed, state: dict[str, torch.Tensor], path: Path) -> None:
    own = hed.state_dict()
    missing = [k for k in own if k not in state]
    extra = [k for k in state if k not in own]
    shapes = [k for k in state if k in own and state[k].shape != own[k].shape]
    if missing or extra or shapes:
        kind = type(hed).__name__
        raise HedgeError(f"{path}: not weights of {kind}: {describe_keys(missing, extra, shapes)}")
    hed.load_state_dict(state)


def _own_key(key: str) -> str:
    """Our name for a published key: moduleVggThr.1.weight, or Caffe's conv3_1.weight."""
    for index, number in enumerate(_PUBLISHED):
        key = re.sub(rf"^(module|net)Vgg{number}\.", f"stages.{index}.", key)
        key = re.sub(rf"^(module|net)Score{number}\.", f"scores.{index}.", key)
    key = re.sub(r"^conv(\d)_(\d)\.", _from_caffe, key)
    key = re.sub(r"^score[_-]dsn(\d)\.", lambda found: f"scores.{int(found[1]) - 1}.", key)
    return re.sub(r"^((module|net)Combine\.0|score[_-]final)\.", "combine.", key)


def _from_caffe(found: re.Match[str]) -> str:
    """conv3_1. → stages.2.1.: behind a max-pool in all stages but the first, and between ReLUs."""
    stage, layer = int(found[1]) - 1, int(found[2]) - 1
    return f"stages.{stage}.{2 * layer + (stage > 0)}."
