"""Data sets of a few pixels in each layout, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from runtime.bundle.classes import ClassSet

TWO = ClassSet(("ground", "thing"), ((10, 20, 30), (200, 100, 0)))
SIZE = (6, 8)  # height, width


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(value: int) -> np.ndarray:
    return np.full((*SIZE, 3), value, np.uint8)


def ids(value: int = 1) -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[2:4] = value
    return label


def make_folder(root: Path) -> Path:
    for split, names in (("train", "ba"), ("val", "c")):
        for name in names:
            save(root / f"images/{split}/{name}.png", picture(ord(name)))
            save(root / f"labels/{split}/{name}.png", ids())
    (root / "classes.json").write_bytes(TWO.to_json())
    return root


def make_cityscapes(root: Path, kind: str = "labelIds", value: int = 26) -> Path:
    for split, city in (("train", "aachen"), ("val", "ulm")):
        name = f"{city}/{city}_000000_000019"
        save(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", picture(9))
        save(root / f"gtFine/{split}/{name}_gtFine_{kind}.png", ids(value))
    return root


def make_list(root: Path) -> Path:
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        save(root / f"pictures/{name}.png", picture(ord(name)))
        save(root / f"truth/{name}.png", ids())
        save(root / f"edges/{name}.png", ids(200))
        with (root / f"{split}.txt").open("a") as file:
            file.write(f"# {split}\n\n pictures/{name}.png ,truth/{name}.png, edges/{name}.png\n")
    (root / "classes.json").write_bytes(TWO.to_json())
    return root
