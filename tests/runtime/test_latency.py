"""Calls that are timed side by side take turns, and leave nothing behind for each other."""

from __future__ import annotations

import time
from functools import partial

from runtime.latency import Interleaved, settled_ms


def test_every_call_is_timed_once_a_round_in_changing_order() -> None:
    order: list[str] = []

    def call(name: str, item: float) -> float:
        order.append(name)
        return item

    timed = Interleaved[float]({name: partial(call, name) for name in "abc"})
    for number in range(20):
        timed.round(float(number))
    assert timed.rounds == 20
    assert timed.samples == {name: [float(n) for n in range(20)] for name in "abc"}
    assert timed.medians() == dict.fromkeys("abc", 9.5)
    rounds = ["".join(order[n : n + 3]) for n in range(0, 60, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"} and len(set(rounds)) > 3


def test_a_call_that_has_nothing_more_to_tell_takes_no_further_part() -> None:
    timed = Interleaved[int]({"a": float, "b": lambda n: float(n) if n < 2 else None})
    for number in range(4):
        timed.round(number, leave_out=("a",) if number == 1 else ())
    assert timed.samples == {"a": [0, 2, 3], "b": [0, 1]}
    assert list(timed.calls) == ["a"]


def test_a_call_is_timed_undisturbed_by_the_one_before() -> None:
    last = ""

    def call(name: str) -> None:
        """Fast on its second call in a row; the first suffers from the other one."""
        nonlocal last
        time.sleep(0.001 if last == name else 0.3)
        last = name

    def measured(name: str, _: int) -> float:
        return settled_ms(partial(call, name))

    timed = Interleaved[int]({name: partial(measured, name) for name in "ab"})
    for number in range(5):
        timed.round(number)
    assert all(ms < 300 for ms in timed.medians().values())
