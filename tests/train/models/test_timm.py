"""Networks of timm as backbones, and the two spellings of EfficientNet's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from runtime.errors import HedgeError
from train.config import ModelConfig, TrainConfig
from train.losses import edge_loss, segmentation_loss
from train.models import DeepLab
from train.models.blocks import SqueezeExcite
from train.models.timm_backbone import TimmBackbone

LITE = "timm/tf_efficientnet_lite0"
NETWORKS = (LITE, "timm/resnet10t", "timm/test_efficientnet")


@pytest.mark.parametrize("backbone", NETWORKS)
def test_it_trains_a_step_with_edges_and_gates(backbone: str) -> None:
    torch.manual_seed(0)
    model = DeepLab(TrainConfig(backbone=backbone).model(5))
    logits, edges, _ = model(torch.rand(2, 3, 33, 47))
    assert logits.shape == (2, 5, 33, 47)
    assert edges is not None and edges[-1].shape == (2, 1, 9, 12)  # 1/4
    target = torch.randint(0, 5, (2, 33, 47))
    (segmentation_loss(logits, target) + edge_loss(edges, (target % 2 * 254).byte())).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride_is_what_was_asked(backbone: str, stride: int) -> None:
    config = ModelConfig(backbone, 5, output_stride=stride)  # type: ignore[arg-type]
    features = TimmBackbone(config).eval()(torch.rand(1, 3, 64, 128))
    strides = [64 // stage.shape[-2] for stage in features]
    assert strides == [128 // stage.shape[-1] for stage in features]
    assert strides == [4, 8, min(16, stride), stride]


def test_three_gates_start_as_identity() -> None:
    torch.manual_seed(0)
    plain = TimmBackbone(ModelConfig(LITE, 5)).eval()
    torch.manual_seed(0)
    gated = TimmBackbone(ModelConfig(LITE, 5, se="sigmoid")).eval()
    gates = [m.channels for m in gated.modules() if isinstance(m, SqueezeExcite)]
    assert gates == [24, 40, 112]  # 1/4, 1/8, 1/16
    x = torch.rand(1, 3, 64, 64)
    for a, b in zip(plain(x), gated(x), strict=True):
        torch.testing.assert_close(a, b)


def test_its_own_normalisation_is_in_the_network() -> None:
    model = DeepLab(ModelConfig(LITE, 5))
    gray = torch.full((1, 3, 1, 1), 127.5 / 255)
    torch.testing.assert_close(model.normalize(gray), torch.zeros(1, 3, 1, 1))
    white = model.normalize(torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(white, torch.ones(1, 3, 1, 1))


def test_nothing_pads_by_the_input_and_no_norm_hides_an_activation() -> None:
    """What is exported, and what torch makes a SyncBatchNorm of, is made of plain layers."""
    network = timm.create_model("tf_efficientnet_lite0", output_stride=16)
    assert any(isinstance(m, Conv2dSame) for m in network.modules())
    torch.manual_seed(0)
    plain = TimmBackbone(ModelConfig(LITE, 5)).eval()
    assert not [m for m in plain.modules() if isinstance(m, Conv2dSame | BatchNormAct2d)]
    image = torch.rand(1, 3, 64, 64)
    deep = plain(image)[2]
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(plain).eval()
    assert not [m for m in synced.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(synced(image)[2], deep)


def published(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights under the names of EfficientNet's first PyTorch version, in its order."""
    blocks: list[str] = []
    state = {}
    for key, value in network.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            block = ".".join(parts[1:3])
            if block not in blocks:
                blocks.append(block)
            first = parts[1] == "0"
            names = {
                "conv_pw": "_expand_conv",
                "conv_dw": "_depthwise_conv",
                "conv_pwl": "_project_conv",
                "bn1": "_bn0",
                "bn2": "_bn1",
                "bn3": "_bn2",
            }
            if first:  # without an expansion
                names |= {"conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
            parts = ["_blocks", str(len(blocks) - 1), names[parts[3]], parts[4]]
        else:
            heads = {
                "conv_stem": "_conv_stem",
                "bn1": "_bn0",
                "conv_head": "_conv_head",
                "bn2": "_bn1",
                "classifier": "_fc",
            }
            parts[0] = heads[parts[0]]
        state[".".join(parts)] = value
    return state  # fmt: skip


def test_both_spellings_of_efficientnet_weights_load(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = timm.create_model("tf_efficientnet_lite0")
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    first, own = published(source), source.state_dict()
    assert "_blocks.15._project_conv.weight" in first and len(first) == len(own)
    for name, state in (("first", first), ("own", own)):
        torch.save(state, tmp_path / f"{name}.pth")
        loaded = TimmBackbone(ModelConfig(LITE, 5), str(tmp_path / f"{name}.pth"))
        deep = loaded.network.blocks[6][0]
        torch.testing.assert_close(deep.conv_pwl.weight, own["blocks.6.0.conv_pwl.weight"])
        torch.testing.assert_close(deep.bn1[0].running_var, own["blocks.6.0.bn1.running_var"])


def test_weights_that_differ_are_named(tmp_path: Path) -> None:
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    path = tmp_path / "bad.pth"
    torch.save({k: v for k, v in state.items() if k != "blocks.3.0.conv_dw.weight"}, path)
    with pytest.raises(HedgeError, match=r"bad\.pth: not weights.*blocks\.3\.0\.conv_dw\.weight"):
        TimmBackbone(ModelConfig(LITE, 5), str(path))
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    with pytest.raises(HedgeError, match=r"bad\.pth: not weights of timm/tf_efficientnet_lite0"):
        TimmBackbone(ModelConfig(LITE, 5), str(path))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("timm/efficientnet_lte0", "no such network"),
        ("timm/vit_tiny_patch16_224", "no feature maps at 1/4 and 1/8"),
    ],
)
def test_what_is_no_backbone_is_told_in_a_line(backbone: str, message: str) -> None:
    with pytest.raises(HedgeError, match=message) as caught:
        DeepLab(ModelConfig(backbone, 5, output_stride=32))
    assert "\n" not in str(caught.value)


def test_a_backbone_of_no_library_is_refused() -> None:
    with pytest.raises(HedgeError, match=r"--backbone resnet51: not one of resnet50, .* timm/NAME"):
        TrainConfig(backbone="resnet51")
