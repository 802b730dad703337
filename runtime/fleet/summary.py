"""All spans together: the tables of frames and spans, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from runtime.accuracy.metrics import ConfusionMatrix, Scores, scores
from runtime.bundle.classes import ClassSet
from runtime.fleet.plan import Span
from runtime.fleet.shards import PIXELS, Shards, SpanRow, write_frames, write_spans

MINUTE = 60.0  # seconds of a video that are one point of the page's curves
_MEANS = ("agreement", "miou")


@dataclass
class Minute:
    """A minute of a video: frames, pixels of each class, and sums and counts of shares."""

    video: str
    start_s: float
    pixels: np.ndarray
    frames: int = 0
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
                Minute(row.video, minute * MINUTE, np.zeros(len(columns), np.int64)),
            )
            found.frames += int(own.sum())
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
