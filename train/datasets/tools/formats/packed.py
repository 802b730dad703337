"""Masks that a JSON file holds as the text of a picture (LabelMe, Supervisely)."""

from __future__ import annotations

import base64
import binascii
import io
import zlib

import numpy as np
from PIL import Image

from runtime.errors import HedgeError

_PNG = b"\x89PNG"
_LARGEST = 64 << 20  # bytes of a packed mask


def unpacked_mask(
    text: str, origin: tuple[int, int], size: tuple[int, int], is_zlib: bool
) -> np.ndarray:
    """(H, W) bool of a PNG in base64 that covers a part of the picture.

    origin: x, y of its upper left pixel; is_zlib: whether the PNG may be packed once more. With
    alpha that is the mask, else all that is not black. HedgeError where it is damaged or reaches
    out of the picture.
    """
    left, top = origin
    try:
        data = base64.b64decode(text, validate=True)
        if is_zlib and not data.startswith(_PNG):
            data = zlib.decompressobj().decompress(data, _LARGEST)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            width, height = image.size
            if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
                raise HedgeError("a mask reaches out of its picture; save it again")
            part = np.asarray(image)
            part = part[..., -1] if part.ndim == 3 and image.mode.endswith("A") else part
    except (binascii.Error, zlib.error, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, HedgeError):
            raise
        raise HedgeError(f"a mask is damaged: {error}; save it again") from error
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = part.any(axis=2) if part.ndim == 3 else part > 0
    return mask
