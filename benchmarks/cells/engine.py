"""What a cell's process answers with an engine: times, accuracy, arrival, pictures, stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.cells.worker import Spec, from_json
from benchmarks.host.energy import joules
from benchmarks.host.machine import gpu_free_mb
from benchmarks.results import Accuracy, Arrival, Layers, Stages
from runtime import files
from runtime.accuracy.label_files import read_ids
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, known
from runtime.backends import golden
from runtime.backends.base import Engine
from runtime.backends.registry import BACKENDS, computes, load_engine
from runtime.backends.trt import TrtEngine
from runtime.images import read_rgb
from runtime.latency import settled_ms
from runtime.segment import Segmenter, fill

BATCHES = 8  # that are measured with, in turn
WARM_UP = 3  # calls


@dataclass(frozen=True)
class Scene:
    """A frame on disk; label: (H, W) uint8 training ids as PNG, where there is one."""

    name: str
    image: Path
    label: Path | None = None

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR."""
        return cv2.cvtColor(read_rgb(self.image), cv2.COLOR_RGB2BGR)


@dataclass(frozen=True)
class Figure:
    """A number that may not be known."""

    value: float | None


@dataclass(frozen=True)
class Opened:
    """Seconds of opening an engine that is built, and MB of the GPU that closing left taken."""

    seconds: float
    left_mb: float | None


@dataclass(frozen=True)
class InFlight:
    """Frames a second with several batches on the way; None where the engine takes one."""

    fps: float | None
    in_flight: int


def load(spec: Spec) -> EngineCell:
    """A bundle in one of our engines."""
    engine = load_engine(spec.bundle, spec.backend, spec.threads, device=spec.device)
    return EngineCell(spec, engine, computes(engine))


class EngineCell:
    """An engine that has answered once; see ``benchmarks.cells.worker.Served``."""

    def __init__(self, spec: Spec, engine: Engine, computes: str = "") -> None:
        self._spec, self._engine, self._computes = spec, engine, computes
        self._shape = engine.manifest.input.shape
        engine.infer(np.zeros(self._shape, np.uint8))

    def ready(self) -> str:
        """The arithmetic, where it is not that of our engine with the same model."""
        return self._computes

    def warm_up(self) -> None:
        """Run until the library has set up all that it does on its first calls."""
        for _ in range(WARM_UP):
            self._engine.infer(np.zeros(self._shape, np.uint8))

    def measure(self, number: int) -> float:
        """Milliseconds a frame of one call, once the process has settled: see ``settled_ms``."""
        return settled_ms(partial(self._engine.infer, self._batch(number))) / self._shape[0]

    def score(self, frame: int) -> Figure:
        """Count a labelled frame; its own mIoU, None without a labelled pixel."""
        scene, (matrix, boundary) = self._scenes[frame], self._scorers
        assert scene.label is not None, "only labelled frames are scored"
        target, labels = read_ids(scene.label), self._segmenter(scene.read())
        matrix.update(target, labels)
        boundary.update(target, labels)
        alone = ConfusionMatrix(self._engine.manifest.classes)
        alone.update(target, labels)
        return Figure(known(alone.miou()))

    def scores(self) -> Accuracy:
        """Over all frames counted; at least one of them has a labelled pixel."""
        matrix, boundary = self._scorers
        found = float(matrix.miou()), known(boundary.mean()), matrix.iou_by_name()
        return Accuracy(*found, len(self._scenes))

    def arrival(self, hz: float, seconds: float) -> Arrival:
        """Frames that arrive every 1 / hz s; the engine takes the newest whenever it is free."""
        ages, taken, count = [], 0, max(1, round(hz * seconds))
        start = time.perf_counter()
        while taken < count:
            arrived = min(count, int((time.perf_counter() - start) * hz) + 1)
            if arrived == taken:
                time.sleep(max(0.0, start + taken / hz - time.perf_counter()))
                continue
            self._engine.infer(self._batch(arrived))
            ages.append((time.perf_counter() - start - (arrived - 1) / hz) * 1e3)
            taken = arrived
        p50, p95, p99 = (float(value) for value in np.percentile(ages, [50, 95, 99]))
        return Arrival(hz, p50, p95, p99, dropped=1 - len(ages) / count)

    def energy(self, seconds: float) -> Figure:
        """Joules a frame while the engine is never idle; None where the machine does not tell."""
        frames = 0

        def work() -> None:
            nonlocal frames
            frames = _run_for(seconds, self._shape[0], lambda n: self._engine.infer(self._batch(n)))

        row = BACKENDS.get(self._engine.backend)
        total = joules(work, "cpu" if row is None else row.device)
        return Figure(None if total is None else total / frames)

    def sustained(self, seconds: float) -> list[float]:
        """Milliseconds a frame of calls one right after the other, for so long."""
        samples: list[float] = []

        def timed(number: int) -> None:
            start = time.perf_counter()
            self._engine.infer(self._batch(number))
            samples.append((time.perf_counter() - start) * 1e3 / self._shape[0])

        _run_for(seconds, self._shape[0], timed)
        return samples

    def without_graphs(self) -> bool:
        """Go on without CUDA graphs; False where there are none."""
        if not isinstance(self._engine, TrtEngine):
            return False
        self._engine.without_graphs()
        return True

    def golden(self) -> Figure:
        """Share of the golden frames' pixels with PyTorch's label; None where there are none."""
        if self._engine.manifest.golden is None:
            return Figure(None)
        return Figure(golden.agreement(self._engine, self._spec.bundle))

    def opened(self, times: int) -> Opened:
        """Open the engine once more, use it and close it, so many times."""
        spec, before, seconds = self._spec, gpu_free_mb(), 0.0
        for _ in range(times):
            start = time.perf_counter()
            with load_engine(spec.bundle, spec.backend, spec.threads, device=spec.device) as engine:
                seconds += time.perf_counter() - start
                for number in range(3):  # the second call records the CUDA graph
                    engine.infer(self._batch(number))
        after = gpu_free_mb()
        left = None if before is None or after is None else before - after
        return Opened(seconds / times, left)

    def in_flight(self, batches: int, seconds: float) -> InFlight:
        """With several batches on the way."""
        spec = self._spec
        with load_engine(spec.bundle, spec.backend, spec.threads, batches, spec.device) as engine:
            if engine.in_flight < 2:
                return InFlight(None, 1)
            engine.infer(self._batch(0))
            for number in range(engine.in_flight):
                engine.submit(self._batch(number))

            def next_one(number: int) -> None:
                engine.result()
                engine.submit(self._batch(number))

            start = time.perf_counter()
            frames = _run_for(seconds, self._shape[0], next_one)
            fps = frames / (time.perf_counter() - start)
            for _ in range(engine.in_flight):
                engine.result()
        return InFlight(fps, engine.in_flight)

    def pictures(self, frames: Sequence[int], folder: str) -> list[str]:
        """Write ``frame | truth | labels`` of labelled frames as PNG: their file names."""
        palette = self._engine.manifest.classes.palette()
        names = []
        for number, frame in enumerate(frames):
            scene = self._scenes[frame]
            assert scene.label is not None, "only labelled frames are drawn"
            image = scene.read()
            panels = [image, palette[read_ids(scene.label)], palette[self._segmenter(image)]]
            names.append(f"worst-{number}.png")
            with files.atomic_path(Path(folder) / names[-1]) as temporary:
                cv2.imwrite(str(temporary), np.concatenate(panels, axis=1))
        return names

    def stages(self, cell: str, video: str, count: int) -> Stages:
        """Where a frame's time goes in the video pipeline, see
        ``benchmarks.cells.video_stages``."""
        from benchmarks.cells.video_stages import stages  # it brings PyAV, which peaks do not hold

        return stages(self._engine, cell, Path(video), count, self._spec.scratch)

    def layers(self) -> list[Layers]:
        """Where a batch goes in the engine, by type of layer."""
        from benchmarks.cells.layers import layers  # the libraries' profilers, for this alone

        return layers(self._spec, self._engine.manifest, self._batch(0))

    @cached_property
    def _segmenter(self) -> Segmenter:
        return Segmenter.of(self._engine)

    @cached_property
    def _scorers(self) -> tuple[ConfusionMatrix, BoundaryF]:
        classes = self._engine.manifest.classes
        return ConfusionMatrix(classes), BoundaryF(classes)

    @cached_property
    def _scenes(self) -> list[Scene]:
        return from_json(self._spec.frames.read_bytes(), list[Scene])

    @cached_property
    def _batches(self) -> np.ndarray:
        """(BATCHES or fewer, N, H, W, 3) uint8: frames spread over all, at the input's size."""
        count = min(BATCHES * self._shape[0], len(self._scenes))
        chosen = np.linspace(0, len(self._scenes) - 1, count).astype(int)
        images = np.empty((-(-count // self._shape[0]), *self._shape), np.uint8)
        slots = images.reshape(-1, *self._shape[1:])
        for number, slot in enumerate(slots):
            fill(slot, self._scenes[chosen[number % count]].read())
        return images

    def _batch(self, number: int) -> np.ndarray:
        return self._batches[number % len(self._batches)]


def _run_for(seconds: float, batch: int, run: Callable[[int], object]) -> int:
    """Call ``run`` with 0, 1, … for so long: the frames that were done."""
    end, number = time.perf_counter() + seconds, 0
    while number == 0 or time.perf_counter() < end:
        run(number)
        number += 1
    return number * batch
