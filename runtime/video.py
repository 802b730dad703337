"""python -m runtime.video: stream a video or images through a bundle, and report."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from runtime import cli, sinks
from runtime.deadline import Clock
from runtime.drift import Drift
from runtime.engine import Engine, SharedEngine, load_engine
from runtime.errors import EXIT_INTERRUPTED, EXIT_OK, HedgeError, IncompleteError
from runtime.frames import Source
from runtime.labels import LabelFolder, Scorer
from runtime.manifest import Manifest, newest_bundle
from runtime.overlay import Overlay
from runtime.pipeline import stream
from runtime.report import Run, table
from runtime.segment import Segmenter
from runtime.sources import PIPE, open_source
from runtime.writer import Writer

if TYPE_CHECKING:
    from runtime.web import WebView

_WARNINGS = 5  # damaged frames named one by one


@dataclass(frozen=True)
class VideoConfig:
    """Segment a video, images or a camera, and report speed and accuracy of the same run.

    The model comes as a bundle (made by python -m export), which knows its classes, its precision
    and its size: there is nothing to set. Of files every frame is processed, none is dropped. Of
    cameras and addresses the newest frame is next, whatever came before is dropped and counted,
    and a connection that is lost is opened again. At the end, or after Ctrl-C, a table shows
    milliseconds for each stage, frames per second and, with --labels, the mIoU.

    Examples:

    python -m runtime.video drive.mp4 --out overlay.mp4

    python -m runtime.video rtsp://user:password@camera/live --out overlay.mp4

    python -m runtime.video left.mp4 right.mp4 --out overlay.mp4

    python -m runtime.video data/images/val --labels data/labels/val --json report.json

    python -m runtime.video data/images/val --labels data/labels/val --fps 30

    python -m runtime.video drive.mp4 --bundle bundles/a-int8 --reference bundles/a-fp32
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A video file, a folder of images, one image, a quoted pattern such as 'val/**/*.png', a
    camera (0, /dev/video0), an address (rtsp://, http://, https://), or - for raw frames."""
    bundle: Path | None = None
    """Folder of the bundle; default: the newest one under bundles/."""
    backend: str = "auto"
    """tensorrt, tensorrt_rtx, openvino, onnxruntime; auto: the fastest here, measured once."""
    threads: int = 0
    """CPU threads of the engine; 0 leaves the choice to the library."""
    in_flight: int = 1
    """Frames the engine works on at once: of files, 2 or more give more frames per second in
    OpenVINO for more milliseconds a frame."""
    realtime: bool = False
    """Play files at their own rate, and drop what the engine is too slow for, as of a camera."""
    raw_size: tuple[int, int] | None = None
    """HEIGHT WIDTH of the uint8 BGR frames on standard input."""
    out: Path | None = None
    """Video to write (.mp4, .mov or .mkv): the frames with the classes laid over them."""
    labels: Path | None = None
    """Folder of true labels, found by the frame's name (000000.png for a video's first frame)."""
    fps: float | None = None
    """With --labels: also score as if frames arrived at this rate and nobody waited, a late frame
    by the mask that was there."""
    deadline: float | None = None
    """With --fps: milliseconds after a frame's arrival at which its mask is needed. Default: when
    the next frame arrives."""
    reference: Path | None = None
    """A second bundle on the same frames: how often both agree and how much each flickers, which
    needs no labels. It takes its own time beside the stream."""
    worst: Path | None = None
    """With --reference: folder for pictures of the seconds in which the two differ most."""
    save_labels: Path | None = None
    """Folder for one palette PNG a frame; its pixel values are the class ids."""
    json: Path | None = None
    """File for the final report."""
    metrics: Path | None = None
    """File for one JSON line a frame: times, and the mIoU so far."""
    serve: int | None = None
    """Port of a page to watch on, http://127.0.0.1:PORT: the overlay, latency, drops, classes and
    the bundle's passport; /metrics is for Prometheus. 0 takes a free port."""
    serve_host: str = "127.0.0.1"
    """Address to serve on; for others to reach it, set HEDGE_TOKEN in the environment."""
    max_frames: int | None = None
    """Stop after this many frames."""
    overlay: bool = True
    """Show the frames under the colours in --out; without it, the plain class colours."""
    force: bool = False
    """Overwrite outputs that exist."""
    more: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SOURCE ...]")
    ] = ()
    """More sources, at the same time through the same engine. Each has its own outputs, with its
    number in their names: overlay-1.mp4, overlay-2.mp4."""

    def parts(self) -> list[VideoConfig]:
        """One configuration for each source; of several, with numbered outputs."""
        if not self.more:
            return [self]
        parts = []
        for number, source in enumerate((self.source, *self.more), 1):
            own = replace(self, source=source, more=())
            for name in ("out", "save_labels", "json", "metrics"):
                path = getattr(self, name)
                if path is not None:
                    numbered = path.with_name(f"{path.stem}-{number}{path.suffix}")
                    own = replace(own, **{name: numbered})
            parts.append(own)
        return parts

    def validate(self) -> None:
        """Raise HedgeError for numbers that mean nothing."""
        if self.more and (self.serve is not None or self.reference is not None):
            raise HedgeError("--serve and --reference take one source; give one")
        if self.more and PIPE in (self.source, *self.more):
            raise HedgeError("standard input (-) is read alone; give it no other source")
        if self.threads < 0:
            raise HedgeError(f"--threads {self.threads}: give 0 (the library's choice) or more")
        if self.in_flight < 1:
            raise HedgeError(f"--in-flight {self.in_flight}: give 1 or more")
        if self.in_flight > 1 and self.fps is not None:
            raise HedgeError("--fps counts milliseconds of one frame at a time; leave --in-flight")
        if self.max_frames is not None and self.max_frames < 1:
            raise HedgeError(f"--max-frames {self.max_frames}: give 1 or more")
        for name in ("fps", "deadline"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise HedgeError(f"--{name} {value}: give a number above 0")
        if self.worst is not None and self.reference is None:
            raise HedgeError("--worst shows where two bundles differ; give --reference as well")
        if self.deadline is not None and self.fps is None:
            raise HedgeError("--deadline counts from a frame's arrival; give --fps as well")
        if self.fps is not None and self.labels is None:
            raise HedgeError("--fps scores late frames against labels; give --labels as well")


def main(config: VideoConfig) -> int:
    """Run the command; its exit code, or a HedgeError with one."""
    config.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        parts = config.parts()
        opened = [
            stack.enter_context(open_source(part.source, part.realtime, part.raw_size))
            for part in parts
        ]
        bundle = config.bundle or newest_bundle()
        for part, source in zip(parts, opened, strict=True):
            _check_outputs(part, source, bundle)
        alone = len(parts) == 1 and not opened[0].live
        engine = load_engine(
            bundle, config.backend, config.threads, config.in_flight if alone else 1
        )
        stack.enter_context(engine)
        lock = threading.Lock()
        engines = [engine] if len(parts) == 1 else [SharedEngine(engine, lock) for _ in parts]
        runs = [_run(*each, bundle) for each in zip(parts, opened, engines, strict=True)]
        runs[0].segmenter.warm_up()
        with interruptible([source.stop for source in opened]) as stop:
            failures = _stream_all(parts, runs, stop)
        return _finish_all(parts, runs, failures, stop.is_set())


def _run(config: VideoConfig, source: Source, engine: Engine, bundle: Path) -> Run:
    segmenter = Segmenter.of(engine)
    return Run(source, segmenter, bundle, _scorer(config, source, segmenter.manifest))


def _stream_all(
    parts: list[VideoConfig], runs: list[Run], stop: threading.Event
) -> list[BaseException | None]:
    """Stream all sources at once; the error that ended each, None where it went well."""
    with _progress([_total(c, r.source) for c, r in zip(parts, runs, strict=True)]) as bars:
        if len(runs) == 1:
            with _web_view(parts[0], runs[0]) as view, _drift(parts[0], runs[0]):
                _stream(parts[0], runs[0], stop, view, bars[0])
            return [None]
        with ThreadPoolExecutor(len(runs), "source") as pool:
            futures = [
                pool.submit(_stream, config, run, stop, None, bar)
                for config, run, bar in zip(parts, runs, bars, strict=True)
            ]
            return [future.exception() for future in futures]


def _finish_all(
    parts: list[VideoConfig],
    runs: list[Run],
    failures: list[BaseException | None],
    interrupted: bool,
) -> int:
    """Every run's report; the exit code of the first that did not go well."""
    if len(runs) == 1:
        return _finish(parts[0], runs[0], interrupted)
    codes = []
    for config, run, failure in zip(parts, runs, failures, strict=True):
        try:
            code = _finish(config, run, interrupted)
            if failure is not None:
                raise failure
        except HedgeError as error:
            code = cli.fail(str(error), error.exit_code)
        codes.append(code)
    return next((code for code in codes if code != EXIT_OK), EXIT_OK)


def _check_outputs(config: VideoConfig, source: Source, bundle: Path) -> None:
    if config.out is not None:
        sinks.check_format(config.out)
    inputs = [*source.files, *(path for path in bundle.glob("*") if path.is_file())]
    if config.labels is not None and config.labels.is_dir():
        inputs += [path for path in config.labels.rglob("*") if path.is_file()]
    outputs = [path for path in (config.out, config.json, config.metrics) if path is not None]
    sinks.check_outputs(outputs, config.save_labels, inputs, config.force)
    sinks.check_outputs([], config.worst, inputs, config.force)


def _scorer(config: VideoConfig, source: Source, manifest: Manifest) -> Scorer | None:
    if config.labels is None:
        return None
    folder = LabelFolder(config.labels, manifest.classes)
    if source.names is not None:
        folder.require(source.names, source.origin)
    if config.fps is None:
        return Scorer(folder)
    deadline = config.deadline or 1e3 / config.fps
    return Scorer(folder, Clock(manifest.classes, config.fps, deadline))


@contextmanager
def _web_view(config: VideoConfig, run: Run) -> Iterator[WebView | None]:
    if config.serve is None:
        yield None
        return
    cli.require(("starlette", "uvicorn", "prometheus_client"), "web")
    from runtime.web import WebView  # an extra: a box that only writes files needs no server

    with WebView(run, config.serve_host, config.serve) as view:
        cli.err.print(f"watch it: {view.url}", markup=False, soft_wrap=True)
        yield view


@contextmanager
def _drift(config: VideoConfig, run: Run) -> Iterator[None]:
    """Let the run compare every frame with --reference; its pictures are written at the end."""
    if config.reference is None:
        yield
        return
    classes = run.segmenter.manifest.classes
    with Segmenter(config.reference, config.backend, config.threads) as reference:
        if reference.manifest.classes.names != classes.names:
            raise HedgeError(f"{config.reference}: has other classes than the bundle it is for")
        run.drift = Drift(reference, Overlay(classes))
        yield
        if config.worst is not None:
            run.drift.save(config.worst)


@contextmanager
def interruptible(wakes: Sequence[Callable[[], None]]) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, once; the second one interrupts as usual.

    wakes: called with it, for sources that may be waiting for a frame that never comes.
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()
        # Not in the handler: the main thread may hold the lock that waking takes.
        for wake in wakes:
            threading.Thread(target=wake, name="wake", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stream(
    config: VideoConfig,
    run: Run,
    stop: threading.Event,
    view: WebView | None,
    advance: Callable[[str], None],
) -> None:
    """Stream to the end, to --max-frames or to the first interrupt; all files are finished."""
    outputs = (config.out, config.save_labels, config.metrics, config.overlay)
    run.begin()
    with (
        Writer(run.source, run.segmenter, *outputs, view) as writer,
        closing(stream(run.source, run.segmenter, config.max_frames)) as predictions,
    ):
        for prediction in predictions:
            run.score(prediction)
            differences = {} if run.drift is None else run.drift.update(prediction)
            status = run.status(prediction)
            known = {"miou": run.miou(), **differences}
            run.add(prediction, writer.write(prediction, status, known))
            advance(status)
            if stop.is_set():
                return


def _total(config: VideoConfig, source: Source) -> int | None:
    known = [n for n in (source.expected, config.max_frames) if n is not None]
    return min(known, default=None)


@contextmanager
def _progress(totals: Sequence[int | None]) -> Iterator[list[Callable[[str], None]]]:
    """For each total, a function that moves its bar on by one frame, where somebody looks."""
    if not cli.err.is_terminal:
        yield [lambda status: None for _ in totals]
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    with Progress(*columns, text, console=cli.err) as bars:
        tasks = [bars.add_task("", total=total) for total in totals]
        yield [partial(_advance, bars, task) for task in tasks]


def _advance(bars: Progress, task: TaskID, status: str) -> None:
    bars.update(task, advance=1, description=status)


def _finish(config: VideoConfig, run: Run, interrupted: bool) -> int:
    """Report, then say by the exit code, or an error, how the run went."""
    report = run.report()
    if config.json is not None:
        sinks.write_report(config.json, report)
    cli.out.print(table(report, run.segmenter.manifest.name))
    written = (config.out, config.save_labels, config.worst, config.metrics, config.json)
    for path in written:
        if path is not None:
            cli.out.print(f"→ {path}", markup=False, soft_wrap=True)
    for fault in run.source.faults[:_WARNINGS]:
        cli.warn(fault)
    if interrupted:
        return cli.fail("interrupted; what was done is written", EXIT_INTERRUPTED)
    if run.scorer is not None and not run.scorer.scored:
        raise HedgeError(f"{config.labels}: no label here belongs to a frame of {config.source}")
    if complaint := run.source.complaint():
        raise IncompleteError(complaint)
    return EXIT_OK


if __name__ == "__main__":
    cli.run(VideoConfig, main, "python -m runtime.video")
