"""The first signal asks, the second ends."""

from __future__ import annotations

import signal
import threading

import pytest

from runtime.interrupt import interruptible


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
