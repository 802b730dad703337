"""Latencies: percentiles of a run, a call on a settled machine, and calls that take turns."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

import numpy as np

SETTLE_S = 0.05

Item = TypeVar("Item")


def settled_ms(call: Callable[[], object]) -> float:
    """Milliseconds of a call that follows others: one at least, and SETTLE_S seconds of them.

    The first is up to three times slower beside other engines: the caches are theirs, and after a
    call their libraries' threads go on spinning for a while, on the same cores. A stream has one
    engine only. (Two idle cores, models of 6 to 30 ms: the first call takes 5 to 17 % longer than
    in a row of its own, the second 1 to 4 %, those after 25 ms under 1 %. Behind ONNX Runtime, an
    OpenVINO model of 7 ms takes 13 on the second call still.)
    """
    begin = start = time.perf_counter()
    while start == begin or start - begin < SETTLE_S:
        call()
        start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


@dataclass
class Interleaved(Generic[Item]):
    """Several calls timed side by side: every round times each of them once, in another order.

    On a machine whose speed drifts, calls timed one after the other differ for reasons of the
    clock; interleaved, they share the drift, and their ratios hold. The order changes, for a
    neighbour leaves its traces in the caches and in what its library's threads still do.

    calls: by name, item (a frame, or the round's number) → milliseconds; None where the call has
    nothing more to tell: it takes no further part. samples: milliseconds by name, in order.
    """

    calls: dict[str, Callable[[Item], float | None]]
    samples: dict[str, list[float]] = field(default_factory=dict)
    rounds: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def round(self, item: Item, leave_out: Collection[str] = ()) -> None:
        """Time every call once with ``item``, but for the names in ``leave_out``."""
        names = list(self.calls)
        self._random.shuffle(names)
        for name in names:
            if name in leave_out:
                continue
            milliseconds = self.calls[name](item)
            if milliseconds is None:
                del self.calls[name]
            else:
                self.samples.setdefault(name, []).append(milliseconds)
        self.rounds += 1

    def medians(self) -> dict[str, float]:
        """Milliseconds by name."""
        return {name: median(values) for name, values in self.samples.items()}


@dataclass
class Latency:
    """Times in milliseconds; percentiles of the latest 100,000, for a stream may run for days."""

    samples: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))

    def add(self, milliseconds: float) -> None:
        """Record one time."""
        self.samples.append(milliseconds)

    def percentiles(self, latest: int = 0) -> dict[str, float | None]:
        """``{"p50", "p95", "p99"}`` in milliseconds; None before the first sample.

        latest: of so many; 0: of all that are kept.
        """
        if not self.samples:
            return {"p50": None, "p95": None, "p99": None}
        p50, p95, p99 = np.percentile(list(self.samples)[-latest:], [50, 95, 99])
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
