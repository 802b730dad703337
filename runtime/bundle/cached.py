"""What a machine makes of bundles and finds again at its next start, in the user's cache.

The cache is the user's own: a bundle may be anybody's, and what lies in its folder as well. A file
that is missing, damaged or cannot be written only means that it is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from runtime import files

_KEEPS = ContextVar("_KEEPS", default=True)


@contextmanager
def nothing_kept() -> Iterator[None]:
    """For bundles that are tried and thrown away: they would push out those that start again."""
    before = _KEEPS.set(False)
    try:
        yield
    finally:
        _KEEPS.reset(before)


@dataclass(frozen=True)
class Cached:
    """The latest ``most`` files of a ``kind``, which names their folder, each under its own key.

    A key's ``repr`` says all that the file depends on.
    """

    kind: str
    most: int

    @property
    def folder(self) -> Path:
        """Where they lie; RuntimeError for a user without a home."""
        return files.user_cache() / self.kind

    def read(self, key: object) -> bytes:
        """What was written under ``key``; nothing where that is unknown or damaged."""
        with suppress(OSError, RuntimeError):
            path = self._path(key)
            data = files.read_sealed(path)
            with suppress(OSError):
                path.touch()  # the oldest go first
            return data
        return b""

    def write(self, key: object, data: bytes) -> None:
        """Keep ``data`` for ``read``, in place of the file that was not asked for longest."""
        if not self.keeps:
            return
        with suppress(OSError, RuntimeError):
            files.save_sealed(self._path(key), data)
            for old in sorted(self.folder.iterdir(), key=_age)[self.most :]:
                old.unlink(missing_ok=True)

    @property
    def keeps(self) -> bool:
        """Whether ``write`` writes: not inside ``nothing_kept``."""
        return _KEEPS.get()

    def _path(self, key: object) -> Path:
        return self.folder / files.sha256_of(repr(key).encode())


def _age(path: Path) -> float:
    return -path.stat().st_mtime
