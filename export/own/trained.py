"""A checkpoint of our own training, as a network to export."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

from export.network import Facts
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from runtime import files
from runtime.errors import HedgeError
from train.checkpoint import PREVIOUS, Checkpoint, find_checkpoint
from train.datasets import Index, default_data
from train.evaluation.scoring import evaluation_index, load_model
from train.models import DeepLab

_OF_RUNS = {"best.pt", "last.pt", PREVIOUS}


class Trained:
    """See ``export.network.Network``; name: the run's."""

    def __init__(self, checkpoint: Checkpoint, name: str = "") -> None:
        self.facts = Facts(
            name,
            variant=checkpoint.config.variant,
            backbone=checkpoint.model.backbone,
            classes=checkpoint.classes,
            size=checkpoint.size,
            data=checkpoint.config.data,
            license=checkpoint.license,
        )
        self._checkpoint = checkpoint

    @classmethod
    def open(cls, run: Path | None) -> Trained:
        """The network of a run, called by its folder, or by a file with a name of its own, as
        released ones have; see ``find_checkpoint``."""
        path = find_checkpoint(run)
        name = files.named(path.parent).name if path.name in _OF_RUNS else path.stem
        return cls(Checkpoint.load(path), name)

    @cached_property
    def _model(self) -> DeepLab:
        return load_model(self._checkpoint)

    def deployed(self, size: tuple[int, int], frame_size: tuple[int, int]) -> DeployGraph:
        """See ``Network``."""
        self._model.require(size)
        return DeployGraph(self._model, size, frame_size)

    def write(
        self, size: tuple[int, int], frame_size: tuple[int, int], batch: int, path: Path
    ) -> None:
        """See ``Network``."""
        to_onnx(self.deployed(size, frame_size), batch, path)

    def multiply_adds(self, size: tuple[int, int], frame_size: tuple[int, int]) -> int:
        """See ``Network``."""
        return self.deployed(size, frame_size).multiply_adds()

    def fingerprint(self, size: tuple[int, int], frame_size: tuple[int, int]) -> str:
        """See ``Network``."""
        digest = hashlib.sha256(repr((size, frame_size)).encode())
        for name, tensor in sorted(self._checkpoint.weights.items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def index(self, data: Path | None, split: str) -> Index | None:
        """See ``Network``."""
        if data is None and self.facts.data is None:  # as of what others have trained
            try:
                default_data(classes=self.facts.classes)
            except HedgeError:
                return None
        return evaluation_index(self._checkpoint, data, split)
