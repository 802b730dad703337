"""Planned cells → what was found, with a bar over the time and a report also when interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from benchmarks.results import Results
from benchmarks.run import frames
from benchmarks.run.frames import Frames
from benchmarks.run.plan import Planned, Shared
from benchmarks.run.probes import TIMES_ONLY
from benchmarks.run.record import Record
from benchmarks.run.runner import Run, Settings
from runtime import cli

PATIENCE_S = 60.0
INTERRUPTED = "interrupted: this is what had been measured by then"


def measured(
    planned: Sequence[Planned], shown: Frames, settings: Settings, scratch: Path
) -> tuple[Results, bool]:
    """Measure the cells: what was found, and whether it was interrupted: then, what was by then.

    scratch: a folder that outlives the results, for the worst frames' pictures.
    """
    record = Record(planned, settings.rounds)
    interrupted = False
    with _bar(record, settings.seconds) as tell:
        try:
            Run(record, shown, settings, scratch, tell).measure()
        except KeyboardInterrupt:
            interrupted = True
            record.note(INTERRUPTED)
    return record.results(shown.data, settings.threads, settings.quick), interrupted


def timed(
    make: Callable[[Shared], Iterable[Planned]], threads: int, rounds: int, scratch: Path
) -> tuple[Results, bool]:
    """Time the cells that ``make`` plans for so many rounds, on drawn streets, and nothing else;
    otherwise as ``measured``."""
    shown = frames.gather(None, None, 0, scratch)
    planned = list(make(Shared(threads, shown.path, scratch)))
    settings = Settings(threads, 0.0, TIMES_ONLY, PATIENCE_S, rounds=rounds)
    return measured(planned, shown, settings, scratch)


def joined(parts: Sequence[Results]) -> Results:
    """Runs of one command on one machine as one: cells of all, the most that others took."""
    return replace(
        parts[0],
        cells=[cell for part in parts for cell in part.cells],
        seconds=sum(part.seconds for part in parts),
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
        others=max(part.others for part in parts),
    )


@contextmanager
def _bar(record: Record, seconds: float) -> Iterator[Callable[[str], None]]:
    """A bar over the run's time; yields what is told what happens now."""
    columns = (
        SpinnerColumn(), BarColumn(20), TextColumn("{task.fields[left]:.0f} s left"),
        TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    cells = len(record.planned)
    with Progress(*columns, console=cli.err, transient=True) as progress:
        task = progress.add_task(f"{cells} cells", total=seconds, left=seconds)

        def tell(text: str) -> None:
            left = max(0.0, seconds - record.seconds)
            said = f"{cells} cells · {text}"
            progress.update(task, description=said, completed=seconds - left, left=left)

        yield tell
