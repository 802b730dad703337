"""A line of the table, and the videos that the checks are made with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.outputs.video_file import VideoSink

FPS = 30  # of the videos that are streamed
SIZE = (96, 160)


@dataclass(frozen=True)
class Check:
    """What was found, in words, and whether it is within its bound (None: could not be tried)."""

    name: str
    bound: str
    found: str
    passed: bool | None


def small_video(path: Path, count: int) -> Path:
    """A drifting pattern of 96×160 at 30 fps."""
    if not path.exists():
        height, width = SIZE
        pattern = np.random.default_rng(0).integers(256, size=(height, 640, 3), dtype=np.uint8)
        with VideoSink(path, Fraction(FPS)) as sink:
            for number in range(count):
                start = number % (640 - width)
                sink.write(np.ascontiguousarray(pattern[:, start : start + width]))
    return path


def remuxed(video: Path, path: Path) -> Path:
    """The same pictures in another container; an mp4 has its index, and their number, in front."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(video)) as source, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
