"""Outputs are refused before any work is done, and what cannot be written is one line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from runtime.errors import HedgeError, OutputError
from runtime.files import STDOUT

Identity = tuple[int, int]  # device and inode


def check_outputs(
    outputs: Iterable[Path], folder: Path | None, inputs: Iterable[Path], force: bool
) -> None:
    """Refuse outputs that cannot or must not be written, before any work is done.

    outputs: files; folder: of one file a frame; inputs: files that are read, and folders whose
    files may all be. Missing parent folders are made; devices and pipes, such as /dev/stdout, are
    written to, and so is standard output ("-"). Raises HedgeError where an output is an input
    (``force`` or not), OutputError where it exists without ``force`` or cannot be written.
    """
    inputs, outputs = list(inputs), list(outputs)
    for path in (*outputs, *([] if folder is None else [folder])):
        _check_name(path)
    roots = {path.resolve() for path in inputs if path.is_dir()}
    read = {_identity(path) for path in inputs}
    read_in = {_identity(path.parent) for path in inputs if not path.is_dir()}
    seen: set[Path] = set()
    for path in outputs:
        if path.resolve() in seen:
            raise HedgeError(f"{path}: two outputs have this name; give each its own")
        seen.add(path.resolve())
        if path == STDOUT:
            continue
        _check_file(path, read, roots, force)
    if folder is not None:
        _check_folder(folder, read_in, roots, force)


def _check_name(path: Path) -> None:
    """A name that comes from a program may be none that a file can have."""
    try:
        if b"\0" not in os.fsencode(path):
            return
    except UnicodeEncodeError:
        pass
    raise HedgeError(f"{str(path)!a}: no file can have this name; choose another")


def _check_file(path: Path, read: set[Identity], roots: set[Path], force: bool) -> None:
    with writing(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if path.exists():
            if _identity(path) in read or not roots.isdisjoint(path.resolve().parents):
                raise HedgeError(f"{path}: is an input as well; write to another file")
            if not force and path.is_file():
                raise OutputError(f"{path}: exists already; pass --force to overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path}: not writable; choose another place or change its permissions")


def _check_folder(folder: Path, read_in: set[Identity], roots: set[Path], force: bool) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        below = not roots.isdisjoint((folder.resolve(), *folder.resolve().parents))
        if _identity(folder) in read_in or (below and any(folder.iterdir())):
            raise HedgeError(f"{folder}: holds inputs; write into another folder")
        if not force and any(folder.iterdir()):
            raise OutputError(f"{folder}: not empty; pass --force to overwrite what is in it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: not writable; choose another place or change its permissions")


def _identity(path: Path) -> Identity:
    """What a file is, whatever it is called: the same through links of either kind."""
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about writing ``path`` into one line.

    Of standard output ("-") it stays what it is: whose reader leaves has no need of a line.
    """
    try:
        yield
    except OSError as error:
        if path == STDOUT:
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except av.FFmpegError as error:  # no fault of the disk
        raise OutputError(
            f"{path}: FFmpeg refuses what it was given ({error.strerror}); what came before is "
            "in the file; this is a fault of hedge's, so report it with the kind of source"
        ) from error
