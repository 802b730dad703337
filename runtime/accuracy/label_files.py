"""Label images: one id or one class colour a pixel, as training ids.

Ids are the numbers that are stored, with 1 to 16 bits, gray or palette; colours must be exactly
those of the class list. What was saved with loss holds neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from msgspec import structs
from PIL import Image

from runtime.bundle import classes
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, IGNORE, ClassSet, UnknownIdError
from runtime.errors import HedgeError
from runtime.images import opened, orientation, raw_mode, upright, white_is_zero

LABEL_SUFFIXES = {".bmp", ".png", ".tif", ".tiff"}
_WITHOUT_LOSS = {"BMP", "PNG", "TIFF"}
_COLORS = {"RGB", "RGBA"}
_SPREAD = {"L;2": 85, "L;4": 17}  # PIL spreads the values of few bits over 0..255
_SAMPLED = 10


def read_label(path: Path, class_set: ClassSet) -> np.ndarray:
    """(H, W) uint8 training ids (IGNORE = 255) of a label file, by ids or by colours.

    Turned by an orientation of its own only; its image's is applied to the image. HedgeError names
    a file that is neither, UnknownIdError one with ids or colours outside the class list.
    """
    with opened(path, "label image") as image:
        if image.mode in _COLORS or path.stem.endswith("_color"):
            return _from_colors(path, image, class_set)
        ids, table = _ids(path, image), label_lookup(path, class_set)
        if image.mode == "P":
            _check_palette(path, image, np.unique(ids), table, class_set)
    return classes.apply_lookup(ids, table, path)


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8 ids of a label image; a colour image is refused, its ids would be invented."""
    with opened(path, "label image") as image:
        return _ids(path, image)


def label_files(paths: Iterable[Path]) -> list[Path]:
    """The files among ``paths`` that can hold labels (a lossless format), sorted."""
    return sorted(p for p in paths if p.suffix.lower() in LABEL_SUFFIXES and p.is_file())


def label_lookup(path: Path, class_set: ClassSet) -> np.ndarray:
    """The id table of a label file.

    Labels of Cityscapes come in two numberings. The official names say which (``_labelIds``,
    ``_labelTrainIds``); under any other name the file's folder is asked once, as a whole: a single
    label of few classes could be read either way.
    """
    if path.stem.endswith(("_labelTrainIds", "_labelcsTrainIds")):
        return structs.replace(class_set, ids=(), ignored=()).lookup()
    if class_set != CITYSCAPES:
        return class_set.lookup()
    if path.stem.endswith("_labelIds") or _holds_label_ids(path.parent):
        return classes.cityscapes_lookup()
    return class_set.lookup()


@lru_cache(maxsize=4096)
def _holds_label_ids(folder: Path) -> bool:
    """Whether any of about ten labels, evenly spaced over ``folder``, has an id no class has."""
    found = label_files(folder.iterdir())
    for path in found[:: -(-len(found) // _SAMPLED) or 1]:
        with suppress(HedgeError):  # a colour image or a damaged file is no evidence
            ids = read_ids(path)
            if ((ids >= len(CITYSCAPES)) & (ids < len(CITYSCAPES_LABELS))).any():
                return True
    return False


def _ids(path: Path, image: Image.Image) -> np.ndarray:
    _check_stored(path, image)
    if image.mode not in {"1", "L", "P", "I", "I;16", "I;16B"}:
        raise HedgeError(f"{path}: labels must hold one 8-bit id a pixel, not {image.mode}")
    spread, turn = _SPREAD.get(raw_mode(image), 1), orientation(image)
    values = np.asarray(upright(image, turn))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > IGNORE:
        raise HedgeError(
            f"{path}: labels must hold one 8-bit id a pixel, not {low}..{high}; are these the "
            "ids of instances?"
        )
    return (values // spread if spread > 1 else values).astype(np.uint8)


def _check_stored(path: Path, image: Image.Image) -> None:
    if image.format not in _WITHOUT_LOSS:
        raise HedgeError(f"{path}: labels must be saved without loss, as PNG, not {image.format}")
    if white_is_zero(image):
        raise HedgeError(f"{path}: stores white as 0, which leaves open what its ids are; use PNG")


def _check_palette(
    path: Path, image: Image.Image, used: np.ndarray, table: np.ndarray, classes: ClassSet
) -> None:
    """Refuse class colours in another order than the ids: a colour mask saved with few colours."""
    stored = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if used.max() >= len(stored) or table[used].min() < 0:
        return  # nothing is shown, or ids are unknown
    shown = [tuple(map(int, color)) for color in stored[used]]
    own = [tuple(map(int, color[::-1])) for color in classes.palette()[table[used]]]
    if shown != own and {(0, 0, 0)} < {(0, 0, 0), *shown} <= {(0, 0, 0), *classes.colors}:
        raise UnknownIdError(
            f"{path}: its palette shows other classes than its ids do; save the ids as gray, or "
            "the colours as RGB"
        )


def _from_colors(path: Path, image: Image.Image, class_set: ClassSet) -> np.ndarray:
    _check_stored(path, image)
    if ";16" in raw_mode(image):
        raise HedgeError(f"{path}: colours of 16 bits; save the label with 8 bits a channel")
    pixels = np.asarray(upright(image.convert("RGB"), orientation(image)))
    codes, train_ids = _color_table(class_set)
    packed = _pack(pixels)
    nearest = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    wrong = codes[nearest] != packed
    if wrong.any():
        first = tuple(int(value) for value in pixels[wrong][0])
        raise UnknownIdError(
            f"{path}: {np.unique(packed[wrong]).size} colours outside the class list, first "
            f"{first}; colour labels must be saved without loss or smoothing, ids as gray"
        )
    return train_ids[nearest]


@lru_cache(maxsize=8)
def _color_table(class_set: ClassSet) -> tuple[np.ndarray, np.ndarray]:
    """Sorted (n,) int32 packed colours and the (n,) uint8 training id of each."""
    # Where two rows share a colour the first stands: pole, not the pole group that is ignored.
    known = [(color, i) for i, color in enumerate(class_set.colors)]
    if class_set == CITYSCAPES:
        known = [(color, train_id) for _, _, train_id, color in CITYSCAPES_LABELS]
    elif len(set(class_set.colors)) < len(class_set):
        raise UnknownIdError("two classes share a colour, so that colour labels cannot be read")
    rows: dict[int, int] = {}
    for color, train_id in (*known, ((0, 0, 0), IGNORE)):
        rows.setdefault(int(_pack(np.array(color, np.uint8))), train_id)
    codes = sorted(rows)
    return np.array(codes, np.int32), np.array([rows[code] for code in codes], np.uint8)


def _pack(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
