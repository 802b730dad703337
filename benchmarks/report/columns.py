"""The columns of the big table: one list for the page, the pull request and the README."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report.names import number, percent, span, speedup, times
from benchmarks.results import Cell, Results

Text = str | None
BRIEF = ("p50 ms", "p95 ms", "fps", "× PyTorch", "mIoU", "boundary F", "model MB", "peak MB")


@dataclass(frozen=True)
class Column:
    """about: what it says; text: of a cell, None where it is not known; note: smaller, below it;
    value: to sort by."""

    head: str
    about: str
    text: Callable[[Cell], Text]
    value: Callable[[Cell], float | None]
    note: Callable[[Cell], Text] = lambda cell: None


def columns(results: Results) -> list[Column]:
    """All that there are; speed-ups are against the PyTorch of the same run."""

    gains = {cell.name: found for cell in results.cells if (found := speedup(results, cell))}

    def faster(cell: Cell) -> float | None:
        return gains[cell.name].value if cell.name in gains else None

    def faster_range(cell: Cell) -> Text:
        found = gains.get(cell.name)
        if found is None or found.low == found.high:
            return None
        return span(found, 2 if found.value < 2 else 1)

    return [
        Column("p50 ms", "median of a frame, and where a repetition's would lie (95 %)",
               lambda c: number(_time(c, "p50")), lambda c: _time(c, "p50"), _interval),
        Column("p95 ms", "19 of 20 frames take no longer",
               lambda c: number(_time(c, "p95")), lambda c: _time(c, "p95")),
        Column("p99 ms", "99 of 100 frames take no longer",
               lambda c: number(_time(c, "p99")), lambda c: _time(c, "p99")),
        Column("fps", "frames a second, one at a time",
               lambda c: number(c.fps), lambda c: c.fps),
        Column("fps in flight", "frames a second with several batches on the way",
               lambda c: number(c.fps_in_flight), lambda c: c.fps_in_flight, _in_flight),
        Column("× PyTorch", "times faster than PyTorch on the same weights and frames, with its "
               "95 % interval", lambda c: times(faster(c)), faster, faster_range),
        Column("mIoU", "on the labelled frames, as this cell answered them",
               lambda c: percent(_score(c, "miou"), 2), lambda c: _score(c, "miou")),
        Column("boundary F", "of the borders between classes, at 3 pixels",
               lambda c: percent(_score(c, "boundary_f"), 2), lambda c: _score(c, "boundary_f")),
        Column("model MB", "files of the bundle that this engine reads",
               lambda c: number(c.model_mb), lambda c: c.model_mb),
        Column("engine MB", "what the engine keeps built on this machine",
               lambda c: number(c.engine_mb), lambda c: c.engine_mb),
        Column("start s", "from the start of the process to its first labels",
               lambda c: number(c.start_s), lambda c: c.start_s),
        Column("peak MB", "memory of the process at its highest",
               lambda c: number(c.peak_mb), lambda c: c.peak_mb),
        Column("GFLOP/s", "reached, and the share of what this machine reaches in that arithmetic",
               lambda c: number(c.gflops), lambda c: c.gflops, _ceiling),
        Column("J a frame", "energy of the whole chip or board while it is busy",
               lambda c: number(c.joules), lambda c: c.joules),
    ]  # fmt: skip


def known(results: Results) -> list[Column]:
    """Those that at least one cell fills."""
    return [one for one in columns(results) if any(map(one.text, results.cells))]


def brief(results: Results) -> list[Column]:
    """Of those, the ones that Markdown has room for."""
    return [column for column in known(results) if column.head in BRIEF]


def _time(cell: Cell, name: str) -> float | None:
    return getattr(cell.timing, name, None)


def _score(cell: Cell, name: str) -> float | None:
    return getattr(cell.accuracy, name, None)


def _interval(cell: Cell) -> Text:
    timing = cell.timing
    if timing is None or timing.low == timing.high:
        return None
    return f"{number(timing.low)}–{number(timing.high)}"


def _in_flight(cell: Cell) -> Text:
    if cell.fps_in_flight is None:
        return None
    return f"{cell.in_flight} at once"


def _ceiling(cell: Cell) -> Text:
    share = percent(cell.ceiling, 0)
    return f"{share} of ceiling" if share else None
