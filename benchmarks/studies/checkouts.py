"""Engines of several checkouts in turn, each with a bundle of its own: before and after a change.

``python -m benchmarks.studies.checkouts ROUNDS FRAMES NAME=CHECKOUT=BUNDLE[=BACKEND]...``

Each is ``Segmenter`` in BACKEND (openvino), on two threads, in a process of its own that runs the
code of its checkout, and answers FRAMES frames of noise of the bundle's size a round. Ratios are of
the first to each, by the rounds' medians, so that a machine whose speed drifts treats all alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from runtime.latency import Interleaved

# What each process runs: it may only use what every version has.
ANSWERING = """
import sys, time
from pathlib import Path
import numpy as np
from runtime.segment import Segmenter

segmenter = Segmenter(Path(sys.argv[1]), backend=sys.argv[2], threads=2)
random = np.random.default_rng(0)
shape = segmenter.manifest.input.shape[1:]
frames = [random.integers(0, 256, shape, np.uint8) for _ in range(4)]
for frame in frames:
    segmenter(frame)
print("ready", flush=True)
for line in sys.stdin:
    times = []
    for number in range(int(line)):
        start = time.perf_counter()
        segmenter(frames[number % 4])
        times.append(1e3 * (time.perf_counter() - start))
    print(times, flush=True)
"""


class Engine:
    """A process that answers frames with a bundle by the code of a checkout."""

    def __init__(self, checkout: Path, bundle: Path, backend: str = "openvino") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANSWERING, str(bundle.resolve()), backend],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([
                str(checkout.resolve()), os.environ.get("PYTHONPATH", ""),
            ])},
        )  # fmt: skip
        if self._line() != "ready":
            sys.exit(f"{checkout}: no engine for {bundle}; its message stands above")

    def ms(self, frames: int) -> float:
        """Milliseconds of the middle one of ``frames`` frames."""
        assert self.process.stdin
        self.process.stdin.write(f"{frames}\n")
        self.process.stdin.flush()
        return median(msgspec.json.decode(self._line(), type=list[float]))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _line(self) -> str:
        """What the process says next; what its libraries print before is passed over."""
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        return next((line.strip() for line in lines if line.startswith(("ready", "["))), "")


def main(rounds: int, frames: int, cases: list[str]) -> None:
    """Measure and print a line a case."""
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name, checkout, bundle, *backend in (case.split("=") for case in cases):
            engines[name] = Engine(Path(checkout), Path(bundle), *backend)
            stack.callback(engines[name].close)
        timed = Interleaved[int]({name: engine.ms for name, engine in engines.items()})
        for _ in range(rounds):
            timed.round(frames)
    reference, *_ = engines
    for name in engines:
        ms = timed.samples[name]
        ratios = sorted(a / b for a, b in zip(timed.samples[reference], ms, strict=True))
        tenth = len(ratios) // 10
        print(
            f"{name:16} {median(ms):7.1f} ms, {reference} takes "
            f"{median(ratios):.3f} times that ({ratios[tenth]:.3f} to {ratios[-1 - tenth]:.3f})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
