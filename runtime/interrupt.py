"""How things end: by Ctrl-C, SIGTERM and a terminal that is closed, and by ``with``."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, TypeVar

_HANGUP: int | None = getattr(signal, "SIGHUP", None)  # the terminal is closed; not on Windows
ENDING = tuple(n for n in (signal.SIGINT, signal.SIGTERM, _HANGUP) if n is not None)

_asked = threading.Event()  # a signal has come whose KeyboardInterrupt nobody may have seen

Own = TypeVar("Own")


class Closing(ABC):
    """A context manager that ``close`` ends."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; harmless when repeated."""

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def raising_interrupt() -> Iterator[None]:
    """Turn what asks to end into KeyboardInterrupt, also where a library swallows the first one.

    A compiler or a callback from C may catch it and go on; ``check_interrupt`` raises it again.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _asked.set()
        raise KeyboardInterrupt

    _asked.clear()
    try:
        with handling(handle):
            yield
            check_interrupt()
    finally:
        _asked.clear()  # told by now; the next one's is another


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if a signal came since the command began; for between two steps."""
    if _asked.is_set():
        _asked.clear()
        raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether ``check_interrupt`` would raise; for callbacks from C, which must not."""
    return _asked.is_set()


@contextmanager
def interruptible(wakes: Sequence[Callable[[], None]]) -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets, once; the second one interrupts as usual.

    wakes: called with it, for sources that may be waiting for a frame that never comes. A signal
    that was swallowed before is raised on entry.
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number != _HANGUP:  # who closes the terminal is in no hurry
            signal.default_int_handler(number, frame)
        stop.set()
        # Not in the handler: the main thread may hold the lock that waking takes.
        for wake in wakes:
            threading.Thread(target=wake, name="wake", daemon=True).start()

    with handling(handle):
        check_interrupt()
        yield stop


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let ``handler`` take SIGINT, SIGTERM and SIGHUP meanwhile; in the main thread only.

    Python lets no other thread set handlers, and a notebook's server keeps its own. A SIGHUP that
    is ignored stays so: nohup asks for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # it comes from the kernel and from the shell
        handler(number, frame)

    before = {}
    for number in ENDING:
        if number != _HANGUP:
            before[number] = signal.signal(number, handler)
        elif signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, once)
    try:
        yield
    finally:
        for number, previous in before.items():
            if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, previous)


@contextmanager
def deferring_interrupt() -> Iterator[None]:
    """Let what asks to end wait for the block's end, where it must not be left half done.

    A process that is started just as KeyboardInterrupt rises is one that nobody knows of.
    """
    came: list[int] = []
    with handling(lambda number, frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])


class _Terminal(io.FileIO):
    """A terminal, as long as it is there: who started a run and left does not end it."""

    def write(self, data: Any) -> int:
        """Write ``data``; to nowhere where the terminal is closed."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return memoryview(data).nbytes


def lasting_streams() -> None:
    """Let no standard stream end a run: by a sign that it lacks, or a terminal that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if _HANGUP and stream.isatty():
            raw = io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False))
            own = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True)
            setattr(sys, name, own)


def end_quietly() -> None:
    """Let Ctrl-C during the imports of ``python -m`` be one line and the code of an interruption.

    Python imports a command's package while ``sys.argv[0]`` is still "-m", before any of the
    command's own code can catch anything.
    """
    if not sys.argv or sys.argv[0] != "-m":
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        print("error: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # Python would end by the signal itself

    sys.excepthook = hook


end_quietly()
