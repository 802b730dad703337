"""Judges with faults in them, each for one detector; they run in a worker."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from runtime.errors import HedgeError


def right(path: Path) -> str:
    """Takes what is whole, refuses what is marked as damaged."""
    text = path.read_text()
    if "damaged" in text:
        raise HedgeError(f"{path}: damaged")
    return text


def stumbling(path: Path) -> str:
    """Lets an error of a library through."""
    raise KeyError(path.read_text())


def careless(path: Path) -> str:
    """Takes what is damaged."""
    return path.read_text()


def hanging(path: Path) -> str:
    """Never answers."""
    while True:
        time.sleep(1)


def crashing(path: Path) -> str:
    """Ends the process, as native code does that reads past its memory."""
    ctypes.string_at(0)
    return ""


def greedy(path: Path) -> str:
    """Holds 400 MiB for a moment."""
    return str(len(b"\1" * (400 << 20)))


def insatiable(path: Path) -> str:
    """Takes memory until there is no more."""
    held = []
    while True:
        held.append(b"\1" * (64 << 20))
