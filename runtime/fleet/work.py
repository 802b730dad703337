"""The work on one span: frames in, a file of what was found out. Plain Python, without Ray."""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice
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
from runtime.fleet.places import label_folder, local_bundle
from runtime.fleet.plan import Span
from runtime.fleet.shards import FrameRows, Shards, SpanRow, row_of
from runtime.fleet.video.labels import SUFFIX, LabelVideo
from runtime.fleet.video.source import SpanSource
from runtime.interrupt import Closing
from runtime.outputs.checks import writing
from runtime.outputs.overlay import Overlay
from runtime.pipeline import stream
from runtime.segment import Prediction, Segmenter
from runtime.sources.base import Frame

_SILENCE_S = 600.0  # a frame takes seconds at most, and so does what a disk has to look up
_WAIT_S = 1.0  # in which a span that waits for its turn shows that it does
_WIDTH, _QUALITY = 480, 75  # of the picture of a span
_EXACT = 1 << 24  # pixels that OpenCV's histogram, of floats, counts exactly

Sign = Callable[[], None]  # of life


@dataclass(frozen=True)
class Job:
    """What is asked of every span.

    bundle, reference: folders or addresses; out: the folder of all results, which every worker
    writes into; labels: a folder with one of labels for each video, by its name without suffix;
    silence_s: for so long a span may show nothing before it is given up.
    """

    bundle: str
    out: Path
    backend: str = "auto"
    device: str = ""
    threads: int = 0
    reference: str | None = None
    labels: Path | None = None
    save_labels: bool = False
    silence_s: float = _SILENCE_S

    @property
    def shards(self) -> Shards:
        """Where the spans' tables are."""
        return Shards(self.out / "spans")

    def label_part(self, id: str) -> Path:
        """Where a span's labels are."""
        return self.out / "spans" / f"{id}{SUFFIX}"


class StalledError(HedgeError):
    """A span hangs, and with it the thread that works on it: its process is good for no more."""


class Bench(Closing):
    """A worker's own tools: engines that are loaded once, for all of its spans.

    turn: held by the span that the engines work on. Another one may begin or end meanwhile.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.turn = job, threading.Lock()
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

    @contextmanager
    def my_turn(self, sign: Sign) -> Iterator[None]:
        """Wait for the engines, with signs that it is waiting, and hold them."""
        while not self.turn.acquire(timeout=_WAIT_S / 2):
            sign()
        try:
            yield
        finally:
            self.turn.release()


def watched(span: Span, bench: Bench, attempt: int = 1) -> SpanRow:
    """``segment_span`` in a thread of its own; StalledError where it shows nothing for too long."""
    row: Future[SpanRow] = Future()
    shown = threading.Event()

    def work() -> None:
        try:
            row.set_result(segment_span(span, bench, attempt, shown.set))
        except BaseException as error:
            row.set_exception(error)

    threading.Thread(target=work, name="span", daemon=True).start()
    silent_s = 0.0  # counted: a process that was halted has not been silent
    while not wait([row], _WAIT_S).done:
        silent_s = 0.0 if shown.is_set() else silent_s + _WAIT_S
        shown.clear()
        if silent_s >= bench.job.silence_s:
            raise StalledError(
                f"{span.video}: nothing came of it for {bench.job.silence_s:.0f} s; check that "
                "the disk or the network that it is on answers"
            )
    return row.result()


def segment_span(span: Span, bench: Bench, attempt: int = 1, sign: Sign = lambda: None) -> SpanRow:
    """Segment a span and write what was found; its row. At once where it was written already.

    Threads may share ``bench``: while one span is segmented, the next one's video is opened and its
    first frame decoded, and the last one's file is written. sign: called whenever something was
    done. Raises HedgeError for a video that cannot be read, OutputError where this machine cannot
    write.
    """
    job, found = bench.job, _Findings(span, bench)
    row = row_of(span, attempt)
    row.host, row.engine = platform.node(), bench.engine
    with ExitStack() as stack:
        source = stack.enter_context(SpanSource(span, earlier=found.drift is not None))
        with _reading(span.video):
            frames = _begun(source)
        with bench.my_turn(sign):
            start = time.perf_counter()
            if job.shards.path(span.id).exists():
                return job.shards.read(span.id)[1]
            if job.save_labels:
                found.labels = _label_video(stack, job.label_part(span.id), source.fps)
            with _reading(span.video), closing(stream(frames, bench.segmenter)) as predictions:
                for prediction in predictions:
                    found.add(prediction)
                    sign()
    row.frames, row.confusion = found.frames, found.confusion
    row.damaged, row.complaint = source.damaged, source.complaint() or ""
    row.work_s = time.perf_counter() - start
    job.shards.write(found.rows.table(span.video), row, found.shown.picture())
    return row


def _begun(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames, of which the first is read at once."""
    rest = iter(frames)
    return chain(list(islice(rest, 1)), rest)


def _label_video(stack: ExitStack, part: Path, fps: Fraction) -> LabelVideo:
    """A file of labels that is put in its place, fsynced, when ``stack`` ends well."""
    stack.enter_context(writing(part))
    kept = stack.enter_context(files.atomic_path(part, first_wins=True))
    return stack.enter_context(LabelVideo(kept, fps, part))


@contextmanager
def _reading(video: str) -> Iterator[None]:
    """Tell what a disk or FFmpeg says of a video from what they say of our own files."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise HedgeError(f"{video}: cannot be read ({one_line(error)})") from error


class _Findings:
    """What the frames of a span add up to."""

    def __init__(self, span: Span, bench: Bench) -> None:
        self._first, self._classes = span.first, bench.segmenter.classes
        self.frames = 0
        self.rows = FrameRows(self._classes.names)
        self.shown = _Shown(Overlay(self._classes))
        self.labels: LabelVideo | None = None
        self.drift: Drift | None = None
        if bench.reference is not None:
            self.drift = Drift(bench.reference, self.shown.overlay)
        self._scorer = _scorer(bench.job, span.video, self._classes)

    def add(self, prediction: Prediction) -> None:
        """Count a frame; the one before the span is only for flicker."""
        differences = {} if self.drift is None else self.drift.update(prediction)
        frame = prediction.frame
        if frame.index < self._first:
            return
        begun = time.perf_counter()
        miou = None if self._scorer is None else _score(self._scorer, prediction)
        if self.labels is not None:
            self.labels.write(prediction.labels, frame.time_s)
        pixels = class_pixels(prediction.labels, len(self._classes))
        self.rows.add(
            pixels, frame=frame.index, pts=frame.pts, time_s=frame.time_s,
            read_ms=prediction.read_ms, infer_ms=prediction.infer_ms,
            write_ms=(time.perf_counter() - begun) * 1e3, miou=miou, **differences,
        )  # fmt: skip
        self.shown.offer(prediction, differences.get("agreement") if self.drift else miou)
        self.frames += 1

    @property
    def confusion(self) -> list[int] | None:
        """Pixels by (target, predicted), row by row; None without labels."""
        if self._scorer is None or not self._scorer.scored:
            return None
        return self._scorer.matrix.counts.ravel().tolist()


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
    folder = label_folder(job.labels, video)
    return Scorer(_label_folder(folder, classes)) if folder.is_dir() else None


@lru_cache(maxsize=4)  # a worker's spans follow each other in a video
def _label_folder(folder: Path, classes: ClassSet) -> LabelFolder:
    return LabelFolder(folder, classes)
