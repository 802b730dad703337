"""A bundle to be written: what was asked, the network, the sizes, and images for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export import bundle, verify
from export.config import Export, Precision
from export.int8 import calibration
from export.network import Deployed, Network
from export.verify import Budget
from runtime import cli
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.segment import Segmenter
from train.datasets import Index, is_data

DRAWN = 16  # frames, where there is no data set to verify on


@dataclass(frozen=True)
class Task:
    """One bundle to write: what was asked, the network, and the sizes it is deployed at.

    work: scratch folder, where bundles of the same network share its FP32 graph; beside: what
    outlives a failure, a search's memory and the worst frame, lies beside this, named after it.
    """

    config: Export
    network: Network
    target: Path
    size: tuple[int, int]
    frame_size: tuple[int, int]
    work: Path
    beside: Path

    def graph(self, batch: int | None = None) -> Path:
        """The network as FP32 ONNX; batch: the configured one unless said."""
        batch = batch or self.config.batch
        path = self.work / f"{batch}.onnx"
        if not path.exists():
            with cli.err.status(f"{self.target.name}: {self.network.facts.origin} → ONNX"):
                self.network.write(self.size, self.frame_size, batch, path)
        return path

    def deployed(self) -> Deployed:
        """The network from frame to labels, as it was given."""
        return self.network.deployed(self.size, self.frame_size)

    def budget(self) -> Budget | None:
        """What the command line lets coarse arithmetic lose; None where it says nothing."""
        asked = Budget(self.config.max_miou_drop, self.config.max_class_drop)
        return asked if asked != Budget(None, None) else None

    def manifest(self, precision: Precision) -> Manifest:
        """The manifest of the bundle to be, without files or measurements."""
        batch = self.config.batch
        name = self.target.name
        return bundle.describe(self.network.facts, name, precision, batch, self.deployed())

    def reference(self) -> Segmenter:
        """The network as it was given, at the sizes it is deployed at."""
        return Segmenter.of(verify.TorchEngine(self.deployed(), self.manifest("fp32")))

    def index(self, split: str) -> Index | None:
        """The data set's labelled images, or those of one to calibrate with; None where neither is
        on this machine."""
        given, known = self.config.data, self.network.facts.data
        other = self.config.calibration_data
        if given is None and not (known and known.exists()):
            if other is not None and is_data(other):
                given = other
            elif known is not None:
                return None
        return self.network.index(given, split)

    def images(self) -> calibration.Images:
        """The images to calibrate with: a folder of them, or a data set's training split."""
        config = self.config
        source = config.calibration_data or config.data
        if source is not None and not is_data(source):
            return calibration.from_folder(source, config.calibration)
        index = self.network.index(source, "train") if source else self.index("train")
        if index is None:
            name, known = self.network.facts.name, self.network.facts.data
            why = f"{known}: not on this machine, and" if known else f"{name}:"
            raise HedgeError(
                f"{why} INT8 needs real images to calibrate with; --data PATH or "
                "--calibration-data FOLDER"
            )
        return calibration.from_split(index, config.calibration)

    def frames(self, count: int | None = None) -> verify.FrameSet:
        """The frames to verify on, or ``count`` of them; afresh at each call."""
        count = min(count or self.config.frames, self.config.frames)
        if (index := self.index("val")) is not None:
            return verify.labelled(index, count)
        if (images := self.config.data or self.config.calibration_data) is not None:
            return verify.unlabelled(images, count)
        why = f"{known}: not on this machine" if (known := self.network.facts.data) else "no --data"
        cli.warn(f"{why}; verifying on drawn streets (--data PATH)")
        return verify.generated(min(count, DRAWN), self.frame_size)
