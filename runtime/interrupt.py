"""Ctrl-C and SIGTERM: the first asks a run to finish, the second ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(wakes: Sequence[Callable[[], None]]) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, once; the second one interrupts as usual.

    wakes: called with it, for sources that may be waiting for a frame that never comes.
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()
        # Not in the handler: the main thread may hold the lock that waking takes.
        for wake in wakes:
            threading.Thread(target=wake, name="wake", daemon=True).start()

    with handling(handle):
        yield stop


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let ``handler`` take SIGINT and SIGTERM meanwhile; in the main thread only.

    Python lets no other thread set handlers, and a notebook's server keeps its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
