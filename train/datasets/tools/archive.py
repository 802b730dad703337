"""A zip file as an export: its content as a key, and its files unpacked into one folder only."""

from __future__ import annotations

import errno
import hashlib
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES
from train.datasets.tools.tree import TEXT_SUFFIXES

_BOMB = 200  # times its own size is more than pictures, labels and text unpack to
_HARMLESS = 1 << 30  # bytes that are unpacked from however small a file
_UTF8 = 0x800
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    ValueError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, by its content."""
    return path.is_file() and zipfile.is_zipfile(path)


def digest(path: Path) -> str:
    """A key of all that a zip holds, by its list of names, sizes and checksums."""
    with _opened(path) as archive:
        rows = [f"{info.filename}\0{info.file_size}\0{info.CRC}" for info in archive.infolist()]
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Write the pictures and texts of a zip under ``folder``, which is empty.

    HedgeError names an entry that leads out of it or is a link, a damaged one, and a zip that
    unpacks to more than the disk holds or to hundreds of times its own size.
    """
    with _opened(path) as archive:
        entries = [(info, _place(path, info)) for info in archive.infolist()]
        kept = [(info, place) for info, place in entries if _is_wanted(place)]
        total = sum(info.file_size for info, _ in kept)
        if total > max(_BOMB * path.stat().st_size, _HARMLESS):
            raise HedgeError(f"{path}: unpacks to {total} bytes, which no pictures do; not opened")
        if total > shutil.disk_usage(folder).free:
            raise HedgeError(
                f"{path}: unpacks to {total / 1e9:.1f} GB, more than is free in {folder.parent}; "
                "make room, or set HEDGE_CACHE to another disk"
            )
        for info, place in kept:
            target = folder / place
            if target.exists():
                raise HedgeError(f"{path}: holds {place} twice; pack it again")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink)  # never more than the size that was summed up


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except HedgeError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the disk's; else a place before the beginning
            raise
        raise HedgeError(f"{path}: a damaged zip; export or load it again") from error
    except _DAMAGE as error:
        raise HedgeError(f"{path}: a damaged zip: {error}; export or load it again") from error
    except RuntimeError as error:  # how zipfile tells that it is encrypted
        raise HedgeError(f"{path}: {error}; unpack it and give the folder") from error


def _place(path: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry belongs, relative to the folder; HedgeError where that is outside."""
    name = info.filename
    if not info.flag_bits & _UTF8:
        try:  # macOS writes UTF-8 and does not say so
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    place = PurePosixPath(name.replace("\\", "/"))
    drive = place.parts and ":" in place.parts[0]
    if place.is_absolute() or ".." in place.parts or drive or "\0" in name:
        raise HedgeError(f"{path}: its entry {info.filename} leads out of it; not opened")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise HedgeError(f"{path}: its entry {info.filename} is a link; pack the file itself")
    return place


def _is_wanted(place: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in place.parts)
    return not hidden and place.suffix.lower() in TEXT_SUFFIXES | IMAGE_SUFFIXES
