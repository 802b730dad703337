"""A camera that drops, stalls, changes its size and asks for a password, over and over."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress

from runtime import cli
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source
from tests.equipment.check import Check, left_open, open_files
from tests.equipment.rtsp import RtspServer, clip
from tests.equipment.videos import SIZE

NOTICED_S = {"drop": 1.0, "stall": 5.0}
RESULT_S = 3.0
AWAY_S = 1.0  # how long the camera is gone after it has hung up
FRAMES = 50  # until a connection fails; at half of them the pictures change their size
LOGIN = "viewer:geheim"


@dataclass
class Cycles:
    """Seconds of each fault: until a new connection was tried, and from the camera's return to the
    first result."""

    noticed: dict[str, list[float]] = field(default_factory=lambda: {"drop": [], "stall": []})
    results: list[float] = field(default_factory=list)
    sizes: set[tuple[int, ...]] = field(default_factory=set)
    exact: bool = False

    def add(self, events: list[tuple[str, float]], arrived: list[float]) -> None:
        """Count the faults among a camera's ``events``; ``arrived``: when each result was there."""
        for at, (fault, time_s) in enumerate(events):
            if fault not in self.noticed:
                continue
            tried = [when for what, when in events[at:] if what == "connect"]
            back = time_s + AWAY_S if fault == "drop" else min(tried, default=np.inf)
            self.noticed[fault].append(min(tried, default=np.inf) - time_s)
            self.results.append(min((t for t in arrived if t > back), default=np.inf) - back)


def cameras(fast: Path, count: int) -> list[Check]:
    """``count`` faults, drops and stalls in turn: how soon each is noticed and over."""
    with Segmenter(fast, "openvino", threads=1) as segmenter:
        before = open_files()
        cycles = _cycles(segmenter, count)
        left = left_open(before)
    found = ", ".join(f"{name} {_p95(times)}" for name, times in cycles.noticed.items())
    passed = all(_within(cycles.noticed[name], NOTICED_S[name]) for name in NOTICED_S)
    again = _within(cycles.results, RESULT_S) and cycles.exact and len(cycles.sizes) == 2
    return [
        Check(f"RTSP, {count} faults", "noticed at p95: drop ≤ 1 s, stall ≤ 5 s", found, passed),
        Check(
            "RTSP, back again",
            "first result ≤ 3 s at p95; read = inferred + dropped; both sizes seen",
            f"{_p95(cycles.results)}; {'exact' if cycles.exact else 'NOT EXACT'}, "
            f"{len(cycles.sizes)} sizes",
            again,
        ),
        Check("RTSP, left open", "no thread, no descriptor", left or "none", not left),
    ]


def _cycles(segmenter: Segmenter, count: int) -> Cycles:
    def script(connection: int, frame: int) -> str | None:
        if frame == FRAMES and connection < count:
            return "stall" if connection % 2 else "drop"
        return "swap" if frame == FRAMES // 2 else None

    cycles = Cycles()
    arrived: list[float] = []
    clips = [clip(*SIZE), clip(2 * SIZE[0], 2 * SIZE[1])]
    with (
        RtspServer(clips, script, LOGIN, AWAY_S) as server,
        open_source(server.url(LOGIN)) as source,
        closing(stream(source, segmenter)) as predictions,
        Progress(console=cli.err) as bars,
    ):
        assert isinstance(source, LiveSource)
        task = bars.add_task("RTSP faults", total=count)
        for prediction in predictions:
            arrived.append(time.monotonic())
            cycles.sizes.add(prediction.labels.shape)
            bars.update(task, completed=source.gaps.count)
            if source.gaps.count == count:
                source.stop()
        cycles.exact = source.received == len(arrived) + source.dropped
    cycles.add(server.events, arrived)
    return cycles


def _within(seconds: list[float], bound: float) -> bool:
    return bool(np.percentile(seconds, 95) <= bound)


def _p95(seconds: list[float]) -> str:
    return f"{np.percentile(seconds, 95):.2f} s"
