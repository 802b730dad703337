"""Images and label images, read strictly: a damaged file raises, it never comes back half grey.

PIL, not OpenCV: OpenCV returns a truncated JPEG without an error, and a palette PNG as colours
instead of ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from runtime import classes
from runtime.classes import CITYSCAPES, ClassSet
from runtime.errors import HedgeError

_ID_MODES = {"L", "P", "1"}


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
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise HedgeError(f"{path}: not a readable label image: {error}") from error


def label_lookup(path: Path, class_set: ClassSet) -> np.ndarray:
    """The id table of one label file: Cityscapes label ids where its name says so, else train ids.

    The official names end in ``_labelIds``; everything else holds training ids already.
    """
    if class_set == CITYSCAPES and path.stem.endswith("_labelIds"):
        return classes.cityscapes_lookup()
    return classes.identity_lookup(class_set)


def read_label(path: Path, class_set: ClassSet) -> np.ndarray:
    """(H, W) uint8 training ids (IGNORE = 255) of a label file."""
    return classes.apply_lookup(read_ids(path), label_lookup(path, class_set), path)
