"""A split in parts, each a file of counts: evaluation on many machines, exact as on one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from runtime import files
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, known
from runtime.fleet import parts
from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.datasets.index import Index
from train.device import exact_fp32
from train.evaluation.scoring import Evaluation, ImageScore, load_model, predictions, score

IMAGES = 64  # of a part


@dataclass(frozen=True)
class Job:
    """What is asked of every part; paths are absolute, for each worker has a folder of its own.

    run: the checkpoint; size: (H, W) of the network's input; out: folder of the parts' files;
    images: of a part; backend: no engine but PyTorch, on every GPU that there is.
    """

    run: Path
    data: Path
    split: str
    size: tuple[int, int]
    out: Path
    images: int = IMAGES
    backend: str = "torch"
    device: str = ""


@dataclass(frozen=True)
class Counts:
    """A part's file: (C, C) and (C, 4) counts, and name, mIoU and loss of each image, None: NaN."""

    confusion: np.ndarray
    boundary: np.ndarray
    images: list[tuple[str, float | None, float | None]]


class PartWorker(parts.PartWorker):
    """An actor with the network, loaded once, and one part after another."""

    _job: Job

    def _open(self) -> None:
        job, device = self._job, "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_model(Checkpoint.load(job.run)).to(device)
        self._index = open_index(job.data, job.split)
        self._key = files.sha256(job.run)

    def _id(self, first: int) -> str:
        return _id(self._key, self._job, self._index, first)

    def _count(self, first: int) -> Counts:
        job, index = self._job, self._index
        items = index.items[first : first + job.images]
        with exact_fp32():
            found = score(predictions(self._model, index, job.size, items), index.classes)
        assert found.boundary is not None
        return Counts(
            found.confusion.counts, found.boundary.counts,
            [(name, known(miou), known(loss)) for name, miou, loss in found.by_image],
        )  # fmt: skip


def evaluate_parts(job: Job, index: Index, pool: parts.Entered) -> Evaluation:
    """Evaluate what has no file yet, and add up all files in the split's order.

    pool: enters workers of ``job``. IncompleteError names a part that failed.
    """
    key = files.sha256(job.run)
    found = parts.counted(
        job, str(index.root), len(index), lambda first: _id(key, job, index, first), pool, Counts
    )
    confusion, boundary = ConfusionMatrix(index.classes), BoundaryF(index.classes)
    images = []
    for part in found:
        confusion.counts += part.confusion
        boundary.counts += part.boundary
        images += [
            ImageScore(name, _number(miou), _number(loss)) for name, miou, loss in part.images
        ]
    return Evaluation(confusion, boundary, tuple(images))


def _id(key: str, job: Job, index: Index, first: int) -> str:
    items = index.items[first : first + job.images]
    names = [item.name for item in items]
    asked = (key, job.size, index.split, index.layout, index.classes.names, first, names)
    return parts.id_of(asked, (path for item in items for path in (item.image, item.label)))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
