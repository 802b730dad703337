"""The first signal asks, the second ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from runtime.interrupt import (
    check_interrupt,
    deferring_interrupt,
    interruptible,
    lasting_streams,
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


@pytest.fixture
def hangup() -> Iterator[signal.Signals]:
    """SIGHUP, whose handler is the system's again afterwards."""
    if sys.platform == "win32":
        pytest.skip("no terminal there says that it is closed")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_asks_once_however_often_it_says_so(hangup: signal.Signals) -> None:
    """The kernel says it to the run, and so does the shell that it was started from."""
    with raising_interrupt():
        with interruptible([]) as stop:
            signal.raise_signal(hangup)
            assert stop.is_set()
            signal.raise_signal(hangup)
        signal.raise_signal(hangup)  # as the report is being written


def test_nohup_keeps_a_closed_terminal_away(hangup: signal.Signals) -> None:
    signal.signal(hangup, signal.SIG_IGN)
    with raising_interrupt(), interruptible([]) as stop:
        signal.raise_signal(hangup)
        assert not stop.is_set()


def test_what_is_written_to_a_closed_terminal_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, hangup: signal.Signals
) -> None:
    """A run that was started in the background goes on where its terminal is closed."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        lasting_streams()
        print("somebody reads")
        assert os.read(master, 100) == b"somebody reads\r\n"
        os.close(master)
        with pytest.raises(OSError):
            os.write(slave, b"nobody does")
        print("nobody does", flush=True)
