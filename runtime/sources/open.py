"""Any source of images by its name: a file, a folder, a glob, a camera, an address, a pipe."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES, is_image
from runtime.sources.address import Address
from runtime.sources.base import Source
from runtime.sources.hardware.decoder import Decode
from runtime.sources.image_files import ImageSource, open_image
from runtime.sources.network import open_address
from runtime.sources.paced import PacedSource
from runtime.sources.stdin import PipeSource
from runtime.sources.video_file import open_video
from runtime.web.client import Access
from runtime.web.hidden import redacted

PIPE = "-"  # standard input, as everywhere
_NUMBERED = re.compile(r"%0?\d*d")  # as FFmpeg and OpenCV name a sequence of pictures


def open_source(
    source: str,
    realtime: bool = False,
    raw_size: tuple[int, int] | None = None,
    access: Access | None = None,
    decode: Decode = "cpu",
) -> Source:
    """Open a video file, an image folder, one image, a glob, a camera, an address or a pipe.

    realtime: play files at their own rate, newest frame first, as a camera would; raw_size:
    (height, width) of the uint8 BGR frames on standard input, which is called ``-``; access: the
    password of an address, and what it may do beyond checked certificates and its own host; decode:
    what decodes videos, "auto" for hardware where some gives the CPU's pixels. Raises HedgeError,
    in one line with the file, the cause and what to do, for anything else.
    """
    if source == PIPE:
        return PipeSource(raw_size)
    address = Address.parse(source, access)
    opened = _open_files(source, decode) if address is None else open_address(address, decode)
    return PacedSource(opened) if realtime and not opened.live else opened


def _open_files(source: str, decode: Decode) -> Source:
    path = Path(source)
    if path.is_dir():
        return ImageSource(source, _images_in(path))
    if path.is_file():
        return open_image(path, source) if is_image(path) else open_video(path, decode)
    if path.exists():
        raise HedgeError(f"{source}: neither a file nor a folder; give a video or images")
    if glob.has_magic(source):
        return _open_glob(source, decode)
    if _NUMBERED.search(path.name):
        star = redacted(str(path.with_name(_NUMBERED.sub("*", path.name))))
        raise HedgeError(
            f"{redacted(source)}: numbered files are named by a star here: '{star}', in quotes"
        )
    raise HedgeError(f"{redacted(source)}: no such file or folder; check the path")


def _open_glob(pattern: str, decode: Decode) -> Source:
    # pathlib's own glob takes no absolute pattern.
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    chosen = _images(found)
    if chosen:
        return ImageSource(pattern, chosen)
    if len(found) == 1 and found[0].is_file():
        return open_video(found[0], decode)
    if not found:
        raise HedgeError(f"{pattern}: the pattern matches nothing; quote it and check the path")
    raise HedgeError(
        f"{pattern}: the pattern matches {len(found)} paths, no image among them; give videos one "
        "by one, or all to hedge fleet"
    )


def _images_in(folder: Path) -> list[Path]:
    found = _images(list(folder.iterdir()))
    if not found:
        raise HedgeError(
            f"{folder}: no images in this folder ({', '.join(sorted(IMAGE_SUFFIXES))}); "
            f"for folders inside it give a quoted pattern such as '{folder}/**/*.png'"
        )
    return found


def _images(paths: list[Path]) -> list[Path]:
    """The image files among ``paths`` in natural order (``f2`` before ``f10``)."""
    chosen = (p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted((p for p in chosen if not p.name.startswith(".")), key=_natural)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"([0-9]+)", str(path))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
