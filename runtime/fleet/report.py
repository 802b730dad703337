"""The report of a fleet's run, its table, and how the command ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from runtime import cli, files
from runtime.accuracy.metrics import Scores
from runtime.errors import EXIT_OK, IncompleteError
from runtime.fleet.driver import Progress
from runtime.fleet.plan import Span, Unplanned
from runtime.fleet.summary import Summary

_NAMED = 5  # failures and warnings that are told one by one


@dataclass(frozen=True)
class Failure:
    """What could not be done, and why; from_s: where in the video, None for all of it."""

    video: str
    from_s: float | None
    error: str


@dataclass(frozen=True, kw_only=True)
class Report(Scores):
    """What ``--json`` holds, see docs/reference/json.md."""

    videos: int
    spans: int
    spans_done_before: int
    spans_failed: int
    retries: int
    workers: int
    frames: int
    frames_damaged: int
    hours: float
    seconds: float
    hours_an_hour: float
    agreement: float | None
    failures: list[Failure]
    incomplete: list[str]
    warnings: list[str]
    out: str


def reported(
    videos: Sequence[str], spans: Sequence[Span], unplanned: Sequence[Unplanned],
    progress: Progress, summary: Summary, seconds: float, out: Path,
) -> Report:  # fmt: skip
    """What was done; seconds: that this run took."""
    failures = [Failure(one.video, None, one.why) for one in unplanned]
    failures += [Failure(row.video, row.start_s, row.error) for row in progress.failures]
    return Report(
        **vars(summary.scores()),
        videos=len(videos), spans=len(spans), spans_done_before=len(spans) - progress.total,
        spans_failed=len(progress.failures), retries=progress.retries, workers=progress.most,
        frames=summary.frames, frames_damaged=sum(row.damaged for row in summary.rows),
        hours=summary.seconds / 3600, seconds=seconds, hours_an_hour=progress.video_s / seconds,
        agreement=summary.mean("agreement"), failures=failures,
        incomplete=[row.complaint for row in summary.rows if row.complaint],
        warnings=progress.warnings, out=files.printable(str(out)),
    )  # fmt: skip


def tell(report: Report, name: str, json: Path | None) -> int:
    """Print the table and what went wrong; IncompleteError where something is missing."""
    cli.out.print(_table(report, name))
    cli.say(f"→ {report.out}")
    if json is not None:
        cli.say(f"→ {files.printable(str(json))}")
    lines = [*report.warnings, *report.incomplete, *map(_line, report.failures)]
    for line in lines[:_NAMED]:
        cli.warn(line)
    if report.failures:
        raise IncompleteError(
            f"{len(report.failures)} of {report.spans + len(report.failures)} parts failed "
            f"({_line(report.failures[0])}); the rest is done; start again to try them again"
        )
    if report.incomplete:
        raise IncompleteError(report.incomplete[0])
    return EXIT_OK


def _line(failure: Failure) -> str:
    where = "" if failure.from_s is None else f" from {failure.from_s:.0f} s on"
    return f"{failure.video}{where}: {failure.error.removeprefix(f'{failure.video}: ')}"


def _table(report: Report, name: str) -> Table:
    grid = Table(title=name, box=box.ROUNDED, show_header=False, title_justify="left")
    grid.add_column(min_width=12)
    grid.add_column(overflow="fold")
    before = f", {report.spans_done_before} of them before" if report.spans_done_before else ""
    done = report.spans - report.spans_failed
    grid.add_row("videos", f"{report.videos}, {report.hours:.2f} hours, {report.frames} frames")
    grid.add_row("spans", f"{done} of {report.spans} done{before}, {report.spans_failed} failed")
    grid.add_row("speed", f"{report.hours_an_hour:.2f} hours of video an hour")
    grid.add_row("workers", f"{report.workers}, {report.retries} spans handed out again")
    if report.miou is not None:
        grid.add_row("mIoU", f"{report.miou:.1%}")
    if report.agreement is not None:
        grid.add_row("agreement", f"{report.agreement:.2%} of the pixels as the reference")
    return grid
