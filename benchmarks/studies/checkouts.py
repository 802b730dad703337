"""Engines of several checkouts in turn, each with its bundle: before and after a change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
import tyro

from runtime import cli
from runtime.errors import HedgeError
from runtime.latency import Interleaved
from runtime.numbers import Count

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


@dataclass(frozen=True)
class Checkouts:
    """Time engines of several checkouts in turn: before and after a change.

    Each runs the code of its checkout in a process of its own, on two threads, and answers frames
    of noise of its bundle's size. Ratios are of the first to each, by the rounds' medians, so that
    a machine whose speed drifts treats all alike.

    Example: python -m benchmarks.studies.checkouts 24 12 before=../old=bundles/a now=.=bundles/a
    """

    rounds: Annotated[Count, tyro.conf.Positional]
    """How often each is asked."""
    frames: Annotated[Count, tyro.conf.Positional]
    """Frames a round, of which the middle one counts."""
    cases: Annotated[tuple[str, ...], tyro.conf.Positional]
    """NAME=CHECKOUT=BUNDLE or NAME=CHECKOUT=BUNDLE=BACKEND of each; without a backend, openvino."""
    engines: Count = 1
    """Processes of each, whose middle one counts in every round: two of one engine can differ by
    more than what is looked for."""


class Engine:
    """A process that answers frames with a bundle by the code of a checkout."""

    def __init__(self, checkout: Path, bundle: Path, backend: str = "openvino") -> None:
        if not checkout.is_dir():
            raise HedgeError(f"{checkout}: no such checkout")
        self.named = f"{checkout} with {bundle}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANSWERING, str(bundle.resolve()), backend],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([
                str(checkout.resolve()), os.environ.get("PYTHONPATH", ""),
            ])},
        )  # fmt: skip
        if self._line() != "ready":
            raise HedgeError(f"{checkout}: no engine for {bundle}; its message stands above")

    def ms(self, frames: int) -> float:
        """Milliseconds of the middle one of ``frames`` frames."""
        assert self.process.stdin
        self.process.stdin.write(f"{frames}\n")
        self.process.stdin.flush()
        if not (answer := self._line()):
            raise HedgeError(f"{self.named}: its engine ended; its message stands above")
        return median(msgspec.json.decode(answer, type=list[float]))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _line(self) -> str:
        """What the process says next; what its libraries print before is passed over."""
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        return next((line.strip() for line in lines if line.startswith(("ready", "["))), "")


def main(config: Checkouts) -> None:
    """Measure and print a line a case."""
    if not config.cases:
        raise HedgeError("no cases: write NAME=CHECKOUT=BUNDLE of each")
    with ExitStack() as stack:
        engines: dict[str, list[str]] = {}
        timed = Interleaved[int]({})
        for case in config.cases:
            name, *place = case.split("=")
            if len(place) not in {2, 3} or name in engines:
                raise HedgeError(f"{case}: write NAME=CHECKOUT=BUNDLE[=BACKEND], each its own name")
            engines[name] = [f"{name} {number}" for number in range(config.engines)]
            for own in engines[name]:
                engine = Engine(Path(place[0]), Path(place[1]), *place[2:])
                stack.callback(engine.close)
                timed.calls[own] = engine.ms
        for _ in cli.track(range(config.rounds), "timing in turn", transient=True):
            timed.round(config.frames)
    samples = {
        name: [median(ms) for ms in zip(*(timed.samples[one] for one in own), strict=True)]
        for name, own in engines.items()
    }
    for line in _lines(samples):
        cli.say(line)


def _lines(samples: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """A line a case: its milliseconds, and how many times them the first one takes."""
    reference, *_ = samples
    for name, ms in samples.items():
        ratios = sorted(a / b for a, b in zip(samples[reference], ms, strict=True))
        tenth = len(ratios) // 10
        yield (
            f"{name:16} {median(ms):7.1f} ms, {reference} takes "
            f"{median(ratios):.3f} times that ({ratios[tenth]:.3f} to {ratios[-1 - tenth]:.3f})"
        )


if __name__ == "__main__":
    cli.run(Checkouts, main, "python -m benchmarks.studies.checkouts")
