"""Graphs that are exported once, which takes seconds; tests of what follows share them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from export.config import Export
from export.exporter import export
from export.given import given
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from runtime.bundle.manifest import Manifest
from train.config import ModelConfig
from train.models import DeepLab


@pytest.fixture(scope="session")
def lite_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2 with HED lite, of random weights, as FP32 ONNX for frames of 64×96; to read."""
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("mobilenet_v2", num_classes=3, se="sigmoid", hed="lite"))
    path = tmp_path_factory.mktemp("lite") / "fp32.onnx"
    to_onnx(DeployGraph(model, (64, 96), (64, 96)), 1, path)
    return path


@pytest.fixture(scope="session")
def export_again(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Export], Manifest]:
    """Write the one bundle that an export of ``trained_run`` asks for, at its own size, from the
    graph of the exports before, as bundles of one command share theirs."""
    work = tmp_path_factory.mktemp("work")

    def again(config: Export) -> Manifest:
        _, network = given(config, None)
        [precision] = config.precisions()
        target = config.out / f"{network.facts.name}-{precision}"
        return export(config, network, target, precision, work)

    return again
