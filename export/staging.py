"""Folders are built beside their place and moved there when they are done: never half a one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from runtime import files
from runtime.errors import OutputError


@contextmanager
def staged(target: Path, force: bool, mark: str) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; at the end it takes the target's place.

    mark: the file by which a folder of ours is known. On an error the new folder disappears, and
    what was at ``target`` stays. OutputError if ``target`` exists without ``force``, is something
    else than a folder of ours, or is being written by another process.
    """
    files.sweep(target.parent)
    with files.locked(target):
        ours = (target / mark).is_file()
        if target.exists() and not (force and ours):
            no = f"it holds no {mark}: choose another place or name"
            raise OutputError(f"{target}: exists; {'--force replaces it' if ours else no}")
        with files.temporary_folder(target) as folder:
            yield folder
            files.replace_folder(folder, target)


def scratch() -> AbstractContextManager[Path]:
    """A folder for work in progress; what killed exports left of theirs is removed."""
    return files.temporary_folder(Path(tempfile.gettempdir()) / "hedge-export")
