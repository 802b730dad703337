"""Where the time of a frame goes in the video pipeline, stage by stage, and how they overlap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.results import Stages
from runtime.backends.base import Engine
from runtime.outputs.overlay import Overlay
from runtime.outputs.video_file import VideoSink
from runtime.pipeline import stream
from runtime.segment import Segmenter, fill
from runtime.sources.base import Frame
from runtime.sources.open import open_source


def stages(engine: Engine, cell: str, video: Path, count: int, scratch: Path) -> Stages:
    """Medians of one stage after the other over ``count`` frames, in milliseconds; frames per
    second of the pipeline that overlaps them, and of the engine alone on the same frames.

    resize: the frame to the network's size and the labels back.
    """
    with open_source(str(video)) as source, VideoSink(scratch / "stages.mp4", source.fps) as sink:
        rows = list(islice(_one_by_one(engine, iter(source), sink), count))
    decode, resize, infer, overlay, encode = map(float, np.median(rows, axis=0))
    return Stages(
        cell,
        video.name,
        decode,
        resize,
        infer,
        overlay,
        encode,
        fps=streamed(Segmenter.of(engine), video, len(rows), scratch / "stream.mp4"),
        fps_engine=engine_only(engine, video, len(rows)),
    )


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


def engine_only(engine: Engine, video: Path, count: int) -> float:
    """Frames per second of the bare engine on the same frames, resized before the clock starts, in
    whole batches, as the pipeline gathers them."""
    shape = engine.manifest.input.shape
    batches = np.zeros((8, *shape), np.uint8)
    with open_source(str(video)) as source:
        for slot, frame in zip(batches.reshape(-1, *shape[1:]), source, strict=False):
            fill(slot, frame.image)
    calls = -(-count // shape[0])
    start = time.perf_counter()
    for number in range(calls + engine.in_flight):
        if number >= engine.in_flight:
            engine.result()
        if number < calls:
            engine.submit(batches[number % 8])
    return calls * shape[0] / (time.perf_counter() - start)


def streamed(segmenter: Segmenter, video: Path, count: int, out: Path | None) -> float:
    """Frames per second from file to labels, or to a written overlay."""
    overlay = Overlay(segmenter.manifest.classes, segmenter.manifest.name)
    start, done = time.perf_counter(), 0
    with open_source(str(video)) as source, closing(stream(source, segmenter)) as predictions:
        sink = None if out is None else VideoSink(out, source.fps)
        for prediction in predictions:
            if sink is not None:
                sink.write(overlay.draw(prediction.frame.image, prediction.labels, "benchmark"))
            done += 1
            if done == count:
                break
        if sink is not None:
            sink.close()
    return done / (time.perf_counter() - start)
