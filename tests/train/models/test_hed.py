"""HED: published weights, the light networks, and edges from another network's stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runtime.errors import HedgeError
from train.config import HedName
from train.models.hed import (
    HEDS,
    Fusion,
    HedLite,
    HedVgg16,
    Pyramid,
    SideOutputs,
    load_hed_weights,
    read_hed,
)


def published_hed() -> dict[str, torch.Tensor]:
    """A state dict of HED's published names and shapes, with random values."""
    torch.manual_seed(3)
    widths = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    state, last = {}, 3
    for number, (name, stage) in enumerate(
        zip(("One", "Two", "Thr", "Fou", "Fiv"), widths, strict=True)
    ):
        for position, width in enumerate(stage):
            layer = 2 * position + (number > 0)  # behind the max-pool of stages two to five
            state[f"moduleVgg{name}.{layer}.weight"] = torch.randn(width, last, 3, 3) * 0.02
            state[f"moduleVgg{name}.{layer}.bias"] = torch.randn(width)
            last = width
        state[f"moduleScore{name}.weight"] = torch.randn(1, last, 1, 1)
        state[f"moduleScore{name}.bias"] = torch.randn(1)
    state["moduleCombine.0.weight"] = torch.randn(1, 5, 1, 1)
    state["moduleCombine.0.bias"] = torch.randn(1)
    return state


# Published names beside ours, of each stage and kind.
OWN_NAMES = {
    "moduleVggOne.2.weight": "stages.0.2.weight",
    "moduleVggTwo.1.bias": "stages.1.1.bias",
    "moduleVggThr.3.weight": "stages.2.3.weight",
    "moduleVggFou.5.bias": "stages.3.5.bias",
    "moduleVggFiv.5.weight": "stages.4.5.weight",
    "moduleScoreThr.weight": "scores.2.weight",
    "moduleScoreFiv.bias": "scores.4.bias",
    "moduleCombine.0.weight": "combine.weight",
}


def caffe_key(key: str) -> str:
    """A published key under the name of Caffe's layer."""
    kind, position, *rest = key.removeprefix("module").split(".")
    if kind == "Combine":
        return f"score_final.{rest[0]}"
    number = ("One", "Two", "Thr", "Fou", "Fiv").index(kind[-3:]) + 1
    if kind.startswith("Score"):
        return f"score_dsn{number}.{position}"
    return f"conv{number}_{int(position) // 2 + 1}.{rest[0]}"


@pytest.mark.parametrize("spelling", ["module", "net", "caffe"])
def test_published_hed_weights_load_under_their_names(spelling: str, tmp_path: Path) -> None:
    published, path = published_hed(), tmp_path / "network-bsds500.pytorch"
    rename = caffe_key if spelling == "caffe" else lambda key: key.replace("module", spelling)
    torch.save({rename(key): value for key, value in published.items()}, path)
    hed = HedVgg16()
    load_hed_weights(hed, path)
    assert type(read_hed(path)) is HedVgg16
    for name, own in OWN_NAMES.items():
        torch.testing.assert_close(hed.state_dict()[own], published[name])


def test_published_hed_weights_load_as_trainings_save_them(tmp_path: Path) -> None:
    """Beside what belongs to the training, and behind DataParallel's prefix."""
    published, path = published_hed(), tmp_path / "hed.pth"
    wrapped = {f"module.{caffe_key(name)}": value for name, value in published.items()}
    torch.save({"epoch": 3, "net": wrapped, "opt": {"state": {}, "lr": 0.1}}, path)
    state = read_hed(path).state_dict()
    for name, own in OWN_NAMES.items():
        torch.testing.assert_close(state[own], published[name])
    torch.save({"net": wrapped, "ema": wrapped}, path)
    with pytest.raises(HedgeError, match=r"hed\.pth: it holds several .*\(net, ema\); save one"):
        read_hed(path)


def test_a_caffe_model_tells_what_to_take_instead(tmp_path: Path) -> None:
    path = tmp_path / "hed_pretrained_bsds.caffemodel"
    path.write_bytes(b"\n\x05HED-1" + bytes(99))
    with pytest.raises(HedgeError, match=r"bsds\.caffemodel: .*Caffe's; .* as network-bsds500\.py"):
        read_hed(path)


def test_hed_input_is_bgr_minus_caffes_means() -> None:
    pixel = torch.tensor([122.67891434, 116.66876762, 114.00698793]).reshape(1, 3, 1, 1) / 255
    prepared = HedVgg16().normalize(pixel)
    torch.testing.assert_close(prepared.flatten(), torch.tensor([10.0, 0, 0]), atol=1e-3, rtol=0)


def test_hed_weights_that_differ_are_named(tmp_path: Path) -> None:
    state, path = published_hed(), tmp_path / "hed.pth"
    state["moduleVggSix.0.weight"] = state.pop("moduleScoreTwo.bias")
    torch.save(state, path)
    with pytest.raises(HedgeError, match=r"hed\.pth.*scores\.1\.bias.*moduleVggSix") as caught:
        load_hed_weights(HedVgg16(), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", list(HEDS))
def test_weights_tell_which_network_they_belong_to(kind: HedName, tmp_path: Path) -> None:
    torch.manual_seed(0)
    hed = HEDS[kind]()
    torch.save(hed.state_dict(), tmp_path / "edges.pt")
    found = read_hed(tmp_path / "edges.pt")
    assert type(found) is type(hed)
    torch.testing.assert_close(found.state_dict(), hed.state_dict())


@pytest.mark.parametrize("kind", list(HEDS))
def test_hed_answers_a_side_of_each_stage_and_their_fusion(kind: HedName) -> None:
    torch.manual_seed(0)
    hed = HEDS[kind]()
    *sides, fused = hed(torch.rand(2, 3, 37, 50))
    assert len(sides) == {"vgg16": 5, "lite": 4, "fpn": 4}[kind]
    for octave, side in enumerate(sides):
        step = hed.stride * 2**octave
        assert side.shape == (2, 1, -(-37 // step), -(-50 // step))
    assert fused.shape == sides[0].shape


def test_fusing_from_coarse_to_fine_is_the_papers_weighted_sum() -> None:
    """Exactly so for flat maps, where interpolation has nothing to smooth."""
    fusion = Fusion(5)
    values = torch.arange(1.0, 6)
    nn.init.normal_(fusion.weight)
    nn.init.constant_(fusion.bias, 0.25)
    sides = [value.expand(1, 1, 64 >> i, 48 >> i) for i, value in enumerate(values)]
    stacked = values.reshape(1, -1, 1, 1).expand(1, -1, 64, 48)
    expected = F.conv2d(stacked, fusion.weight, fusion.bias)
    torch.testing.assert_close(fusion(sides), expected)


def test_a_pyramid_brings_what_is_coarse_to_the_finest_level() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid((3, 4, 5), width=8).eval()
    features = [torch.rand(1, c, h, w) for c, h, w in ((3, 16, 20), (4, 8, 10), (5, 4, 5))]
    near = pyramid(features)
    assert near.shape == (1, 1, 16, 20)
    moved = pyramid([*features[:2], features[2] + 1])
    assert not torch.allclose(near, moved)


@pytest.mark.parametrize(("kind", "most"), [("lite", 200_000), ("fpn", 220_000)])
def test_light_nets_are_light(kind: HedName, most: int) -> None:
    assert sum(p.numel() for p in HEDS[kind]().parameters()) < most


def test_published_weights_are_not_for_the_light_net(tmp_path: Path) -> None:
    torch.save(published_hed(), tmp_path / "hed.pth")
    with pytest.raises(HedgeError, match="not weights of HedLite"):
        load_hed_weights(HedLite(), tmp_path / "hed.pth")


def test_side_outputs_are_resized_scores_and_their_fusion() -> None:
    torch.manual_seed(0)
    sides = SideOutputs((8, 12, 20))
    for parameter in sides.parameters():
        torch.nn.init.normal_(parameter)
    stages = [torch.rand(2, c, h, w) for c, h, w in ((8, 33, 48), (12, 17, 24), (20, 5, 6))]
    maps = sides(*stages)
    scores = [score(stage) for score, stage in zip(sides.scores, stages, strict=True)]
    each = torch.cat([F.interpolate(x, (33, 48), mode="bilinear") for x in scores], dim=1)
    torch.testing.assert_close(maps, torch.cat([each, sides.combine(each)], dim=1))
    assert maps.shape[1] == sides.maps
