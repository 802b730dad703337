"""What a fleet's driver costs by itself, with packet tables and workers that are made up."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from runtime import cli
from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from runtime.fleet.driver import Driver, Progress
from runtime.fleet.plan import Cut, Packets, Span, cuts, spans
from runtime.fleet.report import summarize
from runtime.fleet.shards import FrameRows, Shards, SpanRow, row_of
from runtime.fleet.work import Job
from runtime.numbers import Count

VIDEOS, MINUTES, FPS = 10_000, 6, 30  # a thousand hours
WORK_S = 1e-3
TABLES = 300  # spans whose tables are really written and added up


class Idle:
    """A worker that works for a millisecond, and answers as one that segments does."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def hello(self) -> tuple[None, str, int]:
        """Nothing to load."""
        return None, "", 0

    def work(self, span: Span, attempt: int) -> tuple[SpanRow, str, int]:
        """A row."""
        time.sleep(WORK_S)
        row = row_of(span, attempt)
        row.frames, row.host, row.engine = 60 * FPS, "here", "none"
        return row, "", 0


def made_up(count: int) -> list[Span]:
    """Spans of a minute."""
    return [Span(f"{n:032x}", f"{n // 6}.mp4", n, n + 1, seconds=60.0) for n in range(count)]


def peak_mib() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plan(out: Path, count: int) -> str:
    """Packet tables of 10,000 videos to spans; key frames lie one to two seconds apart."""
    rng = np.random.default_rng(0)
    start, cpu, before = time.perf_counter(), time.process_time(), peak_mib()
    made: list[Span] = []
    packets = MINUTES * 60 * FPS
    for number in range(VIDEOS):
        keys = np.zeros(packets, bool)
        keys[np.cumsum(rng.integers(FPS, 2 * FPS, size=packets // FPS)) % packets] = keys[0] = True
        table = Packets(np.arange(packets) * 512, keys, Fraction(1, 15_360), exact=True, zero=0)
        places = [Cut(int(table.times[at]), at) for at in cuts(table, 60.0)]
        made += spans(f"drives/{number:05d}.mp4", table, places, "key")
    return (
        f"plan: {VIDEOS:,} videos, {VIDEOS * MINUTES // 60:,} hours, {len(made):,} spans in "
        f"{time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s of CPU; "
        f"{peak_mib():.0f} MiB, {before:.0f} before"
    )


def drive(out: Path, count: int) -> str:
    """Spans through actors that wait a millisecond for each."""
    from runtime.fleet.cluster import RayPool

    memory: list[float] = []

    def told(progress: Progress) -> None:
        if progress.done * 10 >= count * (len(memory) + 1):
            memory.append(peak_mib())

    made = made_up(count)
    with RayPool(Job("none", out), 1, None, Idle, at_once=1) as pool:
        driver = Driver(pool, lambda span: False, told)
        cpu = time.process_time()
        driver.run(made)
        seconds, cpu = time.monotonic() - driver.progress.started, time.process_time() - cpu
    return (
        f"drive: {count:,} spans in {seconds:.1f} s, {1e3 * seconds / count:.2f} ms each by the "
        f"clock, {1e3 * cpu / count:.2f} ms of the driver's CPU; {driver.progress.most} workers; "
        f"memory after each tenth, MiB: {' '.join(f'{mib:.0f}' for mib in memory)}"
    )


def resume(out: Path, count: int) -> str:
    """A second start: which of the planned spans have a file that is whole."""
    folder = out / "finished"
    folder.mkdir(parents=True, exist_ok=True)
    made = made_up(count)
    for span in made:
        (folder / f"{span.id}.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    start, cpu = time.perf_counter(), time.process_time()
    done = Shards(folder).whole()
    left = [span for span in made if span.id not in done]
    seconds = time.perf_counter() - start
    return (
        f"resume: {count:,} finished in {seconds:.1f} s, {time.process_time() - cpu:.1f} s of "
        f"CPU, {len(left)} left; {peak_mib():.0f} MiB"
    )


def tables(out: Path, count: int) -> str:
    """Files of spans of a minute, written one by one and put together."""
    rng = np.random.default_rng(0)
    made, shards = made_up(TABLES), Shards(out / "spans")
    frames = 60 * FPS
    start = time.process_time()
    for span in made:
        rows = FrameRows(CITYSCAPES.names)
        for number, pixels in enumerate(rng.integers(10**5, size=(frames, len(CITYSCAPES)))):
            known = {"time_s": number / FPS, "read_ms": 1.0, "infer_ms": 9.0, "write_ms": 1.0}
            rows.add(pixels, frame=number, pts=number, **known)
        row = row_of(span, 1)
        row.frames = frames
        shards.write(rows.table(span.video), row)
    written = (time.process_time() - start) / TABLES
    size = sum(path.stat().st_size for path in shards.folder.iterdir()) / TABLES
    start = time.process_time()
    summarize(made, [], shards, CITYSCAPES, out)
    joined = (time.process_time() - start) / TABLES
    return (
        f"tables: a span of {frames} frames takes {1e3 * written:.1f} ms of CPU to write, "
        f"{size / 1e3:.0f} kB, and {1e3 * joined:.1f} ms of CPU to put together; "
        f"{peak_mib():.0f} MiB"
    )


PARTS: dict[str, Callable[[Path, int], str]] = {
    "plan": plan,
    "drive": drive,
    "resume": resume,
    "tables": tables,
}


@dataclass(frozen=True)
class FleetCost:
    """Measure what a fleet's driver costs by itself, with made-up videos and workers.

    Prints a line for each part: the plan of 10,000 videos, spans through workers that only wait a
    millisecond, a second start over as many finished spans, and tables of some. Each runs in a
    process whose memory is its own.

    Example: python -m benchmarks.studies.fleet scratch 100000
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for what the driver writes, one a part."""
    spans: Annotated[Count, tyro.conf.Positional] = 100_000
    """Spans that pass through the workers."""
    part: Literal["plan", "drive", "resume", "tables"] | None = None
    """This part alone, in this process."""


def main(config: FleetCost) -> None:
    """Each part in a process of its own."""
    if config.part:
        cli.say(PARTS[config.part](config.out, config.spans))
        return
    for part in PARTS:
        asked = (str(config.out / part), str(config.spans), "--part", part)
        done = subprocess.run(cli.module_command("benchmarks.studies.fleet", *asked))
        if done.returncode:
            raise HedgeError(f"{part}: ended with code {done.returncode}; its message stands above")


if __name__ == "__main__":
    cli.run(FleetCost, main, "python -m benchmarks.studies.fleet")
