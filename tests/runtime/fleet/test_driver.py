"""Who does what when workers fail, die, fall silent or cannot write."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import pytest

from runtime.errors import OutputError
from runtime.fleet.driver import ATTEMPTS, Answer, Driver, Lost, Progress
from runtime.fleet.plan import Span
from runtime.fleet.run import logged
from runtime.fleet.shards import row_of

Act = Callable[[str, Span, int], Answer | Lost | None]
SPANS = [Span(f"s{number}", "a.mp4", number, number + 1, seconds=60.0) for number in range(12)]


def done(worker: str, span: Span, attempt: int) -> Answer:
    return Answer(worker, span.id, row_of(span, attempt))


def failed(worker: str, span: Span) -> Answer:
    return Answer(worker, span.id, None, "it does not decode")


class Workers:
    """A pool in this process: ``act`` says what comes of each worker's work; None: it is silent."""

    def __init__(self, names: Sequence[str], act: Act) -> None:
        self.new, self.act = list(names), act
        self.queues: dict[str, deque[tuple[Span, int]]] = {}
        self.given: Counter[str] = Counter()
        self.worked: list[tuple[str, str]] = []
        self.retired: list[str] = []
        self.drained: set[str] = set()

    def joined(self) -> list[str]:
        new, self.new = self.new, []
        self.queues |= {name: deque() for name in new}
        return new

    def leaving(self) -> list[str]:
        return [worker for worker in self.queues if worker in self.drained]

    def give(self, worker: str, span: Span, attempt: int) -> None:
        self.queues[worker].append((span, attempt))
        self.given[span.id] += 1
        assert len(self.queues[worker]) <= 2

    def wait(self, seconds: float) -> list[Answer | Lost]:
        events: list[Answer | Lost] = []
        for worker, queue in list(self.queues.items()):
            if not queue:
                continue
            event = self.act(worker, *queue[0])
            if event is not None:
                self.worked.append((worker, queue.popleft()[0].id))
                events.append(event)
            if isinstance(event, Lost):
                del self.queues[worker]
        return events

    def machine(self, worker: str) -> str:
        return worker[0]  # so that "a1" and "a2" are on one

    def retire(self, worker: str, why: str) -> None:
        self.retired.append(worker)
        del self.queues[worker]


def drive(pool: Workers, known: Sequence[str] = ()) -> Progress:
    return Driver(pool, lambda span: span.id in known, look_s=0.0).run(SPANS)


def test_every_span_is_done_once() -> None:
    pool = Workers(["a"], done)
    progress = drive(pool)
    assert pool.given == {span.id: 1 for span in SPANS}
    assert (progress.done, progress.video_s, progress.most) == (12, 12 * 60, 1)
    assert not progress.failures and not progress.retries


def test_a_span_that_fails_is_tried_by_others_and_then_named() -> None:
    pool = Workers("abc", lambda w, s, n: failed(w, s) if s.id == "s3" else done(w, s, n))
    progress = drive(pool)
    ((row),) = progress.failures
    assert (row.id, row.attempts, row.error) == ("s3", ATTEMPTS, "it does not decode")
    assert sorted(worker for worker, span in pool.worked if span == "s3") == ["a", "b", "c"]
    assert progress.done == 12


def test_one_worker_tries_again_by_itself() -> None:
    pool = Workers("a", lambda w, s, n: failed(w, s) if s.id == "s3" and n < 3 else done(w, s, n))
    assert not drive(pool).failures
    assert pool.given["s3"] == 3


def test_a_process_that_dies_is_blamed_on_what_it_worked_on() -> None:
    """Three die over one span; what waited behind it has not failed."""
    deaths: list[str] = []

    def act(worker: str, span: Span, attempt: int) -> Answer | Lost:
        if span.id != "s3":
            return done(worker, span, attempt)
        deaths.append(worker)
        pool.new.append(f"{worker}'")
        return Lost(worker, "its process died")

    pool = Workers(["a", "b"], act)
    progress = drive(pool)
    assert [row.id for row in progress.failures] == ["s3"]
    assert "died" in progress.failures[0].error
    assert (len(deaths), progress.done) == (ATTEMPTS, 12)


@pytest.mark.parametrize("names", ["a", "abc"])
@pytest.mark.parametrize("seed", range(6))
def test_what_kills_as_the_second_is_found_and_the_first_is_done(names: str, seed: int) -> None:
    """A worker begins what it holds, the second before the first is done."""

    def act(worker: str, span: Span, attempt: int) -> Answer | Lost:
        if all(held.id != "s3" for held, _ in pool.queues[worker]):
            return done(worker, span, attempt)
        pool.new.append(f"{worker}'")
        return Lost(worker, "its process died")

    random.seed(seed)  # where the driver begins
    pool = Workers(names, act)
    progress = drive(pool)
    assert [row.id for row in progress.failures] == ["s3"]
    assert progress.done == 12


def test_a_span_that_is_known_to_hang_is_blamed_alone() -> None:
    def act(worker: str, span: Span, attempt: int) -> Answer | Lost:
        if all(held.id != "s3" for held, _ in pool.queues[worker]):
            return done(worker, span, attempt)
        pool.new.append(f"{worker}'")
        return Lost(worker, "nothing came of it", span="s3")

    pool = Workers("ab", act)
    progress = drive(pool)
    assert [(row.id, row.error) for row in progress.failures] == [("s3", "nothing came of it")]
    assert (progress.done, pool.given["s3"]) == (12, ATTEMPTS)


def test_machines_that_go_are_no_failures_of_the_spans() -> None:
    gone: list[str] = []

    def act(worker: str, span: Span, attempt: int) -> Answer | Lost:
        if span.id == "s3" and len(gone) < 6:
            gone.append(worker)
            pool.new.append(f"w{len(gone)}")
            return Lost(worker, "its machine is gone", blameless=True)
        return done(worker, span, attempt)

    pool = Workers(["a"], act)
    progress = drive(pool)
    assert len(gone) == 6 and not progress.failures


def test_nobody_waits_for_a_silent_machine() -> None:
    """What it holds is done by another, although nobody has said that it is dead."""
    pool = Workers(["a", "b"], lambda w, s, n: None if w == "a" else done(w, s, n))
    progress = drive(pool)
    assert progress.done == 12
    assert {worker for worker, _ in pool.worked} == {"b"}


def test_work_that_goes_on_is_not_doubled_on_its_own_machine() -> None:
    waits = iter([False] * 9)

    def act(worker: str, span: Span, attempt: int) -> Answer | None:
        slow = worker == "a1" and not next(waits, True)
        return None if slow else done(worker, span, attempt)

    pool = Workers(["a1", "a2"], act)
    drive(pool)
    (first,) = [span for worker, span in pool.worked if worker == "a1"][:1]
    assert pool.given[first] == 1


def test_what_two_have_done_counts_once() -> None:
    waits = iter([False] * 9)  # the first answers come late, after its spans were taken over

    def act(worker: str, span: Span, attempt: int) -> Answer | None:
        slow = worker == "a" and not next(waits, True)
        return None if slow else done(worker, span, attempt)

    progress = drive(Workers(["a", "b"], act))
    assert (progress.done, progress.video_s) == (12, 12 * 60)


def test_a_worker_that_cannot_write_is_let_go_and_its_spans_are_not_blamed() -> None:
    def act(worker: str, span: Span, attempt: int) -> Answer:
        full = Answer(worker, span.id, None, "no space left", OutputError.exit_code)
        return full if worker == "a" else done(worker, span, attempt)

    pool = Workers(["a", "b"], act)
    progress = drive(pool)
    assert pool.retired == ["a"]
    assert (progress.done, progress.failures) == (12, [])
    assert progress.warnings == ["a is let go: no space left"]
    with pytest.raises(OutputError, match="no space left"):
        drive(Workers(["a"], act))


def test_what_another_driver_did_is_not_handed_out() -> None:
    known = {"s1", "s2", "s11"}
    pool = Workers(["a", "b"], done)
    assert drive(pool, sorted(known)).done == 12
    assert not known & pool.given.keys()


def test_who_joins_later_gets_work() -> None:
    answers: list[str] = []

    def act(worker: str, span: Span, attempt: int) -> Answer:
        answers.append(worker)
        return done(worker, span, attempt)

    class Late(Workers):
        def joined(self) -> list[str]:
            self.new += ["b"] if "b" not in self.queues and len(answers) > 2 else []
            return super().joined()

    pool = Late(["a"], act)
    assert drive(pool).most == 2
    assert {"a", "b"} == set(answers)


def test_who_leaves_ends_what_it_works_on_and_loses_nothing() -> None:
    late = iter([False] * 3)  # "b" works on while its machine is drained

    def act(worker: str, span: Span, attempt: int) -> Answer | None:
        if worker == "b":
            pool.drained.add("b")
            return done(worker, span, attempt) if next(late, True) else None
        return done(worker, span, attempt)

    pool = Workers(["b", "a"], act)
    progress = drive(pool)
    assert pool.retired == ["b"]
    assert [worker for worker, _ in pool.worked].count("b") == 1
    assert (progress.done, progress.retries, progress.warnings) == (12, 0, [])


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    quiet, chatty = logged(3600.0), logged(0.0)
    began = time.monotonic() - 1e6  # so long that some seconds do not count
    now = Progress(total=12, done=5, video_s=300.0, workers=2, retries=1, started=began)
    quiet(now)
    assert capsys.readouterr().err == ""
    chatty(now)
    assert capsys.readouterr().err == "5 of 12 spans, 0.0003 × real time, 2 workers, 1 retry\n"
