"""A checkpoint's answers to labelled images, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, Scores, scores
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError, one_line
from train.checkpoint import Checkpoint
from train.datasets import default_data
from train.datasets.index import Index, Item
from train.datasets.matching import matching_index
from train.models import DeepLab
from train.models.deeplab import Segmentation
from train.models.hed import upsample


@dataclass(frozen=True, kw_only=True)
class Report(Scores):
    """The stable keys of ``--json``.

    confusion: pixels by class (rows) and prediction; miou_by_image: the lowest first.
    """

    images: int
    precision: dict[str, float | None]
    recall: dict[str, float | None]
    confusion: list[list[int]]
    miou_by_image: dict[str, float]


class ImageScore(NamedTuple):
    """An image's name, mIoU over its classes, mean cross-entropy; NaN of one without labels."""

    name: str
    miou: float
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """Scores over a split, in 0..1; boundary F is None if it was not computed.

    by_image: in the split's order.
    """

    confusion: ConfusionMatrix
    boundary: BoundaryF | None
    by_image: tuple[ImageScore, ...]

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return len(self.by_image)

    def worst_first(self) -> list[tuple[str, float]]:
        """Names of the labelled images with their mIoU, the lowest first."""
        known = [(name, miou) for name, miou, _ in self.by_image if not np.isnan(miou)]
        return sorted(known, key=lambda row: row[1])

    def report(self) -> Report:
        """For ``--json``."""
        confusion = self.confusion
        return Report(
            **vars(scores(confusion, self.boundary)),
            images=self.images,
            precision=confusion.by_name(confusion.precision()),
            recall=confusion.by_name(confusion.recall()),
            confusion=confusion.counts.tolist(),
            miou_by_image=dict(self.worst_first()),
        )


class Answer(NamedTuple):
    """image: (H, W, 3) uint8 RGB; target, labels: (H, W) uint8; edges: (h, w) float32 or None;
    loss: mean cross-entropy of the labelled pixels, NaN without any."""

    item: Item
    image: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    edges: np.ndarray | None
    loss: float


def predict(
    model: DeepLab, image: np.ndarray, size: tuple[int, int], out_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 RGB → (h, w) uint8 labels of ``out_size``, and the edge map at ``size``.

    The same steps as the exported graph: bilinear to the network's ``size``, network, logits
    bilinear to ``out_size``, argmax. Edges are (H, W) float32 in 0..1, None without HED.
    """
    answer = _scores(model, image, size, out_size)
    return _answered(answer.logits, answer.edges, size)


def _answered(
    logits: torch.Tensor, edges: list[torch.Tensor] | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
    if edges is None:
        return labels, None
    return labels, upsample(edges[-1].float(), size).sigmoid()[0, 0].cpu().numpy()


@torch.inference_mode()
def _scores(
    model: DeepLab, image: np.ndarray, size: tuple[int, int], out_size: tuple[int, int]
) -> Segmentation:
    parameter = next(model.parameters())
    x = torch.from_numpy(image.copy()).to(parameter.device).permute(2, 0, 1)[None].float() / 255
    x = upsample(x, size).to(memory_format=torch.channels_last)
    return model(x, out_size)


def evaluate(
    model: DeepLab, index: Index, size: tuple[int, int], boundaries: bool = True
) -> Evaluation:
    """Run ``model`` over ``index``; labels are compared at their own resolution."""
    return score(predictions(model, index, size, index.items), index.classes, boundaries)


def score(answers: Iterable[Answer], classes: ClassSet, boundaries: bool = True) -> Evaluation:
    """Add up answers as they come."""
    confusion = ConfusionMatrix(classes)
    boundary = BoundaryF(classes) if boundaries else None
    images = []
    for answer in answers:
        own = ConfusionMatrix(classes)
        own.update(answer.target, answer.labels)
        confusion.counts += own.counts
        if boundary is not None:
            boundary.update(answer.target, answer.labels)
        images.append(ImageScore(answer.item.name, own.miou(), answer.loss))
    return Evaluation(confusion, boundary, tuple(images))


def predictions(
    model: DeepLab, index: Index, size: tuple[int, int], items: Iterable[Item]
) -> Iterator[Answer]:
    """The model's answers to ``items`` of ``index``, one at a time."""
    for item in items:
        image, target = index.read(item)
        logits, edges, _ = _scores(model, image, size, (target.shape[0], target.shape[1]))
        truth = torch.from_numpy(target.astype(np.int64))[None].to(logits.device)
        loss = cross_entropy(logits.float(), truth, ignore_index=IGNORE)
        yield Answer(item, image, target, *_answered(logits, edges, size), float(loss))


def load_model(checkpoint: Checkpoint) -> DeepLab:
    """The network of a checkpoint, in evaluation mode, on the CPU.

    HedgeError unless its weights are exactly those of the network that it describes.
    """
    path = checkpoint.path or "checkpoint"
    try:
        with torch.device("meta"):  # its shapes alone: a name stands for any number of gigabytes
            described = DeepLab(checkpoint.model).state_dict()
    except Exception as error:  # a file from anywhere may describe anything
        raise HedgeError(f"{path}: describes no network: {one_line(error)}") from error
    own, given = (
        {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
        for state in (described, checkpoint.weights)
    )
    if own != given:
        odd = min(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise HedgeError(
            f"{path}: its weights are not those of its network ({odd}); export or train it again"
        )
    model = DeepLab(checkpoint.model)
    model.load_state_dict(checkpoint.weights)
    return model.eval().to(memory_format=torch.channels_last)


def evaluation_index(checkpoint: Checkpoint, data: Path | None, split: str) -> Index:
    """The split to measure ``checkpoint`` on; see ``matching_index``."""
    data = data or checkpoint.config.data or default_data(classes=checkpoint.classes)
    return matching_index(data, checkpoint.classes, split)
