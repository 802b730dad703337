"""Networks of timm as backbones: any that has feature maps at 1/4 and 1/8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.errors import HedgeError, one_line
from train.checkpoint import load_state
from train.config import TIMM, ModelConfig
from train.models.blocks import Depthwise, SqueezeExcite
from train.models.spec import BackboneSpec, describe_keys

_WIDE = 512  # channels of the last stage from which a network counts as a large one


class TimmBackbone(nn.Module):
    """(N, 3, H, W) → features of four stages of timm's ``config.backbone``.

    They are those at 1/4 and 1/8, the last but one and the last, at 1/output_stride.

    A Squeeze-Excitation gate closes each of the stages at 1/4, 1/8 and 1/16, as in our own mobile
    networks. Padding that depends on the input's size (TensorFlow's "same") becomes symmetric:
    it moves the grid of samples by a pixel, and engines need no layer for it.
    """

    def __init__(self, config: ModelConfig, weights: str | None = None) -> None:
        super().__init__()
        network = _network(config)
        if weights:
            _load(network, config.backbone, weights)
        self.name = config.backbone
        self.indices = _indices(network, config.backbone)
        stages = [stage["module"] for stage in network.feature_info]
        network.prune_intermediate_layers(self.indices)
        for path, module in list(network.named_modules()):
            if (plain := _plain(module)) is not module:
                network.set_submodule(path, plain)
        if config.se:
            for index in range(self.indices[0], self.indices[-1]):
                stage, channels = stages[index], network.feature_info[index]["num_chs"]
                gate = SqueezeExcite(channels, config.se)
                network.set_submodule(stage, nn.Sequential(network.get_submodule(stage), gate))
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) normalised RGB → features of the four stages."""
        return self.network.forward_intermediates(x, indices=self.indices, intermediates_only=True)

    @torch.no_grad()
    def require(self, size: tuple[int, int]) -> None:
        """HedgeError unless it takes images of (H, W): Swin has one size, DLA wants even sides."""
        training, device = self.training, next(self.parameters()).device
        try:
            self.eval()(torch.zeros(1, 3, *size, device=device))
        except (AssertionError, RuntimeError) as error:
            raise HedgeError(
                f"--backbone {self.name} takes no images of {size[0]}×{size[1]} "
                f"({one_line(error)}); give another --size, in training also --crop, as "
                "multiples of 32, or take another"
            ) from error
        self.train(training)


def timm_spec(config: ModelConfig) -> BackboneSpec:
    """What comes out of timm's network, and how its input is normalised."""
    network = _network(config)
    quarter, eighth, sixteenth, deep = (
        network.feature_info[index]["num_chs"] for index in _indices(network, config.backbone)
    )
    return BackboneSpec(
        cuts=None,
        channels=(quarter, eighth, sixteenth, deep),
        decoder=(256, 128) if deep > _WIDE else (128, 64),
        mean=network.default_cfg["mean"],
        std=network.default_cfg["std"],
    )


def _network(config: ModelConfig) -> Any:
    """The whole network, classifier included, with random weights."""
    try:
        import timm
    except ImportError as error:
        raise HedgeError(
            f"--backbone {config.backbone} needs timm: pip install 'hedge-seg[train]'"
        ) from error
    name = config.backbone.removeprefix(TIMM)
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('_')[0]}*")[:4])
        raise HedgeError(
            f"--backbone {config.backbone}: timm {timm.__version__} has no such network"
            + (f"; it has {near}, …" if near else "")
        )
    stride = {} if config.output_stride == 32 else {"output_stride": config.output_stride}
    try:
        return timm.create_model(name, **stride)
    except (AssertionError, NotImplementedError, TypeError) as error:
        raise HedgeError(
            f"--backbone {config.backbone} cannot run at output stride {config.output_stride}; "
            "try --output-stride 32"
        ) from error


def _indices(network: Any, name: str) -> list[int]:
    """Positions of the stages at 1/4 (its last), 1/8 (its last), the last but one and the last."""
    info = getattr(network, "feature_info", None) or []
    last = {stage["reduction"]: index for index, stage in enumerate(info)}
    if not {4, 8} <= last.keys() or not hasattr(network, "forward_intermediates"):
        raise HedgeError(f"--backbone {name} has no feature maps at 1/4 and 1/8; take another")
    indices = [last[4], last[8], len(info) - 2, len(info) - 1]
    if indices[1] == indices[3]:  # output stride 8: the stage that had 1/8 before dilation
        indices[1] = next(i for i, stage in enumerate(info) if stage["reduction"] == 8)
    return indices


def _load(network: Any, name: str, weights: str) -> None:
    """Fill the whole network from a state-dict file, or from timm's own ("imagenet").

    HedgeError names keys that differ.
    """
    if weights == "imagenet":
        raise HedgeError(
            f"--weights imagenet is torchvision's; give a state dict of {name} with --weights FILE"
        )
    own = network.state_dict()
    state = _timm_keys(load_state(Path(weights)), own)
    head = tuple(f"{name}." for name in _classifiers(network))
    missing = [k for k in own if k not in state and not k.startswith(head)]
    extra = [k for k in state if k not in own and not k.startswith(head)]
    shapes = [k for k in state if k in own and state[k].shape != own[k].shape]
    shapes = [k for k in shapes if not k.startswith(head)]
    if missing or extra or shapes:
        raise HedgeError(
            f"{weights}: not weights of {name}: {describe_keys(missing, extra, shapes)}"
        )
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    network.load_state_dict(fitting, strict=False)


def _classifiers(network: Any) -> Iterator[str]:
    named = network.default_cfg["classifier"]
    yield from [named] if isinstance(named, str) else named


def _timm_keys(
    state: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """EfficientNet's first keys in PyTorch (``_conv_stem``, ``_blocks.0._bn1``) as timm's.

    Both list the same layers in the same order, so the position tells the name; the tensor's own
    name and its shape must agree, else the keys stay as they are.
    """
    if "_conv_stem.weight" not in state or len(state) != len(own):
        return state
    pairs = list(zip(state.items(), own.items(), strict=True))
    same = all(
        theirs.rpartition(".")[2].removeprefix("_") == ours.rpartition(".")[2]
        and given.shape == tensor.shape
        for (theirs, given), (ours, tensor) in pairs
    )
    return {ours: given for (_, given), (ours, _) in pairs} if same else state


def _plain(module: nn.Module) -> nn.Module:
    """The same layer of torch's or ours, with its weights; other modules as they are.

    timm's batch-norm has the activation inside, which torch's conversion to SyncBatchNorm drops.
    """
    from timm.layers import BatchNormAct2d, Conv2dSame

    if isinstance(module, BatchNormAct2d):
        norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum)
        norm.load_state_dict(module.state_dict(), strict=False)
        return nn.Sequential(norm, module.drop, module.act)
    if not isinstance(module, nn.Conv2d):
        return module
    if isinstance(module, Conv2dSame):
        padding = [
            d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        module.__class__ = nn.Conv2d
        module.padding = (padding[0], padding[1])
    return Depthwise.of(module) if Depthwise.suits(module) else module
