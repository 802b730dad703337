"""Label pictures of tools as layers: a class for each id, or for each colour, that is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.accuracy import label_files
from runtime.bundle.classes import UnknownIdError
from runtime.errors import HedgeError
from runtime.images import opened
from train.datasets.tools.export import Color, Size, require_size

NOWHERE = ""  # no class has this name, so its pixels count nowhere
_WITHOUT_LOSS = {"BMP", "PNG", "TIFF"}


def has_palette(path: Path) -> bool:
    """Whether a label picture stores numbers, in a palette or as gray, rather than colours."""
    with opened(path, "label image", header=True) as image:
        return image.mode not in ("RGB", "RGBA")


def by_id(path: Path, names: Mapping[int, str], size: Size) -> Iterator[tuple[str, np.ndarray]]:
    """The classes of a label picture that holds a number a pixel."""
    ids = label_files.read_ids(path)
    require_size(path.name, (ids.shape[0], ids.shape[1]), size)
    for value in np.unique(ids).tolist():
        if value not in names:
            raise UnknownIdError(f"{path}: holds the id {value}, which no class of the export has")
        yield names[value], ids == value


def by_color(
    path: Path, names: Mapping[Color, str], size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    """The classes of a label picture that holds a colour a pixel, or a palette of them."""
    with opened(path, "label image") as image:
        if image.format not in _WITHOUT_LOSS:
            raise HedgeError(f"{path}: labels must be saved without loss, as PNG")
        pixels = np.asarray(_plain(image)).astype(np.int32)
    require_size(path.name, (pixels.shape[0], pixels.shape[1]), size)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    for code in np.unique(packed).tolist():
        color = (code >> 16, code >> 8 & 255, code & 255)
        if color not in names:
            raise UnknownIdError(f"{path}: holds the colour {color}, which no class has")
        yield names[color], packed == code


def _plain(image: Image.Image) -> Image.Image:
    """The colours that are stored; of a transparent pixel, too."""
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")
