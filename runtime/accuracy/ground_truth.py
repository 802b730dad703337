"""Ground truth beside a stream: the label of each frame, and the accuracy so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from pathlib import Path

import numpy as np

from runtime.accuracy import label_files
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, known
from runtime.accuracy.streaming import Clock
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.files import composed
from runtime.segment import Prediction

_CITYSCAPES_IMAGE = "_leftImg8bit"


class LabelFolder:
    """The label images below a folder, found by the name of the frame they belong to.

    A frame ``X`` has the label ``X.png`` (.tif, .bmp); a Cityscapes frame ``X_leftImg8bit`` rather
    has ``X_gtFine_labelIds``, ``_labelTrainIds`` or ``_color`` where one of these exists. The
    folder is searched once, with all folders inside it.
    """

    def __init__(self, folder: Path, classes: ClassSet) -> None:
        if not folder.is_dir():
            raise HedgeError(f"{folder}: no such folder of labels; check --labels")
        self.folder = folder
        self.classes = classes
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in label_files.label_files(folder.rglob("*")):
            self._by_stem[composed(path.stem)].append(path)

    def find(self, name: str) -> Path | None:
        """The label of the frame ``name``, None where there is none; two of a name are an error."""
        for stem in _stems(composed(name)):
            found = self._by_stem.get(stem, [])
            if len(found) > 1:
                raise HedgeError(
                    f"{found[0]} and {found[1]}: two labels of frame {name}; give the folder of one"
                )
            if found:
                return found[0]
        return None

    def read(self, name: str) -> np.ndarray | None:
        """(H, W) uint8 training ids (IGNORE = 255) of the frame ``name``, or None."""
        path = self.find(name)
        return None if path is None else label_files.read_label(path, self.classes)

    def require(self, names: Container[str], origin: str) -> None:
        """Raise HedgeError, naming both sides, unless at least one of ``names`` has a label.

        The labels are looked up among the frames, of which a video may promise any number.
        """
        frames = (name for stem in self._by_stem for name in _frames_of(stem))
        if not any(name in names and self.find(name) for name in frames):
            raise HedgeError(
                f"{self.folder}: no label here belongs to a frame of {origin}; labels have the "
                "name of their image (000000.png for the first frame of a video)"
            )


def ignored_line(ignored: int, labelled: int) -> str:
    """What to say of labels of which at most one class is seen, as of masks of 0 and 255.

    ignored, labelled: pixels that count nowhere, and those of the class.
    """
    return (
        f"{ignored / (ignored + labelled):.0%} of the pixels are ignored, as 255 is; a class that "
        'labels hold as 255, as masks of 0 / 255 do, needs "id": 255 in classes.json'
    )


class Scorer:
    """Predictions against a label folder, frame by frame.

    matrix: the counts so far; scored: frames that had a label; ignored: pixels of them that count
    nowhere; clock: scores the same frames as they would be seen live, boundary: the boundaries of
    the classes, None where nobody asked.
    """

    def __init__(
        self, folder: LabelFolder, clock: Clock | None = None, boundary: BoundaryF | None = None
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.boundary = boundary
        self.matrix = ConfusionMatrix(folder.classes)
        self.scored = self.ignored = 0

    def update(self, prediction: Prediction) -> None:
        """Count a frame; one without a label is passed over.

        Raises HedgeError for a label of another size: resizing it would invent ground truth.
        """
        name = prediction.frame.name
        target = self.folder.read(name)
        if target is not None and target.shape != prediction.labels.shape:
            raise HedgeError(
                f"{self.folder.find(name)}: the label is {_size(target)} but its frame is "
                f"{_size(prediction.labels)}; labels are never resized, make them of one size"
            )
        if self.clock is not None:
            self.clock.update(prediction, target)
        if target is not None:
            self.matrix.update(target, prediction.labels)
            if self.boundary is not None:
                self.boundary.update(target, prediction.labels)
            self.scored += 1
            self.ignored += int(np.count_nonzero(target == IGNORE))

    def warning(self) -> str:
        """What looks wrong in the labels so far, "" where nothing does."""
        seen = self.matrix.counts.sum(axis=1)
        if not self.ignored or not 1 < len(seen) < IGNORE or np.count_nonzero(seen) > 1:
            return ""
        return f"{self.folder.folder}: {ignored_line(self.ignored, int(seen.sum()))}"

    def miou(self) -> float | None:
        """Mean IoU so far in 0..1; None before the first labelled pixel."""
        return known(self.matrix.miou())


def _stems(name: str) -> list[str]:
    if not name.endswith(_CITYSCAPES_IMAGE):
        return [name]
    base = name.removesuffix(_CITYSCAPES_IMAGE)
    return [*(f"{base}_gtFine_{kind}" for kind in ("labelIds", "labelTrainIds", "color")), name]


def _frames_of(stem: str) -> list[str]:
    """The frames that a label of this name may belong to."""
    base, kind, _ = stem.rpartition("_gtFine_")
    return [stem, base + _CITYSCAPES_IMAGE] if kind else [stem]


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
