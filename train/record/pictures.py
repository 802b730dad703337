"""Pictures of a run: a batch as trained on, and validation images with their errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from runtime.accuracy.metrics import ConfusionMatrix
from runtime.bundle.classes import ClassSet
from runtime.outputs.overlay import Overlay
from runtime.outputs.sheet import judged, sheet
from train.augment import Sample
from train.record.figure import save

_EACH = 3  # worst images, and median ones
_BATCH, _ROW = 8, 4  # crops of a batch that are shown, and how many in a row
_WRITTEN = 12  # classes of a matrix whose cells hold their numbers


def of_batch(samples: Sequence[Sample], classes: ClassSet) -> np.ndarray:
    """(H, W, 3) uint8 BGR: the first crops of a batch, and below each its labels laid over it."""
    overlay, rows = Overlay(classes), []
    shown = samples[:_BATCH]
    for first in range(0, len(shown), _ROW):
        part = shown[first : first + _ROW]
        images = [sample.image.permute(1, 2, 0).numpy()[..., ::-1].copy() for sample in part]
        labelled = [
            overlay.blend(image, sample.target.numpy()).copy()
            for image, sample in zip(images, part, strict=True)
        ]
        numbers = f"{first + 1} to {first + len(part)}"
        rows += [(f"as trained on, {numbers}", images), ("their labels", labelled)]
    return sheet(rows, classes)


def chosen(miou: np.ndarray) -> dict[int, str]:
    """Positions of the images to look at, the worst first, and what each is.

    miou: (images,) of each; NaN of an image without labels, which is never shown.
    """
    order = [int(place) for place in np.argsort(miou) if not np.isnan(miou[place])]
    middle = max(_EACH, (len(order) - _EACH + 1) // 2)
    worst, median = order[:_EACH], order[middle : middle + _EACH]
    return {**dict.fromkeys(worst, "worst"), **dict.fromkeys(median, "median")}


Judged = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def of_validation(answers: Iterable[Judged], classes: ClassSet) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a row an image: itself, its label, the prediction, what is wrong.

    answers: text, (H, W, 3) uint8 RGB image, (H, W) uint8 labels and predictions.
    """
    overlay = Overlay(classes)
    rows = [
        (f"{text}: image, label, prediction, errors",
         judged(image[..., ::-1], target, labels, overlay))
        for text, image, target, labels in answers
    ]  # fmt: skip
    return sheet(rows, classes)


def matrix(confusion: ConfusionMatrix, path: Path) -> None:
    """Write the confusion matrix as a PNG: each row is a class, in shares of its pixels."""
    names, counts = confusion.classes.names, confusion.counts
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 3 + 0.45 * min(len(names), 60)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="% of the class's pixels", shrink=0.8)
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.set(xlabel="predicted", ylabel="labelled")
    for row, column in np.argwhere(shares >= 0.5):
        if len(names) <= _WRITTEN or row == column:
            color = "white" if shares[row, column] > 50 else "black"
            text = f"{shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    save(figure, path)
