"""Files that are either whole or not there, hashes of them, and the newest of a kind."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.errors import HedgeError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed onto it.

    A crash, a full disk or Ctrl-C in between leaves the previous content of ``path`` untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically, making its folder where needed."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """Hex SHA-256 of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def printable(name: str) -> str:
    """``name`` for terminals and JSON: bytes that are no text, and control codes, as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def newest(root: Path, marker: str, hint: str) -> Path:
    """The folder under ``root`` whose file ``marker`` is newest; ``hint`` says how to make one."""
    found = sorted(root.glob(f"*/{marker}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise HedgeError(f"{root}: no {marker} in any folder here; {hint}")
    return found[-1].parent


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def safe_json(value: object) -> bytes:
    """``value`` as JSON in which no name can be taken for HTML."""
    return msgspec.json.encode(value).replace(b"<", b"\\u003c")
