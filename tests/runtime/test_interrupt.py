"""The first signal asks, the second ends."""

from __future__ import annotations

import signal
import threading

import pytest

from runtime.interrupt import (
    check_interrupt,
    deferring_interrupt,
    interruptible,
    raising_interrupt,
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    woken = threading.Event()
    before = signal.getsignal(number)
    with interruptible([woken.set]) as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        assert woken.wait(10), "a source that waits is woken"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_no_handler_is_set_outside_the_main_thread() -> None:
    found: list[object] = []

    def run() -> None:
        with interruptible([]) as stop:
            found.extend([signal.getsignal(signal.SIGINT), stop.is_set()])

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before, False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_what_must_be_whole(number: signal.Signals) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), raising_interrupt():
        with deferring_interrupt():
            signal.raise_signal(number)
            steps.append("whole")
        steps.append("after")
    assert steps == ["whole"]
    check_interrupt()  # what was told is not told again, to whoever comes next in this process
