"""Where videos and bundles lie: paths of this machine, or addresses that fsspec opens."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import av
import fsspec

from runtime import files
from runtime.bundle.manifest import FILE_NAME, Manifest
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError, one_line
from runtime.sources.video_file import CONTAINERS, open_container
from runtime.web.hidden import redacted

_ENDS = 1 << 20  # bytes at either end of a video that its fingerprint is of


def is_address(place: str) -> bool:
    """Whether fsspec opens it, as s3://bucket/drive.mp4."""
    return "://" in place


def find_videos(patterns: Sequence[str]) -> list[str]:
    """The files that the patterns match, each once, in order; HedgeError for a vain pattern."""
    found: dict[str, None] = {}
    for pattern in patterns:
        if is_address(pattern):
            matches = _matches(pattern)
        else:
            own = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207
            matches = [str(Path(name).absolute()) for name in own if Path(name).is_file()]
        if not matches:
            raise HedgeError(f"{pattern}: matches no file; quote the pattern and check the path")
        found |= dict.fromkeys(sorted(matches))
    return list(found)


def _matches(address: str) -> list[str]:
    try:
        system, path = fsspec.core.url_to_fs(address)
        names = system.glob(path) if glob.has_magic(path) else [path]
        return [system.unstrip_protocol(name) for name in names]
    except Exception as error:  # each file system has its own; one that is not installed says so
        raise HedgeError(f"{redacted(address)}: cannot be opened ({one_line(error)})") from error


def open_place(video: str) -> av.container.InputContainer:
    """The streams of a video; HedgeError where it is none or cannot be reached."""
    if not is_address(video):
        return open_container(Path(video))
    options = {"format_whitelist": CONTAINERS}
    try:
        return av.open(_opened(video), container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        shown = redacted(video)
        raise HedgeError(f"{shown}: not a readable video ({error.strerror})") from error


def fingerprint(video: str) -> str:
    """Hex SHA-256 of a video's size and both its ends: a thousand hours are not read for it."""
    with _opened(video) if is_address(video) else Path(video).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.sha256(f"{size} ".encode() + file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()


def local_bundle(bundle: str | None) -> Path:
    """The bundle's folder here; one behind an address is copied to the user's cache once.

    None: the newest bundle, else the shipped model.
    """
    if bundle is None or not is_address(bundle):
        return find_bundle(None if bundle is None else Path(bundle))
    try:
        system, root = fsspec.core.url_to_fs(bundle)
        key = files.sha256_of(system.cat_file(f"{root}/{FILE_NAME}"))
    except Exception as error:  # each file system has its own
        raise HedgeError(
            f"{redacted(bundle)}: no {FILE_NAME} can be read there ({one_line(error)})"
        ) from error
    target = files.user_cache() / "bundles" / key
    if not (target / FILE_NAME).is_file():
        with files.temporary_folder(target) as folder:
            system.get(f"{root}/", f"{folder}/copy/", recursive=True)
            Manifest.load(folder / "copy")  # a copy that broke off is not kept
            if not target.exists():
                files.replace_folder(folder / "copy", target)
    return target


def label_folder(labels: Path, video: str) -> Path:
    """Where the labels of a video's frames are, if there are any."""
    return labels / Path(video).stem


def labelled(labels: Path, video: str) -> str:
    """Hex SHA-256 of the names, sizes and times of change of a video's labels."""
    folder = label_folder(labels, video)
    found = [(path.relative_to(folder), path.stat()) for path in sorted(folder.rglob("*"))]
    facts = [(str(name), stat.st_size, stat.st_mtime_ns) for name, stat in found]
    return files.sha256_of(repr(facts).encode())


def _opened(address: str) -> BinaryIO:
    try:
        return fsspec.open(address, "rb").open()
    except Exception as error:  # each file system has its own
        raise HedgeError(f"{redacted(address)}: cannot be opened ({one_line(error)})") from error
