"""Accuracy: one implementation for training, export, runtime and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from msgspec import UNSET, UnsetType

from runtime.bundle.classes import IGNORE, ClassSet

BOUNDARY_TOLERANCE_PX = 3


class ConfusionMatrix:
    """Pixel counts by (target class, predicted class); ignored pixels are left out.

    IoU as in PASCAL VOC and Cityscapes: TP / (TP + FP + FN) over all pixels of all frames. A class
    that occurs neither in targets nor in predictions has IoU NaN and is left out of the mean.
    """

    def __init__(self, classes: ClassSet) -> None:
        self.classes = classes
        self.counts = np.zeros((len(classes), len(classes)), np.int64)

    def update(self, target: np.ndarray, labels: np.ndarray) -> None:
        """Add a frame: (H, W) uint8 training ids (IGNORE allowed) against (H, W) uint8 labels."""
        n = len(self.classes)
        valid = target != IGNORE
        pairs = target[valid].astype(np.int64) * n + labels[valid]
        self.counts += np.bincount(pairs, minlength=n * n).reshape(n, n)

    def iou(self) -> np.ndarray:
        """(C,) IoU in 0..1."""
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return _share(hits, union)

    def miou(self) -> float:
        """Mean IoU in 0..1 over the classes that occur; NaN before the first labelled pixel."""
        values = self.iou()
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def precision(self) -> np.ndarray:
        """(C,) share of the pixels predicted to be of a class that are; NaN where there are none.

        Ignored pixels are not among them.
        """
        return _share(np.diag(self.counts), self.counts.sum(0))

    def recall(self) -> np.ndarray:
        """(C,) share of a class's pixels that are predicted to be of it; NaN where it has none."""
        return _share(np.diag(self.counts), self.counts.sum(1))

    def confusions(self) -> list[tuple[str, str, float]]:
        """(class, class it is taken for, share of the class's pixels), the most pixels first."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        totals = self.counts.sum(1)
        order = np.argsort(-wrong, axis=None, kind="stable")
        pairs = [divmod(int(place), len(self.classes)) for place in order]
        names = self.classes.names
        return [(names[a], names[b], wrong[a, b] / totals[a]) for a, b in pairs if wrong[a, b]]

    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right, in 0..1."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")

    def iou_by_name(self) -> dict[str, float | None]:
        """IoU by class name, None where the class does not occur (NaN is not JSON)."""
        return self.by_name(self.iou())

    def by_name(self, values: np.ndarray) -> dict[str, float | None]:
        """(C,) values by class name, None for NaN."""
        return _by_name(self.classes, values)


class BoundaryF:
    """F-measure of class boundaries with a tolerance in pixels (Csurka et al., BMVC 2013).

    A boundary pixel of one map is matched when the other map has a boundary pixel of the same
    class within ``tolerance`` pixels, in OpenCV's ellipse: y rows away, up to √(tolerance² − y²)
    columns, rounded, which at 3 takes in four pixels of √10. Precision and recall are pooled over
    all frames per class; the mean is over classes that have a boundary. Boundaries that only border
    on ignored pixels, or lie within the tolerance of them, do not count.
    """

    def __init__(self, classes: ClassSet, tolerance: int = BOUNDARY_TOLERANCE_PX) -> None:
        self.classes = classes
        self.tolerance = tolerance
        self._disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1,) * 2)
        self.counts = np.zeros((len(classes), 4), np.int64)  # matched, predicted, found, true

    def update(self, target: np.ndarray, labels: np.ndarray) -> None:
        """Add a frame: (H, W) uint8 training ids against (H, W) uint8 labels."""
        counted = cv2.dilate((target == IGNORE).astype(np.uint8), self._disk) == 0
        for index in np.union1d(target[counted], labels[counted]):
            true = _boundary(target == index) & counted
            predicted = _boundary(labels == index) & counted
            self.counts[index] += (
                (predicted & self._near(true)).sum(),
                predicted.sum(),
                (true & self._near(predicted)).sum(),
                true.sum(),
            )

    def f(self) -> np.ndarray:
        """(C,) F-measure in 0..1; NaN for a class without any boundary, and for all where labels
        have none, as those that leave a band around every object unlabelled."""
        matched, predicted, found, true = self.counts.T.astype(np.float64)
        precision = matched / np.maximum(predicted, 1)
        recall = found / np.maximum(true, 1)
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return np.where((predicted + true > 0) & true.any(), score, np.nan)

    def mean(self) -> float:
        """Mean F over the classes that have a boundary; NaN when none has."""
        values = self.f()
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def _near(self, boundary: np.ndarray) -> np.ndarray:
        return cv2.dilate(boundary.astype(np.uint8), self._disk).astype(bool)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What reports say of accuracy, in 0..1; None, never NaN, where there is nothing to score.

    Two keys are left out where boundaries were not asked for.
    """

    miou: float | None = None
    iou: dict[str, float | None] | None = None
    pixel_accuracy: float | None = None
    boundary_f: float | None = None
    boundary_f_by_class: dict[str, float | None] | UnsetType = UNSET
    boundary_tolerance_px: int | UnsetType = UNSET


def scores(matrix: ConfusionMatrix, boundary: BoundaryF | None) -> Scores:
    """All that was counted so far."""
    found = Scores(
        miou=known(matrix.miou()),
        iou=matrix.iou_by_name(),
        pixel_accuracy=known(matrix.pixel_accuracy()),
    )
    if boundary is None:
        return found
    return replace(
        found,
        boundary_f=known(boundary.mean()),
        boundary_f_by_class=_by_name(matrix.classes, boundary.f()),
        boundary_tolerance_px=boundary.tolerance,
    )


def points_lost(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> float:
    """Points of mIoU lost between two answers to the same labelled frames, by the IoU of classes.

    A class that no label holds, and only one of the two answers somewhere by mistake, is 0 for
    both: a single pixel of it would move the mean, over one class more, by whole points. NaN
    without any class.
    """
    names = [n for n in dict.fromkeys((*before, *after)) if {before.get(n), after.get(n)} != {None}]
    lost = sum((before.get(name) or 0.0) - (after.get(name) or 0.0) for name in names)
    return 100 * lost / len(names) if names else float("nan")


def known(value: float) -> float | None:
    """The number; None, which JSON has, for NaN."""
    return None if np.isnan(value) else float(value)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _by_name(classes: ClassSet, values: np.ndarray) -> dict[str, float | None]:
    return dict(zip(classes.names, map(known, values), strict=True))


def _boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of ``mask`` with a 4-neighbour outside it (the image's rim is none)."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_REPLICATE)
    return mask & (inner == 0)
