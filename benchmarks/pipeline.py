"""``python -m benchmarks.pipeline``: how much of the engine's speed the video pipeline keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import msgspec
import numpy as np
import onnxruntime
import torch
from rich.table import Table
from torch import nn

from benchmarks.host.machine import machine
from benchmarks.studies.untrained import Case, bundle, random_checkpoint
from runtime import cli, files
from runtime.backends.base import Engine
from runtime.backends.label_tail import upsampled_argmax
from runtime.backends.registry import load_engine
from runtime.bundle.manifest import BUNDLES
from runtime.errors import HedgeError
from runtime.outputs.overlay import Overlay
from runtime.outputs.video_file import VideoSink
from runtime.pipeline import stream
from runtime.segment import Segmenter, fill
from runtime.sources.open import open_source
from train.datasets.synthetic.generate import drive
from train.evaluate import load_model
from train.models import DeepLab

FPS = 30
DRAWN = 40  # frames of the drive


@dataclass(frozen=True)
class Pipeline:
    """Stream a video with and without overlay and compare with the engine alone, and with the loop
    that one writes first: cv2, numpy, ONNX Runtime FP32, cv2.

    All take turns on the same frames, and the ratios are medians over the rounds. The models have
    random weights.

    Example: python -m benchmarks.pipeline --video drive.mp4 --cases mobilenet_v2:dlse:256x448
    """

    cases: tuple[str, ...] = (
        "mobilenet_v2:dlse:1216x2144", "mobilenet_v2:dlse:736x1312", "mobilenet_v2:dlse:384x704",
    )  # fmt: skip
    """BACKBONE:VARIANT:HEIGHTxWIDTH of the network, INT8 in OpenVINO."""
    video: Path | None = None
    """What to stream. Default: a drive through a drawn street, of 1280×720."""
    frames: int = 90
    """How many frames of it, each round."""
    rounds: int = 3
    """How often everything is run."""
    threads: int = 2
    """CPU threads of the engines."""
    in_flight: int = 2
    """Frames our engine works on at once, alone as in the pipeline."""
    backend: str = "openvino"
    """The engine that streams."""
    out: Path = BUNDLES / "pipeline"
    """Folder of the bundles, of what is written, and of report.json."""
    force: bool = False
    """Export again, as after a change of the models."""


@dataclass(frozen=True)
class Row:
    """The engine alone, and the pipeline around it as a share of its frames per second.

    times_plain: end to end with overlay, against the plain loop; tail: share of the engine's frame
    that the label tail takes; cpu_ms: CPU milliseconds a frame of all threads, by way, which a busy
    machine changes less than the clock.
    """

    model: str
    engine_ms: float
    labels: float
    overlay: float
    times_plain: float
    tail: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True)
class Report:
    """All that ``report.json`` holds."""

    machine: dict[str, Any]
    frames: int
    rounds: int
    threads: int
    in_flight: int
    rows: list[Row]


def main(config: Pipeline) -> None:
    """The command."""
    if min(config.frames, config.rounds, config.threads) < 1:
        raise HedgeError("--frames, --rounds and --threads are at least 1")
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    video = config.video or drawn(config.out / f"street-{config.frames}.mp4", config.frames)
    rows = [_measured(Case.parse(text), video, config) for text in config.cases]
    report = Report(machine(), config.frames, config.rounds, config.threads, config.in_flight, rows)
    table = Table(
        "model", "engine ms", "labels only", "overlay + H.264", "× plain loop", "tail %",
        "CPU ms",
    )  # fmt: skip
    for row in rows:
        cpu = row.cpu_ms
        table.add_row(
            row.model, f"{row.engine_ms:.1f}", f"{row.labels:.2f}", f"{row.overlay:.2f}",
            f"{row.times_plain:.2f}", f"{100 * row.tail:.1f}",
            f"{cpu['engine']:.1f}, {cpu['labels'] - cpu['engine']:+.1f}, "
            f"{cpu['overlay'] - cpu['engine']:+.1f}",
        )  # fmt: skip
    table.caption = "CPU ms a frame: the engine alone, and what labels and overlay + H.264 add"
    cli.out.print(table)
    path = config.out / "report.json"
    files.write_bytes(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    cli.say(f"→ {path}")


def _measured(case: Case, video: Path, config: Pipeline) -> Row:
    folder = bundle(case, "int8", config.out, config.force)
    plain = PlainLoop(case, config)
    with load_engine(folder, config.backend, config.threads, config.in_flight) as engine:
        segmenter = Segmenter.of(engine)
        segmenter.warm_up()
        ways: dict[str, Callable[[], float]] = {
            "engine": lambda: engine_only(engine, video, config.frames),
            "labels": lambda: streamed(segmenter, video, config.frames, None),
            "overlay": lambda: streamed(
                segmenter, video, config.frames, config.out / "overlay.mp4"
            ),
            "plain": lambda: plain.run(video, config.frames),
        }
        rounds = cli.track(range(config.rounds), f"streaming through {case}")
        turns = [{name: _timed(way, config.frames) for name, way in ways.items()} for _ in rounds]
    fps = [{name: found[0] for name, found in turn.items()} for turn in turns]
    engine_ms = 1e3 / median(turn["engine"] for turn in fps)
    return Row(
        str(case),
        engine_ms,
        labels=median(turn["labels"] / turn["engine"] for turn in fps),
        overlay=median(turn["overlay"] / turn["engine"] for turn in fps),
        times_plain=median(turn["overlay"] / turn["plain"] for turn in fps),
        tail=tail_ms(case) / engine_ms,
        cpu_ms={name: median(turn[name][1] for turn in turns) for name in ways},
    )


def _timed(way: Callable[[], float], count: int) -> tuple[float, float]:
    """What ``way`` answers, frames per second, and its CPU milliseconds for each of ``count``."""
    start = time.process_time()
    return way(), (time.process_time() - start) * 1e3 / count


def drawn(path: Path, count: int) -> Path:
    """A drawn drive of 1280×720, to and fro; drawn once."""
    if not path.exists():
        shots = drive(min(DRAWN, count), (720, 1280), seed=0)
        drawing = cli.track(shots, "drawing a street", min(DRAWN, count))
        images = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image, _ in drawing]
        to_and_fro = cycle([*images, *images[-2:0:-1]])
        with files.atomic_path(path) as temporary, VideoSink(temporary, Fraction(FPS)) as sink:
            for image in islice(to_and_fro, count):
                sink.write(image)
    return path


def engine_only(engine: Engine, video: Path, count: int) -> float:
    """Frames per second of the bare engine on the same frames, resized before the clock starts."""
    shape = engine.manifest.input.shape
    batches = np.zeros((8, *shape), np.uint8)
    with open_source(str(video)) as source:
        for batch, frame in zip(batches, source, strict=False):
            fill(batch[0], frame.image)
    start = time.perf_counter()
    for number in range(count + engine.in_flight):
        if number >= engine.in_flight:
            engine.result()
        if number < count:
            engine.submit(batches[number % 8])
    return count / (time.perf_counter() - start)


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


class _Logits(nn.Module):
    def __init__(self, model: DeepLab) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image).logits


class PlainLoop:
    """What one writes first: normalised floats in, a class score for every pixel out."""

    def __init__(self, case: Case, config: Pipeline) -> None:
        self.size, self.out = case.size, config.out / "plain.mp4"
        checkpoint = random_checkpoint(case, config.out)
        path = config.out / f"{case}-plain.onnx"
        if config.force or not path.exists():
            with cli.err.status(f"{case}: PyTorch → plain ONNX"):
                image = torch.zeros(1, 3, *case.size)
                graph = _Logits(load_model(checkpoint)).eval()
                torch.onnx.export(graph, (image,), str(path), dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        self.session = onnxruntime.InferenceSession(str(path), options)
        self.colors = checkpoint.classes.palette()

    def run(self, video: Path, count: int) -> float:
        """Frames per second."""
        name = self.session.get_inputs()[0].name
        writer = None
        start, done = time.perf_counter(), 0
        for frame in _read(video, count):
            size = (frame.shape[1], frame.shape[0])
            if writer is None:
                fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(self.out), fourcc, FPS, size)
            image = cv2.resize(frame, (self.size[1], self.size[0]))[..., ::-1]
            image = (image / 255).astype(np.float32).transpose(2, 0, 1)[None]
            labels = self.session.run(None, {name: image})[0].argmax(1)[0].astype(np.uint8)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
            writer.write((0.5 * frame + 0.5 * self.colors[labels]).astype(np.uint8))
            done += 1
        if writer is not None:
            writer.release()
        return done / (time.perf_counter() - start)


def _read(video: Path, count: int) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    for _ in range(count):
        good, frame = capture.read()
        if not good:
            break
        yield frame
    capture.release()


def tail_ms(case: Case) -> float:
    """Median milliseconds of upsampling and argmax, on scores with boundaries as a street has."""
    height, width = (-(-side // 4) for side in case.size)
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(19, 6, 8)).astype(np.float32)
    scores = np.stack([cv2.resize(plane, (width, height)) for plane in coarse])
    scores = (scores + 0.02 * rng.normal(size=scores.shape))[None].astype(np.float32)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        upsampled_argmax(scores, case.size)
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


if __name__ == "__main__":
    cli.run(Pipeline, main, "python -m benchmarks.pipeline")
