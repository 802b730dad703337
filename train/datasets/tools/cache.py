"""Where converted exports are kept: made once, by whoever comes first, and found by content."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from runtime import files
from runtime.errors import HedgeError, OutputError
from train.datasets.tools import archive
from train.datasets.tools.tree import TEXT_SUFFIXES, Tree

_FORM = b"hedge-folder-5"  # changes with what conversion writes
_WAIT_S = 0.2
_READ = (
    1 << 24
)  # bytes of a text that are read for its key; larger ones hold pictures, or take long


def place_of_archive(path: Path) -> Path:
    """Where the conversion of a zip lies: by all that it holds."""
    key = hashlib.sha256(_FORM + archive.digest(path).encode())
    return _place(path.stem, key.hexdigest())


def place_of_tree(tree: Tree) -> Path:
    """Where the conversion of a folder lies: by its texts' content, its other files' size and time.

    Pictures are linked to, so its path counts, too.
    """
    key = hashlib.sha256(_FORM)
    key.update(os.fsencode(tree.root.resolve()) + os.fsencode(tree.chosen or ""))
    for path in tree.files:
        try:
            status = path.stat()
        except OSError:  # a link to nothing
            continue
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        if path.suffix.lower() in TEXT_SUFFIXES and status.st_size <= _READ:
            stamp = _digest(path, stamp)
        key.update(os.fsencode(path.relative_to(tree.root)) + b"\0" + stamp.encode() + b"\n")
    return _place(tree.root.resolve().name, key.hexdigest())


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold ``place`` for this process, once another one that is filling it has done so.

    HedgeError where the folder of caches cannot be written to.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(files.locked(place))
                break
            except OutputError:
                time.sleep(_WAIT_S)
            except OSError as error:
                raise HedgeError(
                    f"{place.parent}: {error.strerror}; converted data sets are kept there, set "
                    "HEDGE_CACHE to a folder that can be written to"
                ) from error
        yield


def _place(name: str, key: str) -> Path:
    try:
        return files.user_cache() / "datasets" / f"{name[:40]}-{key[:16]}"
    except RuntimeError as error:
        raise HedgeError(f"{error}; converted data sets are kept in HEDGE_CACHE, set it") from error


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, _stamp: str) -> str:
    return files.sha256(path)
