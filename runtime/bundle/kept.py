"""What a machine keeps in a bundle for itself: lists in JSON files under ``engines/``.

A file that is damaged or cannot be written only means that the next start finds out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from runtime import files

KEPT = 32  # items in a file
Item = TypeVar("Item")


def read(path: Path, kind: type[Item]) -> list[Item]:
    """The items in ``path``, the newest last; none where there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[kind])  # type: ignore[valid-type]
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return []


def write(path: Path, items: Sequence[object]) -> None:
    """Keep the last ``KEPT`` of ``items``."""
    with suppress(OSError):
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(items[-KEPT:])))
