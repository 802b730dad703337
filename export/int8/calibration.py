"""Which images INT8 ranges come from, with proof, and the table that they are kept in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from runtime import cli, files
from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES, read_rgb
from runtime.segment import fill
from train.datasets.index import Index, Item, evenly_spaced
from train.datasets.index import files as visible_files

SCALES = "scales.json"
FEW = 16  # images; fewer leave whole classes unseen
POOL = 4  # labels looked at for each image chosen
PREPROCESSING = "resized to the graph's frame (bilinear); normalisation is in the graph"


@dataclass(frozen=True)
class Images:
    """The calibration images, in the order they are fed, and where they come from."""

    data: str
    split: str
    paths: tuple[Path, ...]

    def frames(self, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Each image as the runtime would feed it: (H, W, 3) uint8 BGR of ``size``, one at a time.

        HedgeError names an image that does not decode whole.
        """
        for path in self.paths:
            frame = np.empty((*size, 3), np.uint8)
            fill(frame, cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2BGR))
            yield frame

    def check(self) -> None:
        """Decode all of them, so that a damaged one is named before anything slow begins."""
        for path in cli.track(self.paths, "checking calibration images"):
            read_rgb(path)

    @cached_property
    def passport(self) -> dict[str, Any]:
        """What the manifest keeps, so that anyone can check what the ranges came from.

        Images go by their path within the folder that holds all of them.
        """
        root = os.path.commonpath([path.parent.absolute() for path in self.paths])
        inside = (path.absolute().relative_to(root).as_posix() for path in self.paths)
        names = map(files.printable, inside)  # JSON has none that are no text
        return {
            "data": files.printable(self.data),
            "split": self.split,
            "images": dict(zip(names, map(files.sha256, self.paths), strict=True)),
            "preprocessing": PREPROCESSING,
            "scales": SCALES,
        }


def from_split(index: Index, count: int) -> Images:
    """``count`` images of a data set's training split, chosen so that every class is seen.

    Greedy over evenly spaced candidates: the next image is the one that adds most to
    Σ √(share of the class's pixels already chosen), so a rare class counts while it is rare.
    """
    if index.split != "train":
        raise HedgeError(f"{index.root}: calibration images come from train, not {index.split}")
    candidates = evenly_spaced(index.items, POOL * count)
    if len(candidates) <= count:
        chosen = candidates
    else:
        labels = cli.track(candidates, "choosing calibration images")
        shares = np.stack([_histogram(index, item) for item in labels])
        chosen = [candidates[i] for i in _cover(shares, count)]
    return _checked(Images(index.root.name, index.split, tuple(item.image for item in chosen)))


def from_folder(folder: Path, count: int) -> Images:
    """``count`` images of a folder without labels, evenly spaced by name."""
    if not folder.is_dir():
        raise HedgeError(f"{folder}: no such folder of calibration images")
    found = [path for path in visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise HedgeError(f"{folder}: no images to calibrate with; INT8 needs real ones")
    return _checked(Images(folder.name, "folder", tuple(evenly_spaced(found, count))))


def refuse_overlap(calibration: Mapping[str, str], evaluation: Index) -> None:
    """HedgeError if an image to calibrate with is one of those that accuracy is measured on.

    calibration: sha256 by name. Compared by content, so that another name does not hide it.
    """
    names = {digest: name for name, digest in calibration.items()}
    for item in evaluation.items:
        if name := names.get(files.sha256(item.image)):
            raise HedgeError(
                f"{name}: a calibration image that is also in the evaluation split "
                f"({item.image}); an mIoU measured on it proves nothing: choose others"
            )


@dataclass(frozen=True)
class Scales:
    """The table that every INT8 form of a model is written from.

    model: fingerprint of the weights and sizes it was measured for; ranges: tensor → lowest and
    highest value worth a code; passport: which images, how prepared, and the method.
    """

    model: str
    ranges: dict[str, tuple[float, float]]
    passport: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, path: Path, model: str) -> Scales:
        """Read a table; HedgeError if it is damaged or was measured on another model."""
        try:
            scales = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise HedgeError(f"{path}: not a table of scales: {error}") from error
        if scales.model != model:
            raise HedgeError(
                f"{path}: the scales of another model or input size; calibrate anew (no --scales)"
            )
        return scales


def _checked(images: Images) -> Images:
    if not images.paths:
        raise HedgeError(f"{images.data}: no images to calibrate with; INT8 needs real ones")
    if len(images.paths) < FEW:
        cli.warn(
            f"{images.data}: calibrating with {len(images.paths)} images only; from {FEW} on, "
            "rare classes have a chance"
        )
    return images


def _histogram(index: Index, item: Item) -> np.ndarray:
    """(C,) pixels of each class in a label."""
    return np.bincount(index.read_label(item.label).ravel(), minlength=256)[: len(index.classes)]


def _cover(pixels: np.ndarray, count: int) -> list[int]:
    """Rows of (N, C) pixel counts chosen greedily for Σ √(share of each class)."""
    shares = pixels / np.maximum(pixels.sum(axis=0), 1)
    covered = np.zeros(pixels.shape[1])
    left = list(range(len(pixels)))
    chosen = []
    for _ in range(count):
        gains = np.sqrt(covered + shares[left]).sum(axis=1)
        best = left.pop(int(gains.argmax()))
        covered += shares[best]
        chosen.append(best)
    return sorted(chosen)
