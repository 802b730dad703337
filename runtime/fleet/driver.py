"""Who does what: spans to workers, and to others where a worker dies. Knows nothing of Ray."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from runtime.errors import HedgeError, OutputError
from runtime.fleet.plan import Span
from runtime.fleet.shards import SpanRow, row_of

IN_FLIGHT = 2  # spans a worker holds: one it works on, one that begins or ends meanwhile
ATTEMPTS = 3
_UNLUCKY = 9  # machines that may die over a span before it is to blame


@dataclass(frozen=True)
class Answer:
    """A worker's word on a span: its row, or why there is none; code: of the error's kind."""

    worker: str
    span: str
    row: SpanRow | None
    error: str = ""
    code: int = HedgeError.exit_code


@dataclass(frozen=True)
class Lost:
    """A worker that is gone, and why; blameless: with its whole machine, whatever it worked on.

    span: over which, where that is known, and ``why`` is what was wrong with it.
    """

    worker: str
    why: str
    blameless: bool = False
    span: str = ""


class Pool(Protocol):
    """Workers that come and go. Each begins what it was given in the order that it came in."""

    def joined(self) -> Iterable[str]:
        """Workers that are ready and were not before; HedgeError where none can ever be."""

    def leaving(self) -> Iterable[str]:
        """Workers on machines that are about to go, at every look."""

    def give(self, worker: str, span: Span, attempt: int) -> None:
        """Let a worker do a span beside what it was given before."""

    def wait(self, seconds: float) -> Iterable[Answer | Lost]:
        """What has happened, after ``seconds`` at most. One that is lost answers no more."""

    def retire(self, worker: str, why: str) -> None:
        """Let a worker go, and give its machine no other."""

    def machine(self, worker: str) -> str:
        """The name of the machine that a worker is on."""


@dataclass
class Progress:
    """What was done so far, in this run: spans, seconds of video, and what went wrong.

    workers: that are ready; most: of them at once.
    """

    total: int = 0
    done: int = 0
    video_s: float = 0.0
    frames: int = 0
    retries: int = 0
    workers: int = 0
    most: int = 0
    failures: list[SpanRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    started: float = 0.0

    @property
    def speed(self) -> float:
        """Hours of video an hour, since the first worker was ready."""
        return self.video_s / self.seconds if self.started else 0.0

    @property
    def seconds(self) -> float:
        """Since the first worker was ready; 0 before."""
        return max(time.monotonic() - self.started, 1e-9) if self.started else 0.0


@dataclass
class Driver:
    """Hands out spans until each is done or has failed three times.

    What a dead worker held is handed to any live one at once. Where nothing is left to hand out, an
    idle worker takes what another one holds as well: nobody waits for a machine that is slow, or
    silent and not yet known to be dead; the first that writes a span's file has done it. A worker
    that cannot write is let go, and its spans are given to others without a word against them. One
    whose machine is about to go ends what it works on, and is let go without loss. A process that
    dies is blamed on the first span that it held; but it may have begun the second, so that both
    are done alone from then on, and one that kills is found.
    done: whether a span's file is there already, from wherever; told: called after every change;
    look_s: seconds between two looks at who has joined.
    """

    pool: Pool
    done: Callable[[Span], bool]
    told: Callable[[Progress], None] = lambda progress: None
    progress: Progress = field(default_factory=Progress)
    look_s: float = 1.0

    def run(self, spans: Iterable[Span]) -> Progress:
        """Do all; OutputError where no worker can write."""
        self._open = {span.id: span for span in spans}
        self.progress.total = len(self._open)
        self._waiting = deque(self._open.values())
        # Two drivers on one folder begin at two places.
        self._waiting.rotate(random.randrange(len(self._waiting) or 1))
        self._holds: dict[str, deque[str]] = {}  # spans by worker, as they were given
        self._holders: dict[str, set[str]] = {}  # workers by span, the longest out first
        self._attempts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()  # workers that died over a span
        self._failed_on: dict[str, set[str]] = {}
        self._alone: set[str] = set()  # spans that may have killed a process
        self._leaving: set[str] = set()
        looked = -self.look_s
        while self._open:
            if time.monotonic() - looked >= self.look_s:
                looked = time.monotonic()
                for worker in self.pool.joined():
                    self.progress.started = self.progress.started or time.monotonic()
                    self._holds[worker] = deque()
                    self._feed(worker)
                for worker in self.pool.leaving():
                    self._leave(worker)
            self.progress.workers = len(self._holds)
            self.progress.most = max(self.progress.most, len(self._holds))
            self.told(self.progress)
            for event in self.pool.wait(self.look_s):
                self._lost(event) if isinstance(event, Lost) else self._answered(event)
        self.told(self.progress)
        return self.progress

    def _feed(self, worker: str) -> None:
        holds = self._holds[worker]
        if worker in self._leaving:
            if not holds:
                del self._holds[worker]
                self.pool.retire(worker, "its machine leaves")
            return
        while len(holds) < IN_FLIGHT and self._alone.isdisjoint(holds):
            span = self._next(worker) or (None if holds else self._backup(worker))
            if span is None:
                return
            holds.append(span.id)
            self._holders.setdefault(span.id, set()).add(worker)
            self.pool.give(worker, span, self._attempts[span.id] + 1)

    def _next(self, worker: str) -> Span | None:
        """The next that waits; one that failed here is left to a worker on which it did not."""
        passed, found = [], None
        while self._waiting and found is None:
            span = self._waiting.popleft()
            failed = self._failed_on.get(span.id, set())
            if span.id not in self._open:
                continue
            alone = span.id in self._alone and self._holds[worker]
            if alone or (worker in failed and not failed.issuperset(self._holds)):
                passed.append(span)
            elif self.done(span):  # by another driver
                self._finish(span.id)
            else:
                found = span
        self._waiting.extendleft(reversed(passed))
        return found

    def _backup(self, worker: str) -> Span | None:
        """What one other worker holds: what waits behind another, else what has been out longest.

        Work that goes on is doubled on another machine alone: a process that dies here is known at
        once, and two of one machine would share its cores.
        """
        running = {holds[0] for holds in self._holds.values() if holds}
        chosen = None
        for id, holders in self._holders.items():
            passed = id not in self._open or worker in self._failed_on.get(id, ())
            if passed or len(holders) != 1 or worker in holders:
                continue
            if id not in running:
                return self._open[id]
            (holder,) = holders
            if chosen is None and self.pool.machine(holder) != self.pool.machine(worker):
                chosen = self._open[id]
        return chosen

    def _answered(self, answer: Answer) -> None:
        holds = self._holds.get(answer.worker)
        if holds is None or answer.span not in holds:
            return
        holds.remove(answer.span)
        self._holders.get(answer.span, set()).discard(answer.worker)
        if answer.row is not None:
            self._count(answer.row)
        elif answer.code == OutputError.exit_code:
            self._retire(answer)
            return
        elif answer.span in self._open:
            self._failed_on.setdefault(answer.span, set()).add(answer.worker)
            self._fail(answer.span, answer.error)
            self._feed_all()
        self._feed(answer.worker)

    def _lost(self, lost: Lost) -> None:
        holds = self._holds.pop(lost.worker, None)
        if not holds:
            return
        self.progress.warnings.append(f"{lost.worker}: {lost.why}")
        if len(holds) > 1 and not lost.blameless and not lost.span:
            self._alone.update(holds)
        blamed = lost.span or holds[0]
        for id in holds:
            self._holders.get(id, set()).discard(lost.worker)
            if id not in self._open:
                continue
            self._losses[id] += id == blamed
            if id == blamed and (not lost.blameless or self._losses[id] > _UNLUCKY):
                self._fail(id, lost.why if lost.span else f"on its worker: {lost.why}")
            elif not self._holders.get(id):
                self._again(id)
        self._feed_all()

    def _retire(self, answer: Answer) -> None:
        holds = self._holds.pop(answer.worker)
        for id in (answer.span, *holds):
            self._holders.get(id, set()).discard(answer.worker)
            if id in self._open and not self._holders.get(id):
                self._again(id)
        self.pool.retire(answer.worker, answer.error)
        self.progress.warnings.append(f"{answer.worker} is let go: {answer.error}")
        if not self._holds:
            raise OutputError(answer.error)
        self._feed_all()

    def _leave(self, worker: str) -> None:
        """Let a worker end what it works on; what waits behind that is for the others."""
        holds = self._holds.get(worker)
        if holds is None or worker in self._leaving:
            return
        self._leaving.add(worker)
        while len(holds) > 1:
            id = holds.pop()
            self._holders.get(id, set()).discard(worker)
            if id in self._open and not self._holders.get(id):
                self._waiting.appendleft(self._open[id])
        self._feed_all()

    def _feed_all(self) -> None:
        for worker in list(self._holds):
            self._feed(worker)

    def _fail(self, id: str, why: str) -> None:
        self._attempts[id] += 1
        if self._attempts[id] < ATTEMPTS:
            if not self._holders.get(id):
                self._again(id)
            return
        row = row_of(self._open[id], ATTEMPTS)
        row.error = why
        self.progress.failures.append(row)
        self._finish(id)

    def _again(self, id: str) -> None:
        self.progress.retries += 1
        self._holders.pop(id, None)
        self._waiting.appendleft(self._open[id])

    def _count(self, row: SpanRow) -> None:
        if row.id not in self._open:
            return
        self.progress.video_s += self._open[row.id].seconds
        self.progress.frames += row.frames
        self._finish(row.id)

    def _finish(self, id: str) -> None:
        del self._open[id]
        self._holders.pop(id, None)
        self.progress.done += 1
