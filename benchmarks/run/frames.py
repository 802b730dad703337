"""The frames that all cells of a run answer: of a data set, a folder or video, or drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice, zip_longest
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.cells.engine import Scene
from benchmarks.cells.worker import to_json
from export.int8.calibration import from_folder, from_split
from runtime import cli, files
from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.outputs.video_file import VideoSink
from runtime.sources.open import open_source
from train.datasets import is_data, open_index
from train.datasets.index import Index, evenly_spaced
from train.datasets.synthetic.generate import drive, still

UNLABELLED = 16  # frames, where there is nothing to score on
DRAWN = (360, 640)
DRIVE = 40  # frames that are drawn of a drive


@dataclass(frozen=True)
class Frames:
    """What was found: the list as a file for the cells, its frames, and the classes they label.

    data: where they come from, in words; classes: None without labels.
    """

    path: Path
    scenes: tuple[Scene, ...]
    data: str
    classes: ClassSet | None = None

    def scorable(self, manifest: Manifest) -> bool:
        """Whether labels of this bundle can be held against those of the frames."""
        return self.classes is not None and self.classes.names == manifest.classes.names

    def misfit(self, manifest: Manifest) -> str | None:
        """The first class in which a bundle differs from the labels; None where it fits, or
        where there are none."""
        if self.classes is None or self.scorable(manifest):
            return None
        both = zip_longest(manifest.classes.names, self.classes.names, fillvalue="missing")
        number, (own, label) = next((n, pair) for n, pair in enumerate(both) if len({*pair}) > 1)
        return (
            f"its classes are not those of --data in the same order: class {number} is {own}, "
            f"in the labels {label}"
        )


def gather(data: Path | None, video: Path | None, count: int, scratch: Path) -> Frames:
    """At most ``count`` labelled frames of the val split, evenly spaced; else images without
    labels: of the folder ``data``, of ``video``, or drawn streets.

    HedgeError for data that is missing, damaged, or holds no frame.
    """
    if data is not None and not data.exists():
        raise HedgeError(f"{data}: no such file or folder; --data takes a data set or images")
    classes = None
    if data is not None and is_data(data):
        index = open_index(data, "val")
        classes, scenes = index.classes, tuple(_labelled(index, count, scratch))
        said = f"{len(scenes)} frames of {index.root.name} ({index.split})"
    elif (source := data or video) is not None:
        scenes = tuple(_written(_read(source), scratch))
        said = f"{len(scenes)} frames of {source.name}, without labels"
    else:
        scenes, said = tuple(_written(_drawn(), scratch)), "drawn streets, without labels"
    path = scratch / "frames.json"
    files.write_bytes(path, to_json(scenes))
    return Frames(path, scenes, said, classes)


def calibration(data: Path | None, count: int) -> tuple[Path, ...]:
    """``count`` images to calibrate with, as an export chooses them; HedgeError without any."""
    if data is None:
        raise HedgeError("--peers nncf: NNCF calibrates with real images: --data")
    if is_data(data):
        return from_split(open_index(data, "train"), count).paths
    return from_folder(data, count).paths


def _labelled(index: Index, count: int, scratch: Path) -> Iterator[Scene]:
    """The labels are written as training ids: a cell's process needs no data set's conventions."""
    for number, item in enumerate(evenly_spaced(index.items, count)):
        _, target = index.read(item)
        label = scratch / f"{number}.label.png"
        Image.fromarray(target).save(label)
        yield Scene(item.name, item.image.resolve(), label)


def _written(images: Iterator[np.ndarray], scratch: Path) -> Iterator[Scene]:
    for number, image in enumerate(images):
        path = scratch / f"{number}.png"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        yield Scene(path.stem, path)


def _read(source: Path) -> Iterator[np.ndarray]:
    with open_source(str(source)) as opened:
        for frame in islice(opened, UNLABELLED):
            yield frame.image


def _drawn() -> Iterator[np.ndarray]:
    for number in range(UNLABELLED):
        yield cv2.cvtColor(still(np.random.default_rng(number), DRAWN)[0], cv2.COLOR_RGB2BGR)


def drawn_drive(path: Path, count: int, size: tuple[int, int] = (720, 1280)) -> Path:
    """A video of a drawn drive at 30 frames a second, to and fro; drawn once; size: (H, W)."""
    if not path.exists():
        shots = drive(min(DRIVE, count), size, seed=0)
        drawing = cli.track(shots, "drawing a street", min(DRIVE, count))
        images = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image, _ in drawing]
        to_and_fro = cycle([*images, *images[-2:0:-1]])
        with files.atomic_path(path) as temporary, VideoSink(temporary, Fraction(30)) as sink:
            for image in islice(to_and_fro, count):
                sink.write(image)
    return path
