"""``python -m benchmarks.pipeline``: how much of the engine's speed the video pipeline keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.cells import process
from benchmarks.cells.naive_onnxruntime import NaiveEngine
from benchmarks.cells.video_stages import engine_only, streamed
from benchmarks.host.machine import machine
from benchmarks.report import page
from benchmarks.report.terminal import tell
from benchmarks.results import PipelineShares, Results
from benchmarks.run.frames import drawn_drive
from benchmarks.run.session import INTERRUPTED
from benchmarks.studies.case import Case
from export import LIBRARIES
from runtime import cli
from runtime.backends import ort
from runtime.backends.label_tail import upsampled_argmax
from runtime.backends.registry import load_engine
from runtime.bundle.manifest import BUNDLES, Manifest
from runtime.errors import HedgeError
from runtime.latency import Interleaved, settled_ms
from runtime.segment import Segmenter
from runtime.sources.open import open_source

EXPORT_S = 300.0


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
    """How many frames of it, each round; at most those that it has."""
    rounds: int = 3
    """How often everything is run."""
    threads: int = 2
    """CPU threads of the engines."""
    in_flight: int = 2
    """Frames our engine works on at once, alone as in the pipeline."""
    backend: str = "openvino"
    """The engine that streams."""
    device: str = ""
    """What it computes on, as of hedge video --device."""
    out: Path = BUNDLES / "pipeline"
    """Folder of the bundles, of what is written, and of report.html, report.md and report.json."""
    force: bool = False
    """Export again, as after a change of the models."""


def main(config: Pipeline) -> None:
    """The command."""
    cli.require(LIBRARIES, "benchmarks")
    if min(config.frames, config.rounds, config.threads) < 1:
        raise HedgeError("--frames, --rounds and --threads are at least 1")
    cases = [Case.parse(text) for text in config.cases]
    start = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    video = config.video or drawn_drive(config.out / f"street-{config.frames}.mp4", config.frames)
    with open_source(str(video)) as source:  # which may be shorter than asked for
        config = replace(config, frames=sum(1 for _ in islice(source, config.frames)))
    found: list[PipelineShares] = []
    notes = [f"medians of {config.rounds} rounds, {config.in_flight} frames in flight"]
    try:
        for case in cases:
            found.append(_measured(case, video, config))
    except KeyboardInterrupt:
        if not found:
            raise
        notes.append(INTERRUPTED)
    results = Results(
        machine(),
        cells=(),
        data=f"{config.frames} frames of {video.name}, random weights",
        threads=config.threads,
        pipelines=found,
        seconds=time.perf_counter() - start,
        notes=notes,
    )
    tell(page.write(results, config.out), config.out)
    if INTERRUPTED in notes:
        raise KeyboardInterrupt


def _measured(case: Case, video: Path, config: Pipeline) -> PipelineShares:
    from benchmarks.studies.untrained import bundle  # not at the start: it loads PyTorch

    folder = bundle(case, "int8", config.out, config.force)
    naive, count = _naive_engine(case, folder, config), config.frames
    cpu: dict[str, list[float]] = {}

    def timed(name: str, run: Callable[[], float], _: int) -> float:
        """Milliseconds a frame; those of all threads go into ``cpu``."""
        start = time.process_time()
        fps = run()
        cpu.setdefault(name, []).append((time.process_time() - start) * 1e3 / count)
        return 1e3 / fps

    with load_engine(
        folder, config.backend, config.threads, config.in_flight, config.device
    ) as engine:
        segmenter = Segmenter.of(engine)
        overlay = config.out / "overlay.mp4"
        ways: dict[str, Callable[[], float]] = {
            "engine": partial(engine_only, engine, video, count),
            "labels": partial(streamed, segmenter, video, count, None),
            "overlay": partial(streamed, segmenter, video, count, overlay),
            "naive": partial(naive_loop, naive, video, count, config.out / "naive.mp4"),
        }
        turns = Interleaved[int]({name: partial(timed, name, way) for name, way in ways.items()})
        for number in cli.track(range(config.rounds), f"streaming {case}"):
            turns.round(number)
    engine_ms = turns.medians()["engine"]
    return PipelineShares(
        str(case),
        engine_ms,
        labels=_ratio(turns, "engine", "labels"),
        overlay=_ratio(turns, "engine", "overlay"),
        times_naive=_ratio(turns, "naive", "overlay"),
        tail=tail_ms(case) / engine_ms,
        cpu_ms={name: median(values) for name, values in cpu.items()},
    )


def _ratio(turns: Interleaved[int], above: str, below: str) -> float:
    """The median over the rounds of the time of ``above`` over that of ``below``."""
    pairs = zip(turns.samples[above], turns.samples[below], strict=True)
    return median(one / other for one, other in pairs)


def _naive_engine(case: Case, folder: Path, config: Pipeline) -> NaiveEngine:
    """Exported by a process that is gone before anything is timed."""
    from benchmarks.studies.untrained import saved_checkpoint

    path = config.out / f"{case}-naive.onnx"
    if config.force or not path.exists():
        files = map(str, (folder, path, saved_checkpoint(case, config.out)))
        command = cli.module_command("benchmarks.cells.pytorch", *files)
        with cli.err.status(f"{case}: PyTorch → naive ONNX"):
            process.run(command, noise := path.with_suffix(".txt"), EXPORT_S)
            noise.unlink()
    return NaiveEngine(ort.session(path, config.threads), Manifest.load(folder))


def naive_loop(engine: NaiveEngine, video: Path, count: int, out: Path) -> float:
    """Frames per second of what one writes first: nothing overlaps, every pixel has its scores."""
    colours = engine.manifest.classes.palette()
    _, height, width, _ = engine.manifest.input.shape
    writer, done = cv2.VideoWriter(), 0
    start = time.perf_counter()
    for frame in _read(video, count):
        size = (frame.shape[1], frame.shape[0])
        if not writer.isOpened():
            writer.open(str(out), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
        labels = engine.infer(cv2.resize(frame, (width, height))[None])[0]
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        writer.write((0.5 * frame + 0.5 * colours[labels]).astype(np.uint8))
        done += 1
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
    return median(settled_ms(partial(upsampled_argmax, scores, case.size)) for _ in range(9))


if __name__ == "__main__":
    cli.run(Pipeline, main, "python -m benchmarks.pipeline")
