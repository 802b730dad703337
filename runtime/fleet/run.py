"""The command from end to end: plan, drive, add up, tell."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime import cli, files
from runtime.bundle.manifest import FILE_NAME, Manifest
from runtime.errors import HedgeError
from runtime.fleet import driver
from runtime.fleet.cluster import RayPool
from runtime.fleet.config import FleetConfig
from runtime.fleet.driver import Driver
from runtime.fleet.page import write_page
from runtime.fleet.places import find_videos, is_address, label_folder, local_bundle
from runtime.fleet.plan import Span, Unplanned, plan
from runtime.fleet.report import Summary, counted, reported, speed, summarize, tell
from runtime.fleet.shards import SpanRow
from runtime.fleet.video.labels import SUFFIX, join
from runtime.fleet.work import Job
from runtime.outputs.checks import check_outputs, writing
from runtime.outputs.json_files import write_report

LOG_S = 30.0  # between two lines of a log
_SWEEP_S = 5.0  # in which killed workers leave what they were writing


def main(config: FleetConfig) -> int:
    """Run the command; IncompleteError where a span failed, and the rest is whole."""
    check_outputs([config.json] if config.json else [], None, [], force=True)
    videos = find_videos(config.videos)
    bundle = local_bundle(config.bundle)
    manifest = Manifest.load(bundle)
    job = _job(config, bundle)
    if config.labels is not None:
        check_labels(config.labels, videos)
    with writing(job.shards.folder):
        job.shards.folder.mkdir(parents=True, exist_ok=True)
    spans, unplanned = _plan(videos, config, job)
    done = job.shards.whole()
    open_ = [span for span in spans if span.id not in done]
    progress, seconds = driver.Progress(), 0.0
    if open_:
        with RayPool(job, config.cores, config.address) as pool, shown(len(open_)) as told:
            drive = Driver(pool, lambda span: job.shards.path(span.id).exists(), told, progress)
            drive.run(open_)
            seconds = progress.seconds
    sweep(job.shards.folder)
    summary = summarize(spans, progress.failures, job.shards, manifest.classes, job.out)
    if config.save_labels:
        _join(videos, spans, summary, job)
    report = reported(videos, spans, unplanned, progress, summary, seconds, job.out)
    write_page(job.out / "report.html", report, summary, job.shards, manifest.name)
    if config.json is not None:
        write_report(config.json, report)
    code = tell(report, manifest.name, config.json)
    if config.labels is not None:
        check_scored(config.labels, summary.rows)
    return code


def _job(config: FleetConfig, bundle: Path) -> Job:
    """What all workers are told: absolute paths, for each has a current folder of its own."""
    place = config.bundle if config.bundle and is_address(config.bundle) else str(bundle.absolute())
    reference = config.reference
    if reference is not None and not is_address(reference):
        reference = str(local_bundle(reference).absolute())
    return Job(
        bundle=place, out=config.out.absolute(), backend=config.backend, device=config.device,
        threads=config.cores, reference=reference,
        labels=config.labels and config.labels.absolute(), save_labels=config.save_labels,
    )  # fmt: skip


def check_labels(labels: Path, videos: Sequence[str]) -> None:
    """HedgeError where no video has a folder in ``labels``, or two videos have the same."""
    if not labels.is_dir():
        raise HedgeError(f"{labels}: no such folder of labels; check --labels")
    scored: dict[Path, str] = {}
    for video in videos:
        folder = label_folder(labels, video)
        if not folder.is_dir():
            continue
        if other := scored.get(folder):
            raise HedgeError(
                f"{folder}: labels of {other} or of {video}? give the videos names of their own, "
                "or start once for each with its --labels"
            )
        scored[folder] = video
    if not scored:
        raise HedgeError(
            f"{labels}: has no folder for any of the videos; the labels of {videos[0]} lie in "
            f"{label_folder(labels, videos[0])}"
        )


def check_scored(labels: Path, rows: Sequence[SpanRow]) -> None:
    """HedgeError where a video has labels, of which none was of a frame in any of its ``rows``."""
    scored = {row.video for row in rows if row.confusion is not None}
    for row in rows:
        folder = label_folder(labels, row.video)
        if row.video not in scored and folder.is_dir():
            raise HedgeError(
                f"{folder}: no label here belongs to a frame of {row.video}; labels have the name "
                "of their frame (000000.png for the first of a video)"
            )


def _key(job: Job) -> str:
    """What a span's result depends on beside its video: other options are other work."""
    bundles = [job.bundle, *([job.reference] if job.reference else [])]
    hashes = [files.sha256(local_bundle(bundle) / FILE_NAME) for bundle in bundles]
    return repr((hashes, job.backend, job.device, str(job.labels), job.save_labels))


def _plan(
    videos: Sequence[str], config: FleetConfig, job: Job
) -> tuple[list[Span], list[Unplanned]]:
    spans: list[Span] = []
    unplanned: list[Unplanned] = []
    found = plan(videos, config.span, _key(job), job.labels)
    for _, result in cli.track(found, "plan", len(videos), transient=True):
        if isinstance(result, Unplanned):
            unplanned.append(result)
        else:
            spans += result
    return spans, unplanned


@contextmanager
def shown(total: int) -> Iterator[Callable[[driver.Progress], None]]:
    """A function that shows how far it is: a bar on a terminal, now and then a line in a log."""
    if not cli.err.is_terminal:
        yield logged(LOG_S)
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), text)
    with Progress(*columns, console=cli.err) as bars:
        task = bars.add_task("", total=total)

        def show(now: driver.Progress) -> None:
            bars.update(task, completed=now.done, description=_line(now))

        yield show


def logged(every_s: float) -> Callable[[driver.Progress], None]:
    """A function that prints how far it is every so many seconds, the first time after as many."""
    next_s = time.monotonic() + every_s

    def show(now: driver.Progress) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + every_s
            cli.err.print(f"{now.done:,} of {counted(now.total, 'span')}, {_line(now)}")

    return show


def _line(now: driver.Progress) -> str:
    parts = [f"{speed(now.speed)} real time"] if now.video_s else []
    parts += [counted(now.workers, "worker")]
    parts += [counted(now.retries, "retry", "retries")] if now.retries else []
    parts += [f"{len(now.failures)} failed"] if now.failures else []
    return ", ".join(parts)


def sweep(folder: Path) -> None:
    """Remove what killed workers were writing; they may take a moment to be gone."""
    until = time.monotonic() + _SWEEP_S
    while True:
        files.sweep(folder)
        if not any(folder.glob(".*.part-*")) or time.monotonic() > until:
            return
        time.sleep(0.1)


def label_names(videos: Sequence[str]) -> dict[str, str]:
    """What each video's labels are called, whichever of the videos are done: as it is, or x-2."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for video in videos:
        name = Path(video).stem
        while name in taken:
            name += "-2"
        taken.add(name)
        names[video] = name
    return names


def _join(videos: Sequence[str], spans: Sequence[Span], summary: Summary, job: Job) -> None:
    """The labels of each video whose spans are all done, as one file."""
    done = {row.id for row in summary.rows}
    by_video: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_video[span.video].append(span)
    names = label_names(videos)
    for video, parts in by_video.items():
        if not done.issuperset(span.id for span in parts):
            continue
        with files.atomic_path(job.out / "labels" / f"{names[video]}{SUFFIX}") as target:
            join([job.label_part(span.id) for span in parts], target)
