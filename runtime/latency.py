"""Latencies: percentiles of a run, and a call timed on a settled machine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

SETTLE_S = 0.05


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
class Latency:
    """Times in milliseconds; percentiles of the latest 100,000, for a stream may run for days."""

    samples: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))

    def add(self, milliseconds: float) -> None:
        """Record one time."""
        self.samples.append(milliseconds)

    def percentiles(self) -> dict[str, float | None]:
        """``{"p50", "p95", "p99"}`` in milliseconds; None before the first sample."""
        if not self.samples:
            return {"p50": None, "p95": None, "p99": None}
        p50, p95, p99 = np.percentile(self.samples, [50, 95, 99])
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
