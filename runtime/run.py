"""A run: what is counted as it goes on, its live numbers and its report."""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from runtime import cli, files
from runtime.accuracy.confidence import ClassConfidence
from runtime.accuracy.drift import Drift
from runtime.accuracy.ground_truth import Scorer
from runtime.accuracy.metrics import Scores, scores
from runtime.accuracy.streaming import Clock
from runtime.bundle import measured
from runtime.latency import Latency
from runtime.outputs.alarms import Watch
from runtime.outputs.report import Report
from runtime.segment import Prediction, Segmenter
from runtime.sources.base import Source
from runtime.sources.live import LiveSource

STAGES = ("read", "infer", "write", "total")

LIVE_STAGES = ("infer", "write", "age")

_RECENT = 30  # frames that live numbers are taken over


@dataclass(frozen=True)
class Lately:
    """The latest 30 frames: frames per second, and percentiles of the milliseconds of inference."""

    fps: float | None
    infer_ms: dict[str, float | None]


@dataclass
class Run:
    """One pass over a source: who takes part, and frames, seconds and milliseconds so far.

    stages: times by stage; "total" is the sum of a frame's stages, without the waiting in between;
    "age", of a live source, is from a frame's arrival to its results written. The clock starts
    with ``begin`` and stops at the last frame. videos: the files of the video written so far;
    pictures: where those of photos are written; tiles: rows and columns that frames are cut into.
    """

    source: Source
    segmenter: Segmenter
    bundle: Path
    scorer: Scorer | None = None
    drift: Drift | None = None
    confidence: ClassConfidence | None = None
    watch: Watch | None = None
    videos: list[Path] = field(default_factory=list)
    pictures: Path | None = None
    tiles: tuple[int, int] | None = None
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    stages: dict[str, Latency] = field(init=False)
    _started: float = 0.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def __post_init__(self) -> None:
        names = LIVE_STAGES if self.source.live else STAGES
        self.stages = {name: Latency() for name in names}

    def begin(self) -> None:
        """Start the clock: everything is loaded. A camera that goes away is told from now on."""
        if isinstance(self.source, LiveSource):
            self.source.on_gap = lambda what: cli.warn(f"{self.source.origin}: {what}")
        self._started = time.perf_counter()

    def score(self, prediction: Prediction) -> None:
        """Count a frame that came out of the pipeline, against its label where there is one."""
        self.read += 1
        if self.scorer is not None:
            self.scorer.update(prediction)
        if self.confidence is not None and prediction.confidence is not None:
            self.confidence.update(prediction.labels, prediction.confidence)

    def add(self, prediction: Prediction, write_ms: float) -> None:
        """Count a frame whose results are written."""
        times = {"read": prediction.read_ms, "infer": prediction.infer_ms, "write": write_ms}
        times["total"] = sum(times.values())
        times["age"] = (time.monotonic() - prediction.frame.arrived) * 1e3
        for stage, latency in self.stages.items():
            latency.add(times[stage])
        self.written += 1
        self._recent.append(time.perf_counter())
        self.seconds = self._recent[-1] - self._started

    def miou(self) -> float | None:
        """Mean IoU so far in 0..1; None without labels."""
        return None if self.scorer is None else self.scorer.miou()

    @property
    def clock(self) -> Clock | None:
        """What scores the frames as they would be seen live."""
        return None if self.scorer is None else self.scorer.clock

    def status(self, prediction: Prediction) -> str:
        """The live line: milliseconds of this frame, frames per second lately, mIoU so far."""
        parts = [f"{prediction.infer_ms:.1f} ms"]
        if len(self._recent) > 1:
            parts.append(
                f"{(len(self._recent) - 1) / (self._recent[-1] - self._recent[0]):.1f} fps"
            )
        miou = self.miou()
        return "   ".join([*parts, f"mIoU {miou:.1%}"] if miou is not None else parts)

    def lately(self) -> Lately:
        """How fast the latest frames were, until now: a stream that stands still gets slower."""
        recent = list(self._recent)
        fps = (len(recent) - 1) / (time.perf_counter() - recent[0]) if len(recent) > 1 else None
        return Lately(fps, self.stages["infer"].percentiles(_RECENT))

    def report(self) -> Report:
        """The numbers so far."""
        manifest, scorer = self.segmenter.manifest, self.scorer
        live = self.source if isinstance(self.source, LiveSource) else None
        read = self.read if live is None else live.received
        known = Scores()
        if scorer is not None and scorer.miou() is not None:
            known = scores(scorer.matrix, scorer.boundary)
        return Report(
            **vars(known),
            source=self.source.origin,
            decoder=self.source.decoder,
            frames_expected=self.source.expected if live is None else None,
            frames_read=read,
            frames_written=self.written,
            frames_dropped=read - self.written,
            frames_damaged=self.source.damaged,
            frames_scored=None if scorer is None else scorer.scored,
            fps=self.written / self.seconds if self.seconds else None,
            latency_ms={stage: times.percentiles() for stage, times in self.stages.items()},
            gaps=None if live is None else live.gaps_so_far(),
            deadline=None if self.clock is None else self.clock.report(),
            videos=[files.printable(str(path)) for path in self.videos],
            pictures=files.printable(str(self.pictures)) if self.pictures else None,
            confidence=None if self.confidence is None else self.confidence.means(),
            alarms=None if self.watch is None else self.watch.report(),
            drift=None if self.drift is None else self.drift.report(),
            miou_of_bundle=manifest.measured.miou_in(self.segmenter.backend),
            miou_of_pytorch=measured.known(manifest.measured.miou_pytorch),
            tiles=self.tiles,
            backend=self.segmenter.backend,
            precision=manifest.precision,
            bundle=files.printable(str(self.bundle)),
            machine={"system": platform.platform(), "cpus": os.cpu_count()},
        )
