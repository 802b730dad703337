"""Frames that keep coming: how old the shown one is, whether one is lost, whether memory grows."""

from __future__ import annotations

import mmap
import time
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from rich.progress import track

from runtime import cli
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sources.base import Frame
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source
from tests.equipment.check import Check, resident
from tests.equipment.videos import FPS

MIB = 2**20
GROWTH = 10 * MIB  # of memory after warm-up that counts as a leak
AGE = 1.5  # times the inference: how old a shown frame may be


def live(slow: Path, video: Path) -> list[Check]:
    """Thirty frames a second into an engine of about five."""
    with (
        Segmenter(slow, "openvino", threads=1) as segmenter,
        open_source(str(video), realtime=True) as source,
        closing(stream(source, segmenter)) as predictions,
    ):
        assert isinstance(source, LiveSource)
        ages, times = [], []
        for prediction in predictions:
            ages.append((time.monotonic() - prediction.frame.arrived) * 1e3)
            times.append(prediction.infer_ms)
        inferred, infer_ms = len(ages), float(np.median(times))
        age = float(np.percentile(ages, 95))
        exact = source.received == inferred + source.dropped
    found = (
        f"{age:.0f} ms with {infer_ms:.0f} ms a frame ({age / infer_ms:.2f}×); "
        f"{source.received} read, {inferred} inferred, {source.dropped} dropped"
    )
    bound = f"p95 age ≤ {AGE} × inference; read = inferred + dropped"
    return [Check("live, 30 fps", bound, found, exact and age <= AGE * infer_ms)]


def long_run(fast: Path, video: Path, count: int) -> list[Check]:
    """Files lose nothing and memory stays; the same check finds a leak that is planted."""
    with Segmenter(fast, "openvino", threads=2) as segmenter:
        done, growth = endless(segmenter, video, count, leaking=False)
        _, leaked = endless(segmenter, video, max(count // 10, 1000), leaking=True)
    return [
        Check(f"{count} frames", "none lost", f"{count - done} lost", done == count),
        Check("memory", "≤ 10 MiB after warm-up", f"{growth / MIB:+.1f} MiB", growth <= GROWTH),
        Check("planted leak", "is found", f"{leaked / MIB:+.1f} MiB", leaked > GROWTH),
    ]


def endless(segmenter: Segmenter, video: Path, count: int, leaking: bool) -> tuple[int, int]:
    """Frames that came out in order, and bytes of memory more than after a tenth of them."""
    with open_source(str(video)) as source:
        images = [frame.image for frame in source]
    numbered = enumerate(islice(cycle(images), count))
    frames = (Frame(index, index / FPS, image, str(index)) for index, image in numbered)
    kept: list[mmap.mmap] = []
    warm, done = 0, 0
    answers = stream(frames, segmenter)
    for prediction in track(answers, f"{count} frames", total=count, console=cli.err):
        done += prediction.frame.index == done
        if leaking:
            kept.append(mmap.mmap(-1, 256 * 256))  # the heap may have room from earlier work
            kept[-1].write(bytes(256 * 256))
        if done == count // 10:
            warm = resident()
    return done, resident() - warm
