"""python -m runtime.video: stream a video or images through a bundle, and report."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from runtime import cli, files
from runtime.accuracy.confidence import ClassConfidence
from runtime.accuracy.drift import Drift
from runtime.accuracy.ground_truth import LabelFolder, Scorer
from runtime.accuracy.metrics import BoundaryF
from runtime.accuracy.streaming import Clock
from runtime.backends.base import Engine
from runtime.backends.registry import load_engine
from runtime.backends.shared import shared
from runtime.backends.tiled import tiled
from runtime.bundle.manifest import Manifest
from runtime.bundle.shipped import find_bundle
from runtime.config import VideoConfig
from runtime.errors import EXIT_INTERRUPTED, EXIT_OK, AlarmError, HedgeError, IncompleteError
from runtime.interrupt import interruptible
from runtime.outputs import checks, pictures, video_file
from runtime.outputs.alarms import Watch
from runtime.outputs.annotations import check_annotations
from runtime.outputs.json_files import Row, write_report
from runtime.outputs.overlay import Overlay
from runtime.outputs.report import table
from runtime.outputs.shares import check_table
from runtime.outputs.writer import Wanted, Writer
from runtime.pipeline import stream
from runtime.run import Run
from runtime.segment import Prediction, Segmenter
from runtime.sources.address import password_of
from runtime.sources.base import Source
from runtime.sources.open import open_source
from runtime.web.client import Access

if TYPE_CHECKING:
    from runtime.web.server import WebView

_WARNINGS = 5  # damaged frames named one by one


def main(config: VideoConfig) -> int:
    """Run the command; its exit code, or a HedgeError with one."""
    config.validate()
    with ExitStack() as stack:
        parts = config.parts()
        access = Access(password_of(config.password_file), config.insecure, config.allow_hosts)
        opened = [
            stack.enter_context(
                open_source(part.source, part.realtime, part.raw_size, access, part.decode)
            )
            for part in parts
        ]
        parts = _placed(parts, opened)
        bundle = find_bundle(config.bundle)
        for part, source in zip(parts, opened, strict=True):
            _check_outputs(part, source, bundle)
        alone = len(parts) == 1 and not opened[0].live
        engine = load_engine(
            bundle,
            config.backend,
            config.threads,
            config.in_flight if alone else 1,
            config.device,
        )
        stack.enter_context(engine)
        live = [float(source.fps) if source.live else None for source in opened]
        engines = [engine] if len(parts) == 1 else shared(engine, live)
        runs = [_run(*each, bundle) for each in zip(parts, opened, engines, strict=True)]
        with interruptible([source.stop for source in opened]) as stop:
            failures = _stream_all(parts, runs, stop)
        return _finish_all(parts, runs, failures, stop.is_set())


def _run(config: VideoConfig, source: Source, engine: Engine, bundle: Path) -> Run:
    sure = config.confidence or config.unknown is not None
    segmenter = Segmenter.of(tiled(engine, config.tiles), sure)
    config.look.shown(segmenter.manifest.classes)  # a class that there is not, before any work
    run = Run(source, segmenter, bundle, _scorer(config, source, segmenter.manifest))
    run.tiles = config.tiles
    if alarms := config.alarms:
        run.watch = Watch(alarms, config.zones, segmenter.manifest.classes)
    run.confidence = ClassConfidence(segmenter.manifest.classes) if sure else None
    return run


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
                pool.submit(_stream_one, config, run, stop, bar)
                for config, run, bar in zip(parts, runs, bars, strict=True)
            ]
            return [future.exception() for future in futures]


def _stream_one(
    config: VideoConfig, run: Run, stop: threading.Event, advance: Callable[[str], None]
) -> None:
    with run.segmenter:  # its part in the engine: the others no longer wait for it
        try:
            _stream(config, run, stop, None, advance)
        except HedgeError as error:  # told again at the end, which may be days away
            cli.warn(f"{run.source.origin} has ended, the others go on: {error}")
            raise


def _finish_all(
    parts: list[VideoConfig], runs: list[Run], failures: list[BaseException | None],
    interrupted: bool,
) -> int:  # fmt: skip
    """Every run's report; the exit code of the first that did not go well."""
    if len(runs) == 1:
        return _finish(parts[0], runs[0], interrupted)
    codes = []
    for config, run, failure in zip(parts, runs, failures, strict=True):
        try:
            codes.append(_finish(config, run, interrupted, failure))
        except HedgeError as error:
            codes.append(cli.fail(str(error), error.exit_code))
    return next((code for code in codes if code != EXIT_OK), EXIT_OK)


def _placed(parts: list[VideoConfig], opened: list[Source]) -> list[VideoConfig]:
    """The parts; photos of which nothing is asked get pictures in the current folder."""
    placed = [
        replace(part, out=pictures.default_place(part.source, source))
        if part.asks_nothing and pictures.are_photos(source)
        else part
        for part, source in zip(parts, opened, strict=True)
    ]
    places = Counter(part.out for part in placed if part.out is not None)
    if doubled := [place for place, count in places.items() if count > 1]:
        raise HedgeError(f"{doubled[0]}: two sources would be written there; give --out")
    return placed


def _check_outputs(config: VideoConfig, source: Source, bundle: Path) -> None:
    folder = None
    if config.out is not None:
        if pictures.takes_pictures(config.out, source):
            folder = None if pictures.is_one(config.out) else config.out
        else:
            video_file.check_format(config.out)
    inputs = [*source.files, *(path for path in bundle.glob("*") if path.is_file())]
    if config.labels is not None and config.labels.is_dir():
        inputs += [path for path in config.labels.rglob("*") if path.is_file()]
    if folder and config.save_labels and folder.resolve() == config.save_labels.resolve():
        raise HedgeError(f"{folder}: pictures and labels have the same names; give two folders")
    single = None if folder else config.out
    if config.shares is not None:
        check_table(config.shares)
    if config.annotations is not None:
        check_annotations(config.annotations)
    told = (single, config.json, config.metrics, config.shares, config.annotations)
    written = [path for path in told if path is not None]
    checks.check_outputs(written, config.save_labels, inputs, config.force)
    for place in (config.worst, folder):
        checks.check_outputs([], place, inputs, config.force)


def _scorer(config: VideoConfig, source: Source, manifest: Manifest) -> Scorer | None:
    if config.labels is None:
        return None
    folder = LabelFolder(config.labels, manifest.classes)
    if source.names is not None:
        folder.require(source.names, source.origin)
    boundary = BoundaryF(manifest.classes) if config.boundaries else None
    if not config.clocked:
        return Scorer(folder, boundary=boundary)
    if config.fps is None and not source.timed:
        raise HedgeError(f"{source.origin}: has no rate of its own; give --fps with --deadline")
    fps = config.fps or float(source.fps)
    return Scorer(folder, Clock(manifest.classes, fps, config.deadline or 1e3 / fps), boundary)


@contextmanager
def _web_view(config: VideoConfig, run: Run) -> Iterator[WebView | None]:
    if config.serve is None:
        yield None
        return
    cli.require(("starlette", "uvicorn", "prometheus_client"), "web")
    from runtime.web.server import WebView  # an extra: a box that only writes files needs none

    with WebView(run, config.serve_host, config.serve, config.look, config.zones) as view:
        cli.say(f"watch it: {view.shown}", cli.err)
        yield view


@contextmanager
def _drift(config: VideoConfig, run: Run) -> Iterator[None]:
    """Let the run compare every frame with --reference; its pictures are written at the end."""
    if config.reference is None:
        yield
        return
    classes = run.segmenter.manifest.classes
    with Segmenter(
        config.reference, config.backend, config.threads, device=config.device, tiles=config.tiles
    ) as reference:
        if reference.manifest.classes.names != classes.names:
            raise HedgeError(f"{config.reference}: has other classes than the bundle it is for")
        run.drift = Drift(reference, Overlay(classes))
        yield
        if config.worst is not None:
            run.drift.save(config.worst)


def _stream(
    config: VideoConfig, run: Run, stop: threading.Event, view: WebView | None,
    advance: Callable[[str], None],
) -> None:  # fmt: skip
    """Stream to the end, to --max-frames, an interrupt or a closed window; all files are whole."""
    wanted = Wanted(
        config.out, config.save_labels, config.metrics, config.overlay, config.look,
        config.shares, config.unknown is not None, config.zones,
        config.annotations, config.show,
    )  # fmt: skip
    run.begin()
    with (
        Writer(run.source, run.segmenter, wanted, view) as writer,
        closing(stream(run.source, run.segmenter, config.max_frames)) as predictions,
    ):
        run.videos, run.pictures = writer.videos, writer.pictures
        for prediction in predictions:
            run.score(prediction)
            differences = {} if run.drift is None else run.drift.update(prediction)
            status = run.status(prediction)
            prediction = prediction.certain(config.unknown)
            known: Row = {"miou": run.miou(), **differences, **_rings(run, prediction)}
            run.add(prediction, writer.write(prediction, status, known))
            advance(status)
            if stop.is_set() or writer.left:
                return


def _rings(run: Run, prediction: Prediction) -> Row:
    """The alarms that ring in a frame, for its row; those that begin to are told at once."""
    if run.watch is None:
        return {}
    rings, begun = run.watch.update(prediction.frame, prediction.labels)
    for ring in begun:
        cli.warn(f"alarm: {ring.alarm}, from {ring.time_s:.2f} s of {run.source.origin} on")
    return {"alarms": [ring.alarm for ring in rings]}


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
    text = TextColumn("{task.description}", markup=False)
    with Progress(*columns, text, console=cli.err) as bars:
        tasks = [bars.add_task("", total=total) for total in totals]
        yield [partial(_advance, bars, task) for task in tasks]


def _advance(bars: Progress, task: TaskID, status: str) -> None:
    bars.update(task, advance=1, description=status)


def _finish(
    config: VideoConfig, run: Run, interrupted: bool, failure: BaseException | None = None
) -> int:
    """Report, then say by the exit code, or an error, how the run went; failure: that ended it."""
    report = run.report()
    if config.json is not None:
        write_report(config.json, report)
    cli.out.print(table(report, run.segmenter.manifest.name))
    drawn = (*run.videos, run.pictures)
    told = (config.metrics, config.shares, config.annotations, config.json)
    written = (*drawn, config.save_labels, config.worst, *told)
    for path in written:
        if path is not None:
            cli.say(f"→ {files.printable(str(path))}")
    for fault in run.source.faults[:_WARNINGS]:
        cli.warn(fault)
    if run.scorer is not None and (warning := run.scorer.warning()):
        cli.warn(warning)
    if failure is not None:
        raise failure
    if interrupted:
        return cli.fail("interrupted; what was done is written", EXIT_INTERRUPTED)
    if run.scorer is not None and not run.scorer.scored:
        raise HedgeError(
            f"{config.labels}: no label here belongs to a frame of {run.source.origin}"
        )
    if complaint := run.source.complaint():
        raise IncompleteError(complaint)
    if run.watch is not None and run.watch.count:
        raise AlarmError(f"{run.source.origin}: alarms that rang: {run.watch.count}")
    return EXIT_OK


if __name__ == "__main__":
    cli.run(VideoConfig, main, "python -m runtime.video")
