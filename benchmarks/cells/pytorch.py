"""PyTorch in each of its own ways, with the weights that a bundle was made of.

``python -m benchmarks.cells.pytorch BUNDLE GRAPH CHECKPOINT…`` writes the graph that
``benchmarks.cells.naive_onnxruntime`` runs, in a process that is gone before that one is timed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.cells.engine import EngineCell
from benchmarks.cells.worker import Spec
from export.bundle import describe
from export.own.deploy import DeployGraph
from export.own.trained import Trained
from export.verify import TorchEngine
from runtime import files
from runtime.bundle.manifest import MODEL, Manifest
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.device import cpu_has_bf16
from train.evaluation.scoring import load_model
from train.models import DeepLab

BIAS = "classifier.bias"


class PlanesTorch(TorchEngine):
    """PyTorch as it comes: weights and images as planes (NCHW) in memory."""

    def __init__(self, graph: DeployGraph, manifest: Manifest) -> None:
        super().__init__(graph, manifest)
        graph.to(memory_format=torch.contiguous_format)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        # The graph's permute gives what lies in memory: channels_last, unless planes lie there.
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return super().infer(planes.transpose(0, 2, 3, 1))


class AutocastTorch(TorchEngine):
    """PyTorch with bf16 autocast, as training runs it."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        with torch.autocast("cpu", torch.bfloat16):
            return super().infer(batch)


class CompiledTorch(TorchEngine):
    """torch.compile in its default mode, FP32 channels_last; the first call compiles."""

    def __init__(self, graph: DeployGraph, manifest: Manifest) -> None:
        super().__init__(graph, manifest)
        self._graph.compile(dynamic=False)


class CompiledAutocastTorch(CompiledTorch, AutocastTorch):
    """The same under bf16 autocast."""


class CudaTorch(TorchEngine):
    """PyTorch on the first NVIDIA GPU, from a frame in the host's memory to labels there.

    As our engines do: page-locked memory at both ends, and a wait for the GPU. cuDNN takes its
    fastest kernels. planes: NCHW in memory; half: FP16 autocast; compiled: by torch.compile in its
    default mode; recorded: launched as one CUDA graph. device: "cpu" for tests alone.
    """

    def __init__(
        self, graph: DeployGraph, manifest: Manifest, *, planes: bool = False, half: bool = False,
        compiled: bool = False, recorded: bool = False, device: str = "cuda",
    ) -> None:  # fmt: skip
        super().__init__(graph.to(device), manifest)
        if planes:
            graph.to(memory_format=torch.contiguous_format)
        if compiled:
            graph.compile(dynamic=False)
        self._planes, self._half, self._recorded = planes, half, recorded
        self._replay: torch.cuda.CUDAGraph | None = None
        self._on_gpu = device == "cuda"
        frame, labels = manifest.input.shape, manifest.output.shape
        self._host = torch.empty(frame, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._host_labels = torch.empty(labels, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._frame = torch.empty(frame, dtype=torch.uint8, device=device)
        self._labels = torch.empty(labels, dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        self._host.copy_(torch.from_numpy(batch))
        self._frame.copy_(self._host, non_blocking=True)
        if self._recorded and self._replay is None:
            self._replay = self._record()
        if self._replay is not None:
            self._replay.replay()
        else:
            self._compute()
        self._host_labels.copy_(self._labels, non_blocking=True)
        if self._on_gpu:
            torch.cuda.synchronize()
        return self._host_labels.numpy().copy()

    def _compute(self) -> None:
        """Fill the labels of the frame, both in the GPU's memory."""
        frame = self._frame
        if self._planes:
            frame = frame.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        # A cache of cast weights may not outlive the recording of a graph; each is used once.
        with torch.autocast(
            frame.device.type, torch.float16, enabled=self._half, cache_enabled=False
        ):
            self._labels.copy_(self._graph(frame)[0])

    def _record(self) -> torch.cuda.CUDAGraph:
        """The work on a frame as a graph; compiling and the search for kernels may not be in it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            self._compute()
        return recorded


class Way(NamedTuple):
    """How PyTorch runs, what it computes in, and on what; tf32: PyTorch's FP32 from Ampere on."""

    engine: Callable[[DeployGraph, Manifest], TorchEngine]
    computes: str
    device: str = "cpu"


WAYS = {
    "pytorch fp32": Way(PlanesTorch, "fp32"),
    "pytorch fp32 channels_last": Way(TorchEngine, "fp32"),
    "pytorch bf16 channels_last": Way(AutocastTorch, "bf16"),
    "torch.compile fp32": Way(CompiledTorch, "fp32"),
    "torch.compile bf16": Way(CompiledAutocastTorch, "bf16"),
    "pytorch cuda fp32": Way(partial(CudaTorch, planes=True), "tf32", "cuda"),
    "pytorch cuda fp32 channels_last": Way(CudaTorch, "tf32", "cuda"),
    "pytorch cuda fp16 channels_last": Way(partial(CudaTorch, half=True), "fp16", "cuda"),
    "pytorch cuda graph fp16 channels_last": Way(
        partial(CudaTorch, half=True, recorded=True), "fp16", "cuda"
    ),
    "torch.compile cuda fp16": Way(partial(CudaTorch, half=True, compiled=True), "fp16", "cuda"),
    "torch.compile cuda graph fp16": Way(
        partial(CudaTorch, half=True, compiled=True, recorded=True), "fp16", "cuda"
    ),
}


def load(spec: Spec) -> EngineCell:
    """The way that ``spec`` names, from the one of ``spec.weights`` that the bundle was made of."""
    way = WAYS[spec.way]
    if way.computes == "bf16" and not cpu_has_bf16():
        raise HedgeError("this CPU does not compute bf16: emulated, it is slower than FP32")
    if way.device == "cuda":
        if not torch.cuda.is_available():
            raise HedgeError(f"PyTorch {torch.__version__} finds no NVIDIA GPU it can use")
        torch.backends.cudnn.benchmark = True
    if spec.threads:
        torch.set_num_threads(spec.threads)
    old = way.computes == "tf32" and torch.cuda.get_device_capability() < (8, 0)
    engine = way.engine(*deployed(spec.weights, spec.bundle))
    return EngineCell(spec, engine, "fp32" if old else way.computes)


def deployed(checkpoints: Sequence[Path], bundle: Path) -> tuple[DeployGraph, Manifest]:
    """The network of a bundle's checkpoint as the bundle deploys it, and the manifest of its FP32
    form.

    HedgeError where none of ``checkpoints`` has its weights: its accuracy would be held against
    that of a stranger.
    """
    manifest = Manifest.load(bundle)
    for path in checkpoints:
        checkpoint = Checkpoint.load(path)
        if checkpoint.classes == manifest.classes and _made_of(bundle / MODEL, checkpoint):
            graph = _at_sizes(checkpoint, manifest)
            batch = manifest.input.shape[0]
            return graph, describe(Trained(checkpoint).facts, manifest.name, "fp32", batch, graph)
    raise HedgeError(
        f"{', '.join(str(path) for path in checkpoints[:2])}{', …' * (len(checkpoints) > 2)}: not "
        f"the weights that {manifest.name} was made of (trained on since?); export it again, or "
        "name its run: --checkpoints RUN"
    )


def _made_of(graph: Path, checkpoint: Checkpoint) -> bool:
    """Whether a bundle's graph holds the checkpoint's bias of the classifier: every precision
    keeps it in floating point, and no batch-norm is folded into it."""
    bias = checkpoint.weights[BIAS]
    tensors = onnx.load(str(graph)).graph.initializer
    found = [numpy_helper.to_array(t) for t in tensors if list(t.dims) == list(bias.shape)]
    return any(
        np.allclose(values.astype(np.float32), bias.numpy(), rtol=1e-3, atol=1e-6)  # in FP16
        for values in found
    )


def _at_sizes(checkpoint: Checkpoint, manifest: Manifest) -> DeployGraph:
    """The network's input size is not in the manifest, but a quarter of it is its scores'."""
    model, frame_size = load_model(checkpoint), _pair(manifest.input.shape[1:3])
    if manifest.logits is None:
        return DeployGraph(model, frame_size, frame_size)
    height, width = _pair(manifest.logits.shape[2:])
    for size in (frame_size, checkpoint.size, (4 * height, 4 * width)):
        graph = DeployGraph(model, size, frame_size)
        if graph.score_size == (height, width):
            break
    return graph


def _pair(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1]


class FullScores(nn.Module):
    """(N, 3, H, W) RGB in 0..1 → (N, C, H, W) scores: the graph that one exports first."""

    def __init__(self, model: DeepLab) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) RGB in 0..1 → (N, C, H, W) scores."""
        return self.model(image).logits


def write_naive(bundle: Path, path: Path, *checkpoints: Path) -> None:
    """Export ``FullScores`` of the checkpoint that ``bundle`` was made of, at its input size."""
    graph, manifest = deployed(checkpoints, bundle)
    batch, height, width, _ = manifest.input.shape
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        image = torch.zeros(batch, 3, height, width)
        scores = FullScores(graph.network).eval()
        program = torch.onnx.export(scores, (image,), dynamo=True, verbose=False)
    assert program is not None
    with files.atomic_path(path) as temporary:
        program.save(str(temporary), external_data=False)


if __name__ == "__main__":
    try:
        write_naive(*map(Path, sys.argv[1:]))
    except HedgeError as problem:
        sys.exit(str(problem))
