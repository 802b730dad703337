"""What a run of ``python -m benchmarks`` found: the schema of report.json.

Times are milliseconds a frame, accuracies and shares 0..1, memory and files MB (10^6 bytes);
None is what was not asked for, or what the machine cannot tell. Samples are in the order in which
they were measured: sample i of every cell comes from the same round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from runtime.errors import HedgeError

SCHEMA = 1
YARDSTICK = "pytorch fp32 channels_last"  # the peer that speed-ups are told against, where it ran
YARDSTICKS = {"cpu": YARDSTICK, "cuda": "pytorch cuda fp32 channels_last"}  # by device
STAGES = ("decode", "resize", "infer", "overlay", "encode")  # of a frame of the video pipeline

Fact = str | int | float | None | Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class Timing:
    """p50 with the interval that a repetition's p50 falls into (95 %,
    ``benchmarks.stats.interval``), and the tail."""

    p50: float
    p90: float
    p95: float
    p99: float
    low: float
    high: float
    samples: Sequence[float]


@dataclass(frozen=True)
class Arrival:
    """Frames that arrive at a fixed rate: from arrival to labels, and the share overtaken by a
    newer frame before the engine was free."""

    hz: float
    p50: float
    p95: float
    p99: float
    dropped: float


@dataclass(frozen=True)
class Accuracy:
    """On the labelled frames, as this cell answered them; iou: by class; boundary_f: None where
    no class has a boundary."""

    miou: float
    boundary_f: float | None
    iou: Mapping[str, float | None]
    frames: int


@dataclass(frozen=True)
class Layers:
    """The nodes of a type in what an engine's library executes for a batch, by its profiler.

    kind: "convolution 1×1", "depthwise", "resize", …; multiply_adds: by arithmetic; bytes: read and
    written, weights included, as if no cache held any.
    """

    kind: str
    nodes: int
    ms: float
    multiply_adds: Mapping[str, int]
    bytes: int


@dataclass(frozen=True)
class Cell:
    """One thing measured in a process of its own: a bundle in an engine, or a peer.

    name: unique in the report; model: of the weights, the same for all precisions and peers;
    computes: the arithmetic the engine chose (fp32, bf16, …); in_flight: batches at once that
    fps_in_flight was reached with, which is None where the engine takes one; gflops: twice the
    multiply-adds over p50; ceiling: that over what this machine reaches in the same arithmetic;
    start_s: process start to first labels; joules: a frame, busy; layers: where a batch goes in
    the engine; error: why there is nothing else, in one line.

    device: "cuda" of what runs on an NVIDIA GPU; gpu_mb: memory of it that the start took.

    way: how a peer or the bare library runs. A peer's is one of ``benchmarks.run.plan.PEERS``; that
    of the first model is also its name. A bare cell has the bundle and the backend of the cell it
    is the bare form of, and one of ``benchmarks.cells.bare_library.WAYS``: "loop + tail" is all
    that the library needs for labels by our tail, so an engine's p50 over it is the cost of our
    engine's code; "loop" ends with scores and so is no equal; "whole graph" makes its labels in
    the library; "benchmark_app" and "trtexec" are the library's own timing, not of the same rounds.
    """

    name: str
    kind: Literal["bundle", "peer", "bare"]
    bundle: str | None = None
    model: str = ""
    variant: str = ""
    precision: str = ""
    backend: str = ""
    device: str = "cpu"
    way: str = ""
    computes: str = ""
    input: tuple[int, int, int] = (0, 0, 0)  # N, H, W
    timing: Timing | None = None
    fps_in_flight: float | None = None
    in_flight: int = 1
    arrival: Arrival | None = None
    accuracy: Accuracy | None = None
    start_s: float | None = None
    peak_mb: float | None = None
    gpu_mb: float | None = None
    model_mb: float | None = None
    engine_mb: float | None = None
    multiply_adds: int | None = None
    gflops: float | None = None
    ceiling: float | None = None
    joules: float | None = None
    layers: tuple[Layers, ...] = ()
    error: str | None = None

    @property
    def fps(self) -> float | None:
        """Frames a second, one at a time."""
        return 1e3 / self.timing.p50 if self.timing else None


@dataclass(frozen=True)
class Stages:
    """Where the time of a frame of the video pipeline goes, beside the engine alone."""

    cell: str
    video: str
    decode: float
    resize: float
    infer: float
    overlay: float
    encode: float
    fps: float
    fps_engine: float

    @property
    def total(self) -> float:
        """Milliseconds of all stages, one after the other."""
        return self.decode + self.resize + self.infer + self.overlay + self.encode


@dataclass(frozen=True)
class PipelineShares:
    """The video pipeline around an engine, as shares of the engine's own frames a second.

    model: of random weights, with its input; labels: the pipeline to labels; overlay: to a written
    video; times_naive: to a written video, against the loop that one writes first; tail: share of
    the engine's frame that the label tail takes; cpu_ms: CPU milliseconds a frame of all threads,
    by way ("engine", "labels", "overlay", "naive"), which a busy machine changes less than the
    clock.
    """

    model: str
    engine_ms: float
    labels: float
    overlay: float
    times_naive: float
    tail: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True)
class Worst:
    """A frame on which a cell does badly: mIoU of that frame alone; picture: a PNG beside the
    report (frame | truth | labels), which report.html carries inside."""

    cell: str
    frame: str
    miou: float
    picture: str


@dataclass(frozen=True)
class Results:
    """All that report.json holds.

    ceilings: GFLOP/s that a 3×3 convolution reaches here, by arithmetic, and GB/s of "memory" that
    is read and written; passports: calibration
    record by bundle; sensitivity: sensitivity.json by bundle (both as the bundle has them); quick:
    a shortened run; notes: what else a reader must know, a line each (as of a run that was
    interrupted); others: cores that other processes took while cells were timed.
    """

    machine: Mapping[str, Fact]
    cells: Sequence[Cell]
    data: str | None = None
    threads: int = 0
    seconds: float = 0.0
    quick: bool = False
    ceilings: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[Stages] = ()
    pipelines: Sequence[PipelineShares] = ()
    worst: Sequence[Worst] = ()
    passports: Mapping[str, Any] = field(default_factory=dict)
    sensitivity: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    others: float = 0.0
    schema: int = SCHEMA

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a report.json; HedgeError names a file that is none, or of another schema."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError as error:
            raise HedgeError(
                f"{path}: no such file; python -m benchmarks --out writes one"
            ) from error
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise HedgeError(
                f"{path}: not a report.json of python -m benchmarks: {error}"
            ) from error
        if found.schema != SCHEMA:
            raise HedgeError(
                f"{path}: schema {found.schema}, this version reads {SCHEMA}; run again"
            )
        return found

    def to_json(self) -> bytes:
        """Indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def settled(self) -> Results:
        """The same, but cells with an error hold no numbers: those of what broke prove nothing."""
        cells = [
            replace(cell, timing=None, fps_in_flight=None, arrival=None, accuracy=None)
            if cell.error
            else cell
            for cell in self.cells
        ]
        return replace(self, cells=cells)

    def cell(self, name: str) -> Cell | None:
        """The cell of that name."""
        return next((cell for cell in self.cells if cell.name == name), None)
