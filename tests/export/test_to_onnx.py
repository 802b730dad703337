"""What the exporter makes of operators that it is told to translate otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from train.config import ModelConfig
from train.models import DeepLab


class Means(nn.Module):
    """Means as networks of timm take them: over channels, rows, and a map, kept or not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → the same, each value by what is around it."""
        maps = x.mean((2, 3), keepdim=True) + x.mean((2, 3)).reshape(*x.shape[:2], 1, 1)
        return x * (x.mean(1, keepdim=True) + x.mean(-1, keepdim=True) + maps)


def test_means_over_channels_and_rows_are_no_means_of_maps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("timm/test_resnet", num_classes=5)).eval()
    model.classifier = nn.Sequential(Means(), model.classifier)
    graph, path = DeployGraph(model, (32, 64), (32, 64)), tmp_path / "graph.onnx"
    to_onnx(graph, 1, path)
    frame = np.random.default_rng(0).integers(256, size=(1, 32, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = graph(torch.from_numpy(frame))[1].numpy()
    scores = onnxruntime.InferenceSession(path).run(["logits"], {"frame": frame})[0]
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ReduceMean") == 2, "the others stay GlobalAveragePool, as in the gates"
