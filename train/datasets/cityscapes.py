"""The official Cityscapes tree: leftImg8bit/<split>/<city>/ beside gtFine/<split>/<city>/."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from runtime import images
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, UnknownIdError
from train.datasets.index import Index, Layout, Survey, decode, files, pair

_IMAGE = "_leftImg8bit"
# Best first. A colour image cannot tell a pole from a pole group, nor a car from its licence
# plate: ids say more, so colours are the last resort.
_LABELS = ("_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtFine_color")


def fits(data: Path) -> bool:
    """Whether ``data`` holds (at least half of) the official tree."""
    return (data / "leftImg8bit").is_dir() or (data / "gtFine").is_dir()


def survey(data: Path, split: str) -> Survey:
    """The pairs of a split, best label file first, and everything that does not pair up."""
    folder = data / "leftImg8bit" / split
    found = files(folder, f"*/*{_IMAGE}.png")
    keyed = [(_key(path, _IMAGE), path) for path in found]
    items, faults = pair(keyed, _labels(data / "gtFine" / split), split, folder)
    index = Index(data, split, LAYOUT.name, CITYSCAPES, items, read_label)
    return Survey(index, tuple(faults))


def read_label(path: Path) -> np.ndarray:
    """(H, W) uint8 training ids (255 = ignore) of a Cityscapes label image.

    The name says what it holds: ``_labelIds``, ``_color``, and training ids otherwise.
    """
    if path.stem.endswith("_color"):
        return _from_colors(path)
    return images.read_label(path, CITYSCAPES)


LAYOUT = Layout("cityscapes", fits, survey)


def _key(path: Path, suffix: str) -> str:
    return f"{path.parent.name}/{path.stem.removesuffix(suffix)}"


def _labels(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for suffix in _LABELS:
        for path in files(folder, f"*/*{suffix}.png"):
            found.setdefault(_key(path, suffix), path)
    return found


def _from_colors(path: Path) -> np.ndarray:
    rgb = decode(path, {"RGB", "RGBA"}, "a colour label")[..., :3]
    codes, train_ids = _color_table()
    packed = _pack(rgb)
    nearest = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    wrong = codes[nearest] != packed
    if wrong.any():
        first = tuple(int(value) for value in rgb[wrong][0])
        raise UnknownIdError(
            f"{path}: {np.unique(packed[wrong]).size} colours outside the Cityscapes table, "
            f"first {first}; colour labels must be saved without loss or smoothing"
        )
    return train_ids[nearest]


@lru_cache(maxsize=1)
def _color_table() -> tuple[np.ndarray, np.ndarray]:
    """Sorted (n,) int32 packed colours and the (n,) uint8 training id of each."""
    # Where two rows share a colour the first stands: pole, not the pole group that is ignored.
    rows: dict[int, int] = {}
    for _, _, train_id, color in CITYSCAPES_LABELS:
        rows.setdefault(int(_pack(np.array(color, np.uint8))), train_id)
    codes = sorted(rows)
    return np.array(codes, np.int32), np.array([rows[code] for code in codes], np.uint8)


def _pack(rgb: np.ndarray) -> np.ndarray:
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
