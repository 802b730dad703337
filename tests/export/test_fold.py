"""Folding: the exported graph answers what PyTorch answers, whatever moved into its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.own.deploy import DeployGraph
from export.own.fold import folded
from export.own.to_onnx import to_onnx
from train.config import EdgeName, ModelConfig
from train.models import DeepLab

BORDER = 8  # pixels at each edge of a frame that padding reaches first


def network(backbone: str, hed: EdgeName) -> DeepLab:
    """A network whose batch-norms are no identities."""
    torch.manual_seed(0)
    model = DeepLab(ModelConfig(backbone, num_classes=5, se="sigmoid", hed=hed)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("backbone", "hed", "size", "frame_size"),
    [
        ("mobilenet_v2", "lite", (64, 96), (64, 96)),
        ("mobilenet_v2", "lite", (64, 96), (128, 192)),  # halved
        ("mobilenet_v2", "lite", (65, 95), (90, 141)),  # resized
        ("mobilenet_v2", "blank", (64, 96), (128, 192)),
        ("resnet18", "vgg16", (64, 96), (128, 192)),  # HED reads blue first, and less Caffe's means
        ("timm/tf_efficientnet_lite0", "shared", (64, 96), (128, 192)),
        ("timm/mobileone_s0", "shared", (65, 95), (130, 190)),  # several read the image
        ("timm/test_nfnet", "lite", (64, 96), (128, 192)),  # its weights are made at each call
    ],
)
def test_folding_changes_no_label_and_no_score(
    backbone: str,
    hed: EdgeName,
    size: tuple[int, int],
    frame_size: tuple[int, int],
) -> None:
    graph = DeployGraph(network(backbone, hed), size, frame_size)
    frame = np.random.default_rng(0).integers(256, size=(1, *frame_size, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected, scores = (tensor.numpy() for tensor in graph(torch.from_numpy(frame)))
        labels, logits = (tensor.numpy() for tensor in folded(graph)(torch.from_numpy(frame)))
    assert (labels == expected).mean() >= 0.9999
    edge = np.ones(frame_size, bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    assert (labels == expected)[:, edge].mean() >= 0.999
    np.testing.assert_allclose(logits, scores, atol=1e-5 * np.abs(scores).max())


def test_a_halved_frame_needs_no_resizing_and_no_flip(tmp_path: Path) -> None:
    graph = DeployGraph(network("mobilenet_v2", "shared"), (64, 96), (128, 192))
    to_onnx(graph, 1, tmp_path / "graph.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "graph.onnx").graph.node]
    assert operators[:4] == ["Cast", "Transpose", "Sub", "Conv"]


def test_the_network_that_is_folded_stays_as_it_was() -> None:
    graph = DeployGraph(network("mobilenet_v2", "lite"), (64, 96), (128, 192))
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    folded(graph)
    after = graph.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
