"""Photos with their classes over them: a PNG each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from runtime import files
from runtime.errors import HedgeError
from runtime.outputs.checks import writing
from runtime.outputs.video_file import FORMATS
from runtime.sources.base import Source

SUFFIX = ".png"
_COMPRESSION = 3  # of 0..9: zlib's levels beyond take twice the time for a few percent


class PictureSink:
    """A PNG for each photo: ``place`` itself, or in the folder ``place`` by the photo's name."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def write(self, picture: np.ndarray, name: str) -> None:
        """Write an (H, W, 3) uint8 BGR ``picture``, whole or not at all."""
        path = self.place if is_one(self.place) else self.place / f"{name}{SUFFIX}"
        data = cv2.imencode(SUFFIX, picture, (cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION))[1]
        with writing(path):
            files.write_bytes(path, data.tobytes())


def are_photos(source: Source) -> bool:
    """Whether ``source`` is image files, rather than a recording, a camera or raw frames."""
    return bool(source.files) and not source.timed


def default_place(named: str, source: Source) -> Path:
    """Where photos go that were ``named`` so, in the current folder: a PNG, or a folder of them."""
    path = Path(named)
    if path.is_file():
        return Path(f"{path.stem}-segmented{SUFFIX}")
    name = path.resolve().name if path.is_dir() else ""  # nothing of a pattern
    return Path(f"{name or 'photos'}-segmented")


def is_one(place: Path) -> bool:
    """Whether ``place`` is that of a single picture, rather than a folder."""
    return place.suffix.lower() == SUFFIX and not place.is_dir()


def takes_pictures(place: Path, source: Source) -> bool:
    """Whether ``place`` is for the pictures of photos rather than for a video.

    Raises HedgeError for a name that is for neither.
    """
    if not are_photos(source) or place.suffix.lower() in FORMATS:
        return False
    if is_one(place) and len(source.files) > 1:
        raise HedgeError(
            f"{place}: one picture for {len(source.files)} photos; give the name of a folder, "
            f"or of a video ({', '.join(FORMATS)})"
        )
    if place.suffix and not place.is_dir() and not is_one(place):
        raise HedgeError(
            f"{place}: unknown format; end its name in {SUFFIX} for a photo, in "
            f"{', '.join(FORMATS)} for a video, or give the name of a folder"
        )
    return True
