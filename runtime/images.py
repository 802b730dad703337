"""Images and label images, read strictly: a damaged file raises, it never comes back half grey.

PIL, not OpenCV: OpenCV returns a truncated JPEG without an error, and a palette PNG as colours
instead of ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.bundle import classes
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, ClassSet
from runtime.errors import HedgeError

_ID_MODES = {"L", "P", "1"}
_LABEL_SUFFIXES = {".bmp", ".png", ".tif", ".tiff"}
_SAMPLED = 10


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file; HedgeError names a file that does not decode whole."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HedgeError(f"{path}: not a readable image: {error}") from error


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8 ids of a label image; a colour image is refused, its ids would be invented."""
    try:
        with Image.open(path) as image:
            if image.mode not in _ID_MODES:
                raise HedgeError(f"{path}: labels must hold one 8-bit id a pixel, not {image.mode}")
            return np.asarray(image, dtype=np.uint8)
    except HedgeError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HedgeError(f"{path}: not a readable label image: {error}") from error


def label_files(paths: Iterable[Path]) -> list[Path]:
    """The files among ``paths`` that can hold labels (a lossless format), sorted."""
    return sorted(p for p in paths if p.suffix.lower() in _LABEL_SUFFIXES and p.is_file())


def label_lookup(path: Path, class_set: ClassSet) -> np.ndarray:
    """The id table of a label file.

    Only Cityscapes labels come in two numberings. The official names say which (``_labelIds``,
    ``_labelTrainIds``); under any other name the file's folder is asked once, as a whole: a single
    label of few classes could be read either way.
    """
    if class_set != CITYSCAPES or path.stem.endswith("_labelTrainIds"):
        return classes.identity_lookup(class_set)
    if path.stem.endswith("_labelIds") or _holds_label_ids(path.parent):
        return classes.cityscapes_lookup()
    return classes.identity_lookup(class_set)


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


def read_label(path: Path, class_set: ClassSet) -> np.ndarray:
    """(H, W) uint8 training ids (IGNORE = 255) of a label file."""
    return classes.apply_lookup(read_ids(path), label_lookup(path, class_set), path)


IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
