"""Initial weights of an edge network: other edge weights, or an ImageNet VGG-16."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torchvision import models as tv

from runtime.errors import HedgeError
from train.checkpoint import load_state
from train.models.blocks import IMAGENET_MEAN, IMAGENET_STD
from train.models.hed import Hed, HedVgg16, edge_file, load_hed_weights


def start(hed: Hed, source: str) -> None:
    """Load edge weights into ``hed``; HedVgg16 also takes torchvision's vgg16.

    source: a file, a run of train.hed, or "imagenet" (torchvision downloads it). HedgeError names
    what does not fit.
    """
    if source == "imagenet":
        if not isinstance(hed, HedVgg16):
            raise HedgeError("--start imagenet: only --net vgg16 has a network to start from there")
        try:
            state = tv.VGG16_Weights.DEFAULT.get_state_dict(progress=True)
        except OSError as error:
            raise HedgeError(f"cannot download vgg16 ({error}); give --start FILE") from error
        _take_vgg16(hed, state, source)
        return
    state = load_state(edge_file(Path(source)))
    if isinstance(hed, HedVgg16) and "features.0.weight" in state:
        _take_vgg16(hed, state, source)
    else:
        load_hed_weights(hed, Path(source))


def _take_vgg16(hed: HedVgg16, state: dict[str, torch.Tensor], source: str) -> None:
    """Copy the 13 convolutions; the first is converted from torchvision's input to HED's.

    Torchvision's: RGB in 0..1, minus mean, by deviation. HED's: BGR in 0..255, minus Caffe's means.
    """
    with torch.device("meta"):  # to ask for its layers, without half a gigabyte of classifier
        layers = tv.vgg16().features
    own = [m for stage in hed.stages for m in stage.modules() if isinstance(m, nn.Conv2d)]
    names = [f"features.{i}" for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    for conv, name in zip(own, names, strict=True):
        for part, tensor in (("weight", conv.weight), ("bias", conv.bias)):
            given = state.get(f"{name}.{part}")
            assert tensor is not None
            if given is None or given.shape != tensor.shape:
                raise HedgeError(
                    f"{source}: not weights of vgg16: {name}.{part} is missing or of another shape"
                )
            tensor.data.copy_(given)
    first, bias = own[0].weight.data, own[0].bias
    assert bias is not None
    mean, deviation = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])[:, None, :, None, None]
    first /= deviation
    bias.data += (first * (hed.normalize.mean.cpu() - mean)).sum((1, 2, 3))
    first.copy_(first.flip(1) / 255)
