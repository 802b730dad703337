"""The parent's end of a cell's process: one question at a time, and a clock for each answer."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from benchmarks.cells.worker import Spec, Thing, to_json
from benchmarks.host.machine import peak_mb, used_s
from runtime.cli import module_command
from runtime.interrupt import Closing, deferring_interrupt

COMMAND = tuple(module_command("benchmarks.cells.worker"))
START = 5  # times the patience: libraries load, engines are built
GOODBYE_S = 5.0


class LostError(Exception):
    """A cell's process died, hung or refused; the message is one line that says what happened."""


class Child(Closing):
    """A cell's process, from its start to ``close``; a context manager.

    start_s: seconds from process start to the first labels; computes: see
    ``benchmarks.cells.engine``. Raises LostError, from the start and from each question; the
    process is gone by then.
    """

    def __init__(self, spec: Spec, patience: float) -> None:
        self._patience, self._gone, self._used_s = patience, True, 0.0
        spec.scratch.mkdir(parents=True, exist_ok=True)
        self._noise = spec.scratch / "stderr.txt"
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        start = time.perf_counter()
        try:
            with self._noise.open("wb") as noise, deferring_interrupt():
                self._process = subprocess.Popen(
                    [*COMMAND, to_json(spec).decode()],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise,
                    start_new_session=True,  # Ctrl-C is the parent's, and its end theirs
                )  # fmt: skip
                self._gone = False
            assert self._process.stdout is not None
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
            self.computes = self._answer("start", str, START * patience + spec.longer)
        except BaseException:
            self.close()
            raise
        self.start_s = time.perf_counter() - start

    def ask(self, do: str, kind: type[Thing], longer: float = 0.0, **what: object) -> Thing:
        """The answer to a request, of type ``kind``; longer: seconds that it takes by itself,
        beyond patience."""
        if self._gone:
            raise LostError("its process has ended")
        assert self._process.stdin is not None
        request = msgspec.json.encode({"do": do} | what) + b"\n"
        with suppress(BrokenPipeError):  # how it ended is told below
            self._process.stdin.write(request)
            self._process.stdin.flush()
        return self._answer(do, kind, self._patience + longer)

    def measure(self, number: int) -> float:
        """Milliseconds a frame, in round ``number``."""
        return self.ask("measure", float, number=number)

    def peak_mb(self) -> float | None:
        """Memory that the process held at most; None where the system does not say."""
        return peak_mb(self._process.pid)

    def used_s(self) -> float:
        """CPU seconds so far; of one that is gone, until its last answer."""
        return used_s(self._process.pid) or self._used_s

    def close(self) -> None:
        """End the process and all that it started; harmless when repeated."""
        if self._gone:
            return
        self._gone = True
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)  # a program that it runs as well
            else:
                self._process.kill()
        self._process.wait()

    def _answer(self, to: str, kind: type[Thing], seconds: float) -> Thing:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise LostError(f"no answer to {to!r} for {seconds:g} s; ended") from None
        if not line:
            raise LostError(f"{self._end()} in {to!r}{self._last_words()}")
        self._used_s = used_s(self._process.pid)
        reply = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        if "error" in reply:
            self.close()
            raise LostError(msgspec.json.decode(reply["error"], type=str))
        return msgspec.json.decode(reply["answer"], type=kind)

    def _listen(self, stream: IO[bytes]) -> None:
        """The body of a thread: pipes have no time-outs on every system, queues do."""
        with suppress(ValueError, OSError):  # closed while reading
            for line in stream:
                self._answers.put(line)
        self._answers.put(b"")

    def _end(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GOODBYE_S)
        code = self._process.returncode
        self.close()
        if code is None or code >= 0:
            return f"its process ended with exit code {code or 0}"
        with suppress(ValueError):
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process was killed by signal {-code}"

    def _last_words(self) -> str:
        lines = self._noise.read_text(errors="replace").split("\n")
        words = [" ".join(line.split()) for line in lines if line.strip()]
        return f": {words[-1][:200]}" if words else ""


def run(command: list[str], noise: Path, seconds: float) -> None:
    """A helper process to its end; LostError says why it did not get there."""
    with noise.open("wb") as output:
        try:
            done = subprocess.run(command, stderr=output, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise LostError(f"not done in {seconds:g} s") from None
    if done.returncode:
        lines = noise.read_text(errors="replace").strip().splitlines()
        raise LostError(lines[-1] if lines else f"exit code {done.returncode}")
