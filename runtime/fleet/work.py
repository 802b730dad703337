"""The work on one span: frames in, a file of what was found out. Plain Python, without Ray."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from runtime import files
from runtime.accuracy.drift import Drift
from runtime.accuracy.flicker import scaled_size
from runtime.accuracy.ground_truth import LabelFolder, Scorer
from runtime.accuracy.metrics import ConfusionMatrix, known
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, one_line
from runtime.fleet.label_video import SUFFIX, LabelVideo
from runtime.fleet.places import local_bundle
from runtime.fleet.plan import Span
from runtime.fleet.shards import FrameRows, Shards, SpanRow, row_of
from runtime.fleet.source import SpanSource
from runtime.interrupt import Closing
from runtime.outputs.checks import writing
from runtime.outputs.overlay import Overlay
from runtime.pipeline import stream
from runtime.segment import Prediction, Segmenter

_WIDTH, _QUALITY = 480, 75  # of the picture of a span
_EXACT = 1 << 24  # pixels that OpenCV's histogram, of floats, counts exactly


@dataclass(frozen=True)
class Job:
    """What is asked of every span.

    bundle, reference: folders or addresses; out: the folder of all results, which every worker
    writes into; labels: a folder with one of labels for each video, by its name without suffix.
    """

    bundle: str
    out: Path
    backend: str = "auto"
    device: str = ""
    threads: int = 0
    reference: str | None = None
    labels: Path | None = None
    save_labels: bool = False

    @property
    def shards(self) -> Shards:
        """Where the spans' tables are."""
        return Shards(self.out / "spans")

    def label_part(self, id: str) -> Path:
        """Where a span's labels are."""
        return self.out / "spans" / f"{id}{SUFFIX}"


class Bench(Closing):
    """A worker's own tools: engines that are loaded once, for all of its spans."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reference: Segmenter | None = None
        with ExitStack() as stack:
            self.segmenter = stack.enter_context(self._load(job.bundle))
            if job.reference is not None:
                self.reference = stack.enter_context(self._load(job.reference))
                if self.reference.classes.names != self.segmenter.classes.names:
                    raise HedgeError(
                        f"{job.reference}: has other classes than the bundle it is for"
                    )
            self._stack = stack.pop_all()
        self.engine = f"{self.segmenter.backend} {self.segmenter.manifest.precision}"

    def _load(self, bundle: str) -> Segmenter:
        job = self.job
        return Segmenter(local_bundle(bundle), job.backend, job.threads, device=job.device)

    def close(self) -> None:
        """Free the engines."""
        self._stack.close()


def segment_span(span: Span, bench: Bench, attempt: int = 1) -> SpanRow:
    """Segment a span and write what was found; its row. At once where it was written already.

    Raises HedgeError for a video that cannot be read, OutputError where this machine cannot write.
    """
    job, start = bench.job, time.perf_counter()
    row = row_of(span, attempt)
    row.host, row.engine = platform.node(), bench.engine
    if job.shards.path(span.id).exists():
        return job.shards.read(span.id)[1]
    shown = _Shown(Overlay(bench.segmenter.classes))
    rows = FrameRows(bench.segmenter.classes.names)
    scorer = _scorer(job, span.video, bench.segmenter.classes)
    drift = None
    if bench.reference is not None:
        drift = Drift(bench.reference, shown.overlay)
    with ExitStack() as stack:
        source = stack.enter_context(SpanSource(span, earlier=drift is not None))
        labels = None
        if job.save_labels:
            part = job.label_part(span.id)
            stack.enter_context(writing(part))
            kept = stack.enter_context(files.atomic_path(part, first_wins=True))
            labels = stack.enter_context(LabelVideo(kept, source.fps, part))
        stack.enter_context(_reading(span.video))
        for prediction in stack.enter_context(closing(stream(source, bench.segmenter))):
            differences = {} if drift is None else drift.update(prediction)
            if prediction.frame.index < span.first:
                continue
            begun = time.perf_counter()
            miou = None if scorer is None else _score(scorer, prediction)
            if labels is not None:
                labels.write(prediction.labels, prediction.frame.time_s)
            pixels = class_pixels(prediction.labels, len(bench.segmenter.classes))
            rows.add(
                pixels, frame=prediction.frame.index, pts=prediction.frame.pts,
                time_s=prediction.frame.time_s, read_ms=prediction.read_ms,
                infer_ms=prediction.infer_ms, write_ms=(time.perf_counter() - begun) * 1e3,
                miou=miou, **differences,
            )  # fmt: skip
            shown.offer(prediction, differences.get("agreement") if drift else miou)
            row.frames += 1
    row.damaged, row.complaint = source.damaged, source.complaint() or ""
    if scorer is not None and scorer.scored:
        row.confusion = scorer.matrix.counts.ravel().tolist()
    row.work_s = time.perf_counter() - start
    job.shards.write(rows.table(span.video), row, shown.picture())
    return row


@contextmanager
def _reading(video: str) -> Iterator[None]:
    """Tell what a disk or FFmpeg says of a video from what they say of our own files."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise HedgeError(f"{video}: cannot be read ({one_line(error)})") from error


class _Shown:
    """The frame that stands for a span: the worst by what is measured, else the first."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self._value = math.inf
        self._chosen: Prediction | None = None

    def offer(self, prediction: Prediction, value: float | None) -> None:
        """Take a frame into account; value: how good it is, None where nobody knows."""
        value = math.inf if value is None else value
        if self._chosen is None or value < self._value:
            self._value, self._chosen = value, prediction

    def picture(self) -> bytes:
        """It, with its classes laid over it, as WebP; nothing without a frame."""
        if self._chosen is None:
            return b""
        image, labels = self._chosen.frame.image, self._chosen.labels
        size = scaled_size(image, _WIDTH)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        classes = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        quality = [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
        return cv2.imencode(".webp", self.overlay.blend(small, classes), quality)[1].tobytes()


def class_pixels(labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) int32: how many pixels of (H, W) uint8 ``labels`` each class has."""
    if labels.size >= _EXACT:
        return np.bincount(labels.ravel(), minlength=classes)[:classes].astype(np.int32)
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])
    return counts.ravel()[:classes].astype(np.int32)


def _score(scorer: Scorer, prediction: Prediction) -> float | None:
    """Add a frame to the span's counts; its own mean IoU, None without a label."""
    before, scored = scorer.matrix.counts.copy(), scorer.scored
    scorer.update(prediction)
    if scorer.scored == scored:
        return None
    own = ConfusionMatrix(scorer.matrix.classes)
    own.counts = scorer.matrix.counts - before
    return known(own.miou())


def _scorer(job: Job, video: str, classes: ClassSet) -> Scorer | None:
    if job.labels is None:
        return None
    folder = job.labels / Path(video).stem
    return Scorer(_label_folder(folder, classes)) if folder.is_dir() else None


@lru_cache(maxsize=4)  # a worker's spans follow each other in a video
def _label_folder(folder: Path, classes: ClassSet) -> LabelFolder:
    return LabelFolder(folder, classes)
