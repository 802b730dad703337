"""BSDS500: natural images, each with boundaries by several annotators.

The official tree: images/<split>/*.jpg and groundTruth/<split>/*.mat of the same stem, or
ground_truth/, as Kaggle has it. Other sets of edges are laid out in the same way, with the edges of
one annotator as *.png, white on black.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import matfile_version

from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES, read_rgb
from train.datasets.index import Problem, files, pair, read_edge_map, require_same_size

_TRUTHS = ("groundTruth", "ground_truth")
_WHITE = 128  # and above: an edge in a PNG


@dataclass(frozen=True)
class Drawing:
    """An image and its annotations.

    file: the image's; image: (H, W, 3) uint8 RGB; boundaries: (annotators, H, W) bool.
    """

    file: Path
    image: np.ndarray
    boundaries: np.ndarray

    @property
    def agreement(self) -> np.ndarray:
        """(H, W) float32 in 0..1: share of the annotators who marked a pixel as boundary."""
        return self.boundaries.mean(0, dtype=np.float32)

    def edges_in(self, folder: Path) -> np.ndarray:
        """(H, W) uint8 edge strength of this image, from a folder with a gray PNG for each.

        HedgeError names a map that is missing, that is not gray, or that has another size.
        """
        path = folder / f"{self.file.stem}.png"
        if not path.is_file():
            raise HedgeError(f"{path}: no such map; {folder} holds neither edges.pt nor a map each")
        edges = read_edge_map(path)
        require_same_size(path, edges.shape, self.file, self.image.shape)
        return edges


@dataclass(frozen=True)
class Pair:
    """The files of a drawing; the image's name is its stem."""

    image: Path
    truth: Path

    def read(self) -> Drawing:
        """Decode both; HedgeError names the file that is damaged, or that does not fit."""
        image, boundaries = read_rgb(self.image), read_boundaries(self.truth)
        require_same_size(self.truth, boundaries.shape[1:], self.image, image.shape)
        return Drawing(self.image, image, boundaries)


def pairs(data: Path, split: str) -> tuple[Pair, ...]:
    """The pairs of a split, sorted by name; HedgeError names the first file without its other."""
    folder = data / "images" / split
    images = [path for path in files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    drawn = next((data / n / split for n in _TRUTHS if (data / n).is_dir()), data / _TRUTHS[0])
    found = files(drawn, "*.mat") or files(drawn, "*.png")
    truths = [(path.stem, path) for path in found]
    items, faults = pair([(path.stem, path) for path in images], truths, split, folder)
    for fault in faults:
        if fault.problem is Problem.EMPTY_SPLIT:
            raise HedgeError(
                f"{folder}: no images; --data takes BSDS500's data folder, the one with images/ "
                "and groundTruth/ in it; lay out other sets so, with groundTruth/*/*.png, white on "
                "black"
            )
        if fault.problem is Problem.MISSING_LABEL:
            raise HedgeError(f"{fault.path}: no {fault.path.stem}.mat (or .png) in {drawn}; add it")
        raise HedgeError(str(fault))
    return tuple(Pair(item.image, item.label) for item in items)


def read_boundaries(path: Path) -> np.ndarray:
    """(people, H, W) bool boundary maps of a .mat file, or one of a PNG; HedgeError names any other
    file."""
    if path.suffix == ".png":
        edges = read_edge_map(path)
        if 0 < edges.max() < _WHITE:  # of 0 and 1, say
            raise HedgeError(f"{path}: its brightest value is {edges.max()}; an edge is 255")
        return edges[None] >= _WHITE
    try:
        if matfile_version(path) == (2, 0):
            raise ValueError("a MATLAB 7.3 file, which is HDF5; save it again with -v7")
        drawn = loadmat(path)["groundTruth"].ravel()
        return np.stack([person["Boundaries"][0, 0] for person in drawn]) > 0
    except Exception as error:  # the parser of damaged files raises a dozen types
        raise HedgeError(f"{path}: not a BSDS500 ground truth: {error}") from error
