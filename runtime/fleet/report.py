"""All spans together: their tables, what they add up to, the report, and how the command ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich import box
from rich.table import Table

from runtime import cli, files
from runtime.accuracy.metrics import ConfusionMatrix, Scores, scores
from runtime.bundle.classes import ClassSet
from runtime.errors import EXIT_OK, IncompleteError
from runtime.fleet.driver import Progress
from runtime.fleet.plan import Span, Unplanned
from runtime.fleet.shards import PIXELS, Shards, SpanRow, write_frames, write_spans

MINUTE = 60.0  # seconds of a video that are one point of the page's curves
_DIGITS = 99.5  # what two digits cannot tell
_NAMED = 5  # failures and warnings that are told one by one
_MEANS = ("agreement", "miou")


@dataclass
class Minute:
    """A minute of a video: pixels of each class, and sums and counts of shares; a span of it."""

    video: str
    span: str
    start_s: float
    pixels: np.ndarray
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def mean(self, name: str) -> float | None:
        """Of the frames that have one; None where none has."""
        total, count = self.sums.get(name, (0.0, 0))
        return total / count if count else None

    @property
    def shares(self) -> np.ndarray:
        """(C,) of all pixels, 0..1."""
        return self.pixels / max(1, self.pixels.sum())


@dataclass
class Host:
    """What a machine did: spans, frames, seconds of video, and of its workers' time."""

    spans: int = 0
    frames: int = 0
    video_s: float = 0.0
    work_s: float = 0.0


@dataclass
class Summary:
    """What the page and the report tell of all spans that are done."""

    classes: ClassSet
    rows: list[SpanRow] = field(default_factory=list)
    minutes: dict[tuple[str, int], Minute] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    matrix: ConfusionMatrix | None = None

    def add(self, table: pa.Table, row: SpanRow) -> None:
        """Count a span."""
        self.rows.append(row)
        host = self.hosts.setdefault(row.host, Host())
        host.spans += 1
        host.frames += row.frames
        host.video_s += row.seconds
        host.work_s += row.work_s
        if row.confusion is not None:
            self.matrix = self.matrix or ConfusionMatrix(self.classes)
            self.matrix.counts += np.reshape(row.confusion, self.matrix.counts.shape)
        if not row.frames:
            return
        at = (table["time_s"].to_numpy() // MINUTE).astype(int)
        columns = [table[PIXELS + name].to_numpy() for name in self.classes.names]
        means = {name: table[name].to_numpy() for name in _MEANS}
        for minute in np.unique(at):
            own = at == minute
            found = self.minutes.setdefault(
                (row.video, int(minute)),
                Minute(row.video, row.id, minute * MINUTE, np.zeros(len(columns), np.int64)),
            )
            found.pixels += [int(column[own].sum(dtype=np.int64)) for column in columns]
            for name, values in means.items():
                known = values[own][~np.isnan(values[own].astype(float))]
                total, count = found.sums.get(name, (0.0, 0))
                found.sums[name] = total + float(known.sum()), count + len(known)

    @property
    def frames(self) -> int:
        """Of all spans."""
        return sum(row.frames for row in self.rows)

    @property
    def seconds(self) -> float:
        """Of video."""
        return sum(row.seconds for row in self.rows)

    def scores(self) -> Scores:
        """The accuracy over all labelled frames: an exact sum of the spans' counts."""
        return Scores() if self.matrix is None else scores(self.matrix, None)

    def mean(self, name: str) -> float | None:
        """Of all frames that have one."""
        known = [minute.sums.get(name, (0.0, 0)) for minute in self.minutes.values()]
        count = sum(n for _, n in known)
        return sum(total for total, _ in known) / count if count else None


def summarize(
    spans: Sequence[Span], failures: Sequence[SpanRow], shards: Shards, classes: ClassSet, out: Path
) -> Summary:
    """Write frames.parquet and spans.parquet, in the order of ``spans``; what they add up to."""
    summary = Summary(classes)
    done = shards.whole()

    def tables() -> Iterator[pa.Table]:
        for span in spans:
            if span.id in done:
                table, row = shards.read(span.id)
                summary.add(table, row)
                yield table

    write_frames(out / "frames.parquet", tables())
    write_spans(out / "spans.parquet", [*summary.rows, *failures])
    return summary


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

    @property
    def parts(self) -> int:
        """What there was to do: spans, and videos that could not be cut into any."""
        return self.spans + len(self.failures) - self.spans_failed


def reported(
    videos: Sequence[str], spans: Sequence[Span], unplanned: Sequence[Unplanned],
    progress: Progress, summary: Summary, seconds: float, out: Path,
) -> Report:  # fmt: skip
    """What was done; seconds: that it took since the first worker was ready."""
    failures = [Failure(one.video, None, _bare(one.why, one.video)) for one in unplanned]
    failures += [
        Failure(row.video, row.start_s, _bare(row.error, row.video)) for row in progress.failures
    ]
    return Report(
        **vars(summary.scores()),
        videos=len(videos), spans=len(spans), spans_done_before=len(spans) - progress.total,
        spans_failed=len(progress.failures), retries=progress.retries, workers=progress.most,
        frames=summary.frames, frames_damaged=sum(row.damaged for row in summary.rows),
        hours=summary.seconds / 3600, seconds=seconds,
        hours_an_hour=progress.video_s / seconds if seconds else 0.0,
        agreement=summary.mean("agreement"), failures=failures,
        incomplete=[row.complaint for row in summary.rows if row.complaint],
        warnings=progress.warnings, out=files.printable(str(out)),
    )  # fmt: skip


def tell(report: Report, name: str, json: Path | None) -> int:
    """Print the table and what went wrong; IncompleteError where something is missing."""
    cli.out.print(_table(report, name))
    cli.say(f"→ {report.out}/report.html")
    if json is not None:
        cli.say(f"→ {files.printable(str(json))}")
    lines = [*report.warnings, *report.incomplete, *map(_line, report.failures)]
    for line in lines[:_NAMED]:
        cli.warn(line)
    if report.failures:
        raise IncompleteError(
            f"{len(report.failures)} of {counted(report.parts, 'part')} failed "
            f"({_line(report.failures[0])}); the rest is done; start again to try them again"
        )
    if report.incomplete:
        raise IncompleteError(report.incomplete[0])
    return EXIT_OK


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things, as "1 span" and "2 spans"; many: where it is not ``one`` and an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def lasting(seconds: float) -> str:
    """A duration in the unit that it has few digits in: 5.2 s, 90 s, 12 min, 1.7 h, 1,000 h."""
    value, unit = seconds, "s"
    for larger, size in (("min", 60), ("h", 60)):
        if value >= _DIGITS:
            value, unit = value / size, larger
    return f"{value:,.{1 if value < 10 else 0}f} {unit}"


def speed(hours_an_hour: float) -> str:
    """How fast videos went by, against the time that they show: 0.0042 ×, 1.03 ×, 1,234 ×."""
    form = ".2g" if hours_an_hour < 0.1 else ".2f" if hours_an_hour < 100 else ",.0f"
    return f"{hours_an_hour:{form}} ×"


def _line(failure: Failure) -> str:
    where = "" if failure.from_s is None else f" from {failure.from_s:.0f} s on"
    return f"{failure.video}{where}: {failure.error}"


def _bare(error: str, video: str) -> str:
    """Without the name of the video, which stands before it already."""
    return error.removeprefix(f"{video}: ")


def _table(report: Report, name: str) -> Table:
    grid = Table(title=name, box=box.ROUNDED, show_header=False, title_justify="left")
    grid.add_column(min_width=12)
    grid.add_column(overflow="fold")
    before = f", {report.spans_done_before} of them before" if report.spans_done_before else ""
    done = report.spans - report.spans_failed
    length = lasting(3600 * report.hours)
    grid.add_row("videos", f"{report.videos:,}, {length}, {counted(report.frames, 'frame')}")
    grid.add_row("spans", f"{done} of {report.spans} done{before}, {report.spans_failed} failed")
    if report.workers:
        again = counted(report.retries, "span")
        grid.add_row("speed", f"{speed(report.hours_an_hour)} real time")
        grid.add_row("workers", f"{report.workers}, {again} handed out again")
    if report.miou is not None:
        grid.add_row("mIoU", f"{report.miou:.1%}")
    if report.agreement is not None:
        grid.add_row("agreement", f"{report.agreement:.2%} of the pixels as the reference")
    return grid
