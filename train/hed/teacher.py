"""Soft edges that a teacher draws on the training images: drawn once, kept beside the runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from runtime import cli, files
from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError
from train.datasets.bsds import Drawing
from train.hed.maps import edge_map
from train.models.hed import Hed, edge_file, read_hed

CACHE = ".teacher_edges"  # in the folder of the runs
SCALES = (0.5, 1.0, 1.5)  # of the image; the mean of their maps is better than each of them
_VERSION = 2  # of how maps are drawn; those that another one has kept are drawn again


def soft_edges(
    source: Path,
    drawings: Sequence[Drawing],
    cache: Path,
    device: torch.device,
    quiet: bool = True,
) -> list[np.ndarray]:
    """(H, W) uint8 edge strength 0..254 of each image, as a teacher sees it.

    source: published weights, a run of train.hed, or a folder with another detector's map of each
    image; cache: the folder that keeps what a network drew for as long as weights and image stay.
    A progress bar is shown unless ``quiet``. HedgeError for a file that holds no edge network, and
    for maps that are missing or do not fit.
    """
    path = edge_file(source)
    if source.is_dir() and not path.exists():
        maps = [drawing.edges_in(source) for drawing in drawings]
        if max(edges.max() for edges in maps) <= 1:  # else it teaches that there are no edges
            raise HedgeError(f"{source}: no map has a value above 1; an edge is up to 255")
        return [_without_255(edges) for edges in maps]
    network = read_hed(path).eval().to(device)
    drawn_by = f"{files.sha256(path)} {SCALES} {_VERSION}".encode()
    shown = drawings if quiet else cli.track(drawings, "asking the teacher", transient=True)
    answers = []
    for image in (drawing.image for drawing in shown):
        kept = cache / files.sha256_of(drawn_by + repr(image.shape).encode() + image.tobytes())
        data = files.read_sealed(kept)
        if not data:
            data = _drawn(network, image).tobytes()
            files.save_sealed(kept, data)
        answers.append(np.frombuffer(data, np.uint8).reshape(image.shape[:2]))
    return answers


def blended(target: np.ndarray, taught: np.ndarray, share: float) -> np.ndarray:
    """People's and a teacher's edges as one, all (H, W) uint8: ``share`` of it is the teacher's.

    Where people leave it open (IGNORE), the teacher decides.
    """
    both = np.round((1 - share) * target + share * taught)
    return np.where(target == IGNORE, taught, both).astype(np.uint8)


def _without_255(edges: np.ndarray) -> np.ndarray:
    """(H, W) edge strength 0..255 as 0..254: 255 is IGNORE in a target."""
    return np.round(edges * np.float32(254 / 255)).astype(np.uint8)


def _drawn(network: Hed, image: np.ndarray) -> np.ndarray:
    """The mean over SCALES of the network's maps, all brought to the image's size."""
    height, width = image.shape[:2]
    total = np.zeros((height, width), np.float32)
    for scale in SCALES:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        # By its size: of an odd side a factor would leave the last half pixel out.
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        seen = cv2.resize(image, size, interpolation=way)
        total += cv2.resize(edge_map(network, seen).astype(np.float32), (width, height))
    return np.round(total * (254 / 255 / len(SCALES))).astype(np.uint8)
