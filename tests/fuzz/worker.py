"""A process that judges inputs one after another, and what is found where it does not answer."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from runtime.errors import HedgeError

Outcome = Literal["taken", "refused", "traceback", "wrong", "hang", "crash", "memory"]
FINDINGS: tuple[Outcome, ...] = ("traceback", "wrong", "hang", "crash", "memory")
HANG_S = 30.0
MEMORY = 2 << 30  # bytes
_START_S = 300.0  # the first answer to a whole input, which imports the libraries
_HARD = 4  # times the memory at which the system refuses more

# What is understood of a file, as a text; HedgeError where it is refused.
Judge = Callable[[Path], str]


class WrongAnswer(Exception):
    """An input was taken for something that it does not say."""


@dataclass(frozen=True)
class Verdict:
    """outcome: one of FINDINGS is a fault; peak: bytes of memory while the input was judged."""

    outcome: Outcome
    detail: str
    seconds: float
    peak: int


class Worker:
    """A child process, started anew whenever it dies or has to be ended; a context manager.

    folder: for its log and whatever it leaves behind; prepare: what the process does before the
    first input, such as imports, which are nobody's time.
    """

    def __init__(
        self,
        folder: Path,
        hang_s: float = HANG_S,
        memory: int = MEMORY,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._folder, self._hang_s, self._memory = folder, hang_s, memory
        self._prepare = prepare
        self._log = folder / "worker.log"
        self._start()

    def judge(self, judge: Judge, path: Path, like: Path | None = None) -> Verdict:
        """Try ``path``; like: a file that it must be understood as, unless it is refused.

        A file that is judged for its likeness is tried itself first, in its own time.
        """
        if like is not None and (judge, like) not in self._known:
            known = self._ask(judge, like, None, _START_S)
            if known.outcome != "taken":
                raise AssertionError(f"{like}, which is whole, is not taken: {known}")
            self._known.add((judge, like))
        verdict = self._ask(judge, path, like, self._hang_s)
        if verdict.peak > self._memory and verdict.outcome not in ("hang", "crash"):
            return Verdict("memory", verdict.detail, verdict.seconds, verdict.peak)
        return verdict

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        context = get_context("spawn")
        self._known: set[tuple[Judge, Path]] = set()
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._folder, _HARD * self._memory, self._prepare)
        # No daemon, for a training starts processes of its own. It ends when the pipe is closed.
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()
        assert self._connection.poll(_START_S), "the worker does not start"
        self._connection.recv()

    def _ask(self, judge: Judge, path: Path, like: Path | None, limit_s: float) -> Verdict:
        start = time.monotonic()
        self._connection.send((judge, path, like))
        outcome: Outcome = "crash"
        try:
            if self._connection.poll(limit_s):
                return self._connection.recv()
            outcome = "hang"
            os.kill(self._process.pid or 0, signal.SIGABRT)  # writes where it hangs into the log
        except (EOFError, ConnectionError):
            pass
        self._process.join(10)
        code = self._process.exitcode
        self.close()
        where = " < ".join(re.findall(r"File \S+, line \d+ in \w+", self._log.read_text())[:3])
        self._start()
        return Verdict(outcome, f"exit code {code}; {where}", time.monotonic() - start, 0)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(
    connection: Connection, folder: Path, hard: int, prepare: Callable[[], None] | None
) -> None:
    """Answer until the other end is closed."""
    with (folder / "worker.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable()
    tempfile.tempdir = str(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    whole: dict[tuple[Judge, Path], str] = {}
    if prepare:
        prepare()
    connection.send("ready")
    while True:
        try:
            judge, path, like = connection.recv()
        except EOFError:
            return
        if like is not None and (judge, like) not in whole:
            whole[judge, like] = judge(like)
        connection.send(_verdict(judge, path, whole.get((judge, like))))


def _verdict(judge: Judge, path: Path, wanted: str | None) -> Verdict:
    start = time.monotonic()
    _forget_peak()
    outcome, detail = _outcome(judge, path, wanted)
    return Verdict(outcome, detail, time.monotonic() - start, _peak())


def _outcome(judge: Judge, path: Path, wanted: str | None) -> tuple[Outcome, str]:
    try:
        answer = judge(path)
    except HedgeError as error:
        return "refused", str(error)[:300]
    except WrongAnswer as error:
        return "wrong", str(error)[:300]
    except MemoryError:
        return "memory", "MemoryError"
    except Exception as error:
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.line]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in places[:-4:-1])
        return "traceback", f"{type(error).__name__}: {str(error)[-300:]} ({where})"
    if wanted is not None and answer != wanted:
        return "wrong", f"{answer[:120]} instead of {wanted[:120]}"
    return "taken", answer[:120]


def _forget_peak() -> None:
    with Path("/proc/self/clear_refs").open("w") as file:
        file.write("5")


def _peak() -> int:
    """Bytes of resident memory at most since ``_forget_peak``."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found, sys.platform
    return 1024 * int(found[1])


def digest(*parts: bytes | str) -> str:
    """A short text that differs where ``parts`` do."""
    joined = hashlib.sha256()
    for part in parts:
        joined.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return joined.hexdigest()[:16]
