"""A bundle to be written: what was asked, the network, the sizes, and the frames to verify on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export import bundle, verify
from export.config import Export, Precision
from export.deploy import DeployGraph
from export.to_onnx import to_onnx
from export.verify import Budget
from runtime import cli
from runtime.bundle.manifest import Manifest
from runtime.segment import Segmenter
from train.checkpoint import Checkpoint
from train.evaluate import evaluation_index
from train.models import DeepLab

DRAWN = 16  # frames, where there is no data set to verify on


@dataclass(frozen=True)
class Task:
    """One bundle to write: what was asked, the network, and the sizes it is deployed at.

    work: scratch folder, where bundles of the same network share its FP32 graph.
    """

    config: Export
    checkpoint: Checkpoint
    target: Path
    model: DeepLab
    size: tuple[int, int]
    frame_size: tuple[int, int]
    work: Path

    def graph(self, batch: int | None = None) -> Path:
        """The network as FP32 ONNX; batch: the configured one unless said."""
        batch = batch or self.config.batch
        path = self.work / f"{batch}.onnx"
        if not path.exists():
            with cli.err.status(f"{self.target.name}: PyTorch → ONNX"):
                to_onnx(self.deployed(), batch, path)
        return path

    def deployed(self) -> DeployGraph:
        """The network from frame to labels."""
        return DeployGraph(self.model, self.size, self.frame_size)

    def budget(self) -> Budget | None:
        """What the command line lets coarse arithmetic lose; None where it says nothing."""
        asked = Budget(self.config.max_miou_drop, self.config.max_class_drop)
        return asked if asked != Budget(None, None) else None

    def manifest(self, precision: Precision) -> Manifest:
        """The manifest of the bundle to be, without files or measurements."""
        batch = self.config.batch
        name = self.target.name
        return bundle.describe(self.checkpoint, name, precision, batch, self.deployed())

    def reference(self) -> Segmenter:
        """The trained network in PyTorch, at the sizes it is deployed at."""
        return Segmenter.of(verify.TorchEngine(self.deployed(), self.manifest("fp32")))

    def frames(self, count: int | None = None) -> verify.FrameSet:
        """The frames to verify on, or ``count`` of them; afresh at each call."""
        count = min(count or self.config.frames, self.config.frames)
        known, data = self.checkpoint.config.data, self.config.data
        if data is None and known is not None and not known.exists():
            cli.warn(f"{known}: not on this machine; verifying on drawn streets (--data PATH)")
            return verify.generated(min(count, DRAWN), self.frame_size)
        index = evaluation_index(self.checkpoint, data, "val")
        return verify.labelled(index, count)
