"""``benchmarks.cells.worker`` with faults planted by the bundle's name: run as a script, by
tests."""

from __future__ import annotations

import os
import signal
import sys
import time

from benchmarks.cells import engine
from benchmarks.cells.worker import Spec, answers_only, from_json, main
from runtime.errors import HedgeError


class Faulty(engine.EngineCell):
    """It dies as it starts, or in its third round it dies or hangs, as the bundle is called."""

    def warm_up(self) -> None:
        if self._spec.bundle.name == "stillborn":
            raise HedgeError("not to be started")
        super().warm_up()

    def measure(self, number: int) -> float:
        if number == 2 and self._spec.bundle.name == "crash":
            print("segmentation fault ahead", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 2 and self._spec.bundle.name == "hang":
            time.sleep(600)
        print("a library's noise on standard output", flush=True)
        os.write(1, b"{not an answer}\n")
        return super().measure(number)


if __name__ == "__main__":
    engine.EngineCell = Faulty  # type: ignore[misc]
    main(from_json(sys.argv[1], Spec), answers_only())
