"""The networks: every variant on every backbone, and what SE, HED and the loaders promise."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models as tv

from runtime.errors import HedgeError
from train.config import (
    DECODERS,
    VARIANTS,
    BackboneName,
    DecoderName,
    EdgeName,
    ModelConfig,
    TrainConfig,
)
from train.losses import edge_loss, segmentation_loss
from train.models import DeepLab
from train.models.backbone import Backbone
from train.models.blocks import Depthwise, SqueezeExcite

BACKBONES = typing.get_args(BackboneName)
CLASSES = 5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_variant_trains_a_step(variant: str, backbone: str) -> None:
    torch.manual_seed(0)
    model = DeepLab(TrainConfig(variant=variant, backbone=backbone).model(CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    image, target = torch.rand(2, 3, 33, 47), torch.randint(0, CLASSES, (2, 33, 47))
    logits, edges, _ = model(image)
    assert logits.shape == (2, CLASSES, 33, 47)
    loss = segmentation_loss(logits, target)
    if VARIANTS[variant].hed:
        assert edges is not None and edges[-1].shape == (2, 1, 9, 12)  # 1/4
        loss = loss + edge_loss(edges, (target % 2 * 254).byte())
    else:
        assert edges is None
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without, "parameters that nothing trains"
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    assert any(not torch.equal(before[n], p) for n, p in model.named_parameters())


@pytest.mark.parametrize("hed", ["shared", "supervised", "blank"])
def test_every_edge_design_trains_a_step(hed: EdgeName) -> None:
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("mobilenet_v2", CLASSES, se="sigmoid", hed=hed))
    logits, edges, _ = model(torch.rand(2, 3, 33, 47))
    assert logits.shape == (2, CLASSES, 33, 47)
    target = torch.randint(0, CLASSES, (2, 33, 47))
    loss = segmentation_loss(logits, target)
    assert (edges is None) == (hed == "blank")
    if edges is not None:
        loss = loss + edge_loss(edges, (target % 2 * 254).byte())
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("hed", ["shared", "lite"])
def test_every_decoder_trains_a_step(decoder: DecoderName, hed: EdgeName) -> None:
    torch.manual_seed(0)
    config = ModelConfig("mobilenet_v2", CLASSES, se="sigmoid", hed=hed, decoder=decoder)
    model = DeepLab(config)
    logits, edges, _ = model(torch.rand(2, 3, 33, 47))
    assert logits.shape == (2, CLASSES, 33, 47) and edges is not None
    target = torch.randint(0, CLASSES, (2, 33, 47))
    loss = segmentation_loss(logits, target) + edge_loss(edges, (target % 2 * 254).byte())
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_a_decoder_has_its_own_output_stride_where_none_is_asked() -> None:
    for decoder, stride in (("concat", 16), ("deep", 32)):
        for asked, given in ((None, stride), (8, 8)):
            config = TrainConfig(decoder=decoder, output_stride=asked)  # type: ignore[arg-type]
            assert config.model(CLASSES).output_stride == given


def test_edges_enter_every_decoder() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 48)
    for decoder in DECODERS:
        model = DeepLab(ModelConfig("mobilenet_v2", CLASSES, hed="shared", decoder=decoder)).eval()
        before = model(image).logits
        assert model.sides is not None
        torch.nn.init.constant_(model.sides.combine.bias, 9.0)
        assert not torch.equal(model(image).logits, before), decoder


def test_edges_that_only_teach_are_free_and_those_that_enter_matter() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 48)
    for hed, enters in (("supervised", False), ("shared", True)):
        model = DeepLab(ModelConfig("mobilenet_v2", CLASSES, hed=hed)).eval()
        before = model(image).logits
        assert model.sides is not None
        torch.nn.init.constant_(model.sides.combine.bias, 9.0)
        assert torch.equal(model(image).logits, before) != enters


def test_only_the_variant_with_edges_has_some_by_default() -> None:
    chosen = {v: TrainConfig(variant=v).model(CLASSES).hed for v in VARIANTS}
    assert chosen == {"vanilla": None, "dlse": None, "dlse_sf": None, "dlse_hed": "shared"}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride_is_what_was_asked(backbone: BackboneName, stride: int) -> None:
    config = ModelConfig(backbone, CLASSES, output_stride=stride)  # type: ignore[arg-type]
    features = Backbone(config).eval()(torch.rand(1, 3, 64, 128))
    strides = [64 // stage.shape[-2] for stage in features]
    assert strides == [128 // stage.shape[-1] for stage in features]
    assert strides == [4, 8, min(16, stride), stride]


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
def test_squeeze_excite_starts_as_identity_and_gates_each_channel(gate: str) -> None:
    torch.manual_seed(0)
    block = SqueezeExcite(32, gate)  # type: ignore[arg-type]
    x = torch.rand(2, 32, 4, 4)
    torch.testing.assert_close(block(x), x)
    nn.init.normal_(block.expand.weight)
    ratio = (block(x) / x).flatten(2)
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))  # constant in a channel
    assert ratio.std(1).min() > 1e-3
    if gate == "softmax":
        torch.testing.assert_close(ratio[..., 0].sum(1), torch.full((2,), 32.0))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_se_sits_in_three_stages_and_leaves_pretrained_features_alone(
    backbone: BackboneName,
) -> None:
    torch.manual_seed(0)
    plain = Backbone(ModelConfig(backbone, CLASSES)).eval()
    torch.manual_seed(0)
    gated = Backbone(ModelConfig(backbone, CLASSES, se="sigmoid")).eval()
    places = [any(isinstance(m, SqueezeExcite) for m in s.modules()) for s in gated.stages]
    assert places == [True, True, True, False]
    torch.manual_seed(1)
    x = torch.rand(1, 3, 64, 64)
    for a, b in zip(plain(x), gated(x), strict=True):
        assert a.shape == b.shape


@pytest.mark.parametrize(("hed", "stems"), [("vgg16", 2), ("lite", 1), ("blank", 1)])
def test_an_edge_network_reaches_the_classes_by_its_map_alone(hed: EdgeName, stems: int) -> None:
    """At any size, and a blank map costs what the light net's does behind it."""
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("mobilenet_v2", CLASSES, hed=hed)).eval()
    assert model.edge_stem is not None
    assert sum(isinstance(m, nn.Conv2d) for m in model.edge_stem.modules()) == stems
    for size in ((33, 47), (32, 50)):
        image = torch.rand(1, 3, *size)
        before = model(image).logits
        assert before.shape == (1, CLASSES, *size)
        if model.hed is not None:
            bias = model.hed.combine.bias
            assert bias is not None
            nn.init.constant_(bias, 9.0)
            assert not torch.equal(model(image).logits, before)
            nn.init.zeros_(bias)


def test_backbone_weights_load_and_wrong_ones_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = tv.mobilenet_v2()
    state = {k: v for k, v in source.state_dict().items() if k.startswith("features.")}
    good, bad, foreign = tmp_path / "good.pth", tmp_path / "bad.pth", tmp_path / "r18.pth"
    torch.save(state, good)
    loaded = Backbone(ModelConfig("mobilenet_v2", CLASSES), str(good))
    first = next(m for m in loaded.modules() if isinstance(m, nn.Conv2d))
    torch.testing.assert_close(first.weight, source.features[0][0].weight)
    del state["features.3.conv.0.0.weight"]
    torch.save(state, bad)
    with pytest.raises(HedgeError, match=r"bad\.pth.*features\.3\.conv\.0\.0\.weight"):
        Backbone(ModelConfig("mobilenet_v2", CLASSES), str(bad))
    torch.save(tv.resnet18().state_dict(), foreign)
    with pytest.raises(HedgeError, match=r"r18\.pth: not weights of mobilenet_v2"):
        Backbone(ModelConfig("mobilenet_v2", CLASSES), str(foreign))


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "mobilenet_v3_large"])
def test_strided_and_dilated_layers_learn_from_true_gradients(backbone: BackboneName) -> None:
    """The same under autocast as without it: in bf16 oneDNN's are slow, or off by any factor."""
    torch.manual_seed(0)
    modules = list(Backbone(ModelConfig(backbone, CLASSES)).modules())
    layers = [m for m in modules if isinstance(m, Depthwise)]
    assert {m.dilation for m in layers} == {(1, 1), (2, 2)}
    assert {m.stride for m in layers} == {(1, 1), (2, 2)}
    convs = [m for m in modules if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert all(m.stride == m.dilation == (1, 1) for m in convs if m not in layers)
    for layer in layers:
        layer.to(memory_format=torch.channels_last)
        image = torch.randn(2, layer.in_channels, 23, 30).to(memory_format=torch.channels_last)
        gradients = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = layer(image).float().square().mean()
            gradients += torch.autograd.grad(loss, layer.weight)
        tolerance = 0.02 * float(gradients[0].abs().max())
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=tolerance)
