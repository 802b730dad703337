"""Pictures and a data set, drawn on the spot: nothing is downloaded or stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from runtime.bundle.classes import ClassSet

HEIGHT, WIDTH = 24, 32
CLASSES = ClassSet(("blue", "green", "red"), ((0, 0, 255), (0, 255, 0), (255, 0, 0)))


def picture(index: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W, 3) uint8 BGR: vertical bands of blue, green and red that wander with ``index``."""
    columns = (np.arange(size[1]) * 3 // max(size[1], 3) + index) % 3
    image = np.full((*size, 3), 20, np.uint8)
    for channel in range(3):
        image[:, columns == channel, channel] = 230
    return image


def make_images(folder: Path, images: Sequence[np.ndarray] | int = 3, name: str = "f{}") -> Path:
    """Write a folder of PNG images, named ``f0``, ``f1``, … unless said."""
    if isinstance(images, int):
        images = [picture(index) for index in range(images)]
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        Image.fromarray(rgb).save(folder / f"{name.format(index)}.png")
    return folder


def save_ids(path: Path, ids: np.ndarray) -> Path:
    """Write (H, W) uint8 ids as a greyscale PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return path


def make_blocks(root: Path) -> Path:
    """A data set in the folder layout that a network learns in seconds: 8 + 3 images of 48×64."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        images = root / "images" / split
        images.mkdir(parents=True)
        for index in range(count):
            image, ids = _block_scene(rng, (48, 64))
            Image.fromarray(image).save(images / f"{split}{index}.png")
            save_ids(root / "labels" / split / f"{split}{index}.png", ids)
    (root / "classes.json").write_bytes(CLASSES.to_json())
    return root


def _block_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB of coloured rectangles on blue, and their ids; the top row is ignored."""
    height, width = size
    ids = np.zeros(size, np.uint8)
    for _ in range(4):
        top, left = rng.integers(height), rng.integers(width)
        ids[top : top + height // 3, left : left + width // 3] = rng.integers(1, 3)
    colors = np.array(CLASSES.colors, np.float32) * 0.7 + 30
    image = np.clip(colors[ids] + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
    ids[0] = 255
    return image, ids
