"""A line of the endurance table, and what a process holds: memory, open files, threads."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_FILES = Path("/proc/self/fd")
_THREADS = {"capture", "read", "infer", "wake"}
_GONE_S = 8.0


@dataclass(frozen=True)
class Check:
    """What was found, in words, and whether it is within its bound (None: could not be tried)."""

    name: str
    bound: str
    found: str
    passed: bool | None


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """How many file descriptors this process has; 0 where the system does not tell."""
    return len(list(_FILES.iterdir())) if _FILES.exists() else 0


def left_open(before: int) -> str:
    """What a closed source still holds, in words; ``before``: ``open_files()`` of the start.

    FFmpeg may take its timeouts to let go, so this waits some seconds.
    """
    deadline = time.monotonic() + _GONE_S
    while True:
        threads = sorted(_THREADS & {thread.name for thread in threading.enumerate()})
        more = max(0, open_files() - before)
        if not threads and not more:
            return ""
        if time.monotonic() > deadline:
            return f"threads {threads}, {more} descriptors"
        time.sleep(0.05)
