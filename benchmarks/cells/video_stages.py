"""Where the time of a frame goes in the video pipeline, stage by stage, and how they overlap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.pipeline import engine_only, streamed
from runtime.backends.base import Engine
from runtime.outputs.overlay import Overlay
from runtime.outputs.video_file import VideoSink
from runtime.segment import Segmenter, fill
from runtime.sources.base import Frame
from runtime.sources.open import open_source

STAGES = ("decode", "resize", "infer", "overlay", "encode")


def stages(engine: Engine, video: Path, count: int, scratch: Path) -> dict[str, float]:
    """Medians of one stage after the other over ``count`` frames, in milliseconds; frames per
    second of the pipeline that overlaps them, and of the engine alone on the same frames.

    resize: the frame to the network's size and the labels back.
    """
    with open_source(str(video)) as source, VideoSink(scratch / "stages.mp4", source.fps) as sink:
        rows = list(islice(_one_by_one(engine, iter(source), sink), count))
    found = dict(zip(STAGES, map(float, np.median(rows, axis=0)), strict=True))
    return found | {
        "fps": streamed(Segmenter.of(engine), video, len(rows), scratch / "stream.mp4"),
        "fps_engine": engine_only(engine, video, len(rows)),
    }


def _one_by_one(
    engine: Engine, frames: Iterator[Frame], sink: VideoSink
) -> Iterator[tuple[float, ...]]:
    """Milliseconds of each stage for each frame, none beside another."""
    manifest = engine.manifest
    overlay = Overlay(manifest.classes, manifest.name)
    batch = np.zeros(manifest.input.shape, np.uint8)
    now = time.perf_counter
    while True:
        start = now()
        frame = next(frames, None)
        if frame is None:
            return
        decoded = now()
        fill(batch[0], frame.image)
        filled = now()
        labels = engine.infer(batch)[0]
        inferred = now()
        size = (frame.image.shape[1], frame.image.shape[0])
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        resized = now()
        picture = overlay.draw(frame.image, labels, "benchmark")
        drawn = now()
        sink.write(picture)
        seconds = (
            decoded - start, filled - decoded + resized - inferred,
            (inferred - filled) / len(batch), drawn - resized, now() - drawn,
        )  # fmt: skip
        yield tuple(1e3 * value for value in seconds)
