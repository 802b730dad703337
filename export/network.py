"""What is exported: a trained network, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from runtime.bundle.classes import ClassSet
from train.datasets import Index


@dataclass(frozen=True)
class Facts:
    """What manifests tell of a network.

    name: of its bundles, unless said; size: (H, W) that it takes, unless said; data: what it was
    trained on, where that is known; origin: who runs it as it was given, whose labels engines must
    keep; autocasts: whether PyTorch can run it in FP16 and bf16.
    """

    name: str
    variant: str
    backbone: str
    classes: ClassSet
    size: tuple[int, int]
    data: Path | None = None
    license: str | None = None
    origin: str = "PyTorch"
    autocasts: bool = True


class Deployed(nn.Module):
    """The reference: (N, H, W, 3) uint8 BGR frames → (N, H, W) uint8 labels and float32 scores.

    frame_size: (H, W) of the frames; score_size: of the scores, None where nothing but the labels
    is worth an engine's while.
    """

    frame_size: tuple[int, int]
    score_size: tuple[int, int] | None


class Network(Protocol):
    """All that export asks of a network."""

    facts: Facts

    def deployed(self, size: tuple[int, int], frame_size: tuple[int, int]) -> Deployed:
        """The network as it was given, for frames of ``frame_size`` that it sees at ``size``."""

    def write(
        self, size: tuple[int, int], frame_size: tuple[int, int], batch: int, path: Path
    ) -> None:
        """Write the graph from frames to labels as FP32 ONNX, all shapes static.

        Input ``frame``: uint8 (batch, H, W, 3) BGR; outputs ``labels``: uint8 (batch, H, W), and
        the ``logits`` that they come from where ``Deployed`` has a score_size.
        """

    def multiply_adds(self, size: tuple[int, int], frame_size: tuple[int, int]) -> int:
        """Of one frame: convolutions and matrix products."""

    def fingerprint(self, size: tuple[int, int], frame_size: tuple[int, int]) -> str:
        """sha256 of what ranges depend on: the weights and the sizes."""

    def index(self, data: Path | None, split: str) -> Index | None:
        """The labelled images of a split, of ``data`` or else of what it was trained on.

        None where neither is known. HedgeError where their classes are others.
        """
