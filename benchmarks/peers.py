"""PyTorch in each of its own ways, with the weights that a bundle was made of.

``python -m benchmarks.peers CHECKPOINT BUNDLE GRAPH`` writes the graph that ``benchmarks.plain``
runs, in a process that is gone before that one is timed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.cell import Spec
from benchmarks.serve import EngineCell
from benchmarks.untrained import AutocastTorch, PlainTorch
from export.bundle import describe
from export.deploy import DeployGraph
from export.verify import TorchEngine
from runtime import files
from runtime.errors import HedgeError
from runtime.manifest import Manifest
from train.checkpoint import Checkpoint
from train.evaluate import load_model
from train.loop import cpu_has_bf16
from train.models import DeepLab


class CompiledTorch(TorchEngine):
    """torch.compile in its default mode, FP32 channels_last; the first call compiles."""

    def __init__(self, graph: DeployGraph, manifest: Manifest) -> None:
        super().__init__(graph, manifest)
        self._graph.compile(dynamic=False)


class CompiledAutocastTorch(CompiledTorch, AutocastTorch):
    """The same under bf16 autocast."""


class Way(NamedTuple):
    """How PyTorch runs, and what it computes in."""

    engine: type[TorchEngine]
    computes: str


WAYS = {
    "pytorch fp32": Way(PlainTorch, "fp32"),
    "pytorch fp32 channels_last": Way(TorchEngine, "fp32"),
    "pytorch bf16 channels_last": Way(AutocastTorch, "bf16"),
    "torch.compile fp32": Way(CompiledTorch, "fp32"),
    "torch.compile bf16": Way(CompiledAutocastTorch, "bf16"),
}


def load(spec: Spec) -> EngineCell:
    """The way that ``spec`` names, from the checkpoint ``spec.weights``."""
    way = WAYS[spec.way]
    if way.computes == "bf16" and not cpu_has_bf16():
        raise HedgeError("this CPU does not compute bf16: emulated, it is slower than FP32")
    if spec.threads:
        torch.set_num_threads(spec.threads)
    assert spec.weights is not None, "no checkpoint, no peer"
    checkpoint, manifest = Checkpoint.load(spec.weights), Manifest.load(spec.bundle)
    graph = _deployed(checkpoint, manifest)
    batch = manifest.input.shape[0]
    described = describe(checkpoint, manifest.name, "fp32", batch, graph)
    return EngineCell(spec, way.engine(graph, described), way.computes)


def _deployed(checkpoint: Checkpoint, manifest: Manifest) -> DeployGraph:
    """The network at the sizes of the bundle; HedgeError where it is not the bundle's."""
    model, frame_size = load_model(checkpoint), _pair(manifest.input.shape[1:3])
    of_checkpoint = (checkpoint.config.variant, checkpoint.model.backbone, checkpoint.classes)
    if of_checkpoint != (manifest.variant, manifest.backbone, manifest.classes):
        raise HedgeError(
            f"the checkpoint is {checkpoint.config.variant} on {checkpoint.model.backbone} with "
            f"{len(checkpoint.classes)} classes, not what {manifest.name} was made of"
        )
    for size in (frame_size, checkpoint.size):
        graph = DeployGraph(model, size, frame_size)
        if manifest.logits is None or graph.score_size == _pair(manifest.logits.shape[2:]):
            return graph
    assert manifest.logits is not None
    height, width = manifest.logits.shape[2:]  # any network of this size has these scores
    return DeployGraph(model, (4 * height, 4 * width), frame_size)


def _pair(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1]


class FullScores(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → (N, C, H, W) scores: the graph that one exports first."""

    def __init__(self, model: DeepLab) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image).logits


def write_plain(weights: Path, bundle: Path, graph: Path) -> None:
    """Export ``FullScores`` at the input size of ``bundle``."""
    manifest = Manifest.load(bundle)
    batch, height, width, _ = manifest.input.shape
    model = FullScores(_deployed(Checkpoint.load(weights), manifest).network).eval()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        image = torch.zeros(batch, 3, height, width)
        program = torch.onnx.export(model, (image,), dynamo=True, verbose=False)
    assert program is not None
    with files.atomic_path(graph) as temporary:
        program.save(str(temporary), external_data=False)


if __name__ == "__main__":
    try:
        write_plain(*map(Path, sys.argv[1:]))
    except HedgeError as problem:
        sys.exit(str(problem))
