"""Workers of a fleet in this process."""

from __future__ import annotations

from collections import deque

from runtime.fleet.cluster import Worker
from runtime.fleet.driver import Answer, Lost
from runtime.fleet.plan import Span


class Here:
    """Two workers in this process, of which the second dies over its first part."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        assert worker.hello() == (None, "", 0)
        self.new, self.worked = ["a", "b"], 0
        self.queue: deque[tuple[str, Span, int]] = deque()

    def joined(self) -> list[str]:
        """See ``Pool``."""
        new, self.new = self.new, []
        return new

    def leaving(self) -> list[str]:
        """See ``Pool``."""
        return []

    def give(self, worker: str, span: Span, attempt: int) -> None:
        """See ``Pool``."""
        self.queue.append((worker, span, attempt))

    def wait(self, seconds: float) -> list[Answer | Lost]:
        """See ``Pool``."""
        if not self.queue:
            return []
        worker, span, attempt = self.queue.popleft()
        if worker == "b":
            return [Lost("b", "its process died")]
        self.worked += 1
        row, error, code = self.worker.work(span, attempt)
        return [Answer(worker, span.id, row, error, code)]

    def machine(self, worker: str) -> str:
        """See ``Pool``."""
        return worker

    def retire(self, worker: str, why: str) -> None:
        """See ``Pool``."""
        raise AssertionError(f"{worker}: {why}")
