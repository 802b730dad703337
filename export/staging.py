"""Folders are built beside their place and moved there when they are done: never half a one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import OutputError


@contextmanager
def staged(target: Path, force: bool, mark: str) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; at the end it takes the target's place.

    mark: the file by which a folder of ours is known. On an error the new folder disappears, and
    what was at ``target`` stays. OutputError if ``target`` exists without ``force``, or is
    something else than a folder of ours.
    """
    ours = (target / mark).is_file()
    if target.exists() and not (force and ours):
        fix = "--force replaces it" if ours else f"it holds no {mark}: choose another place or name"
        raise OutputError(f"{target}: exists; {fix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    folder.chmod(0o755)
    try:
        yield folder
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
