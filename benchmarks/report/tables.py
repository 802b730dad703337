"""The tables of a report, for the page, the pull request, the README and the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.report.numbers import number, percent, proper, span, times
from benchmarks.report.rows import Row
from benchmarks.report.view import View
from benchmarks.results import Fact

Text = str | None
Lines = Sequence[Sequence[str]]  # the first names the columns
BRIEF = ("p50 ms", "p95 ms", "fps", "× PyTorch", "mIoU", "boundary F", "model MB", "peak MB")


@dataclass(frozen=True)
class Column:
    """about: what it says; text: of a row, None where it is not known; value: to sort by; note:
    smaller, below the text."""

    head: str
    about: str
    value: Callable[[Row], float | None]
    text: Callable[[float | None], Text] = number
    note: Callable[[Row], Text] = lambda row: None

    def shows(self, row: Row) -> Text:
        """The text of a row."""
        return self.text(self.value(row))


def _time(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.cell.timing, name, None)


def _score(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.cell.accuracy, name, None)


def _field(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.cell, name)


def _interval(row: Row) -> Text:
    timing = row.cell.timing
    if timing is None or timing.low == timing.high:
        return None
    return f"{number(timing.low)}–{number(timing.high)}"


def _in_flight(row: Row) -> Text:
    return f"{row.cell.in_flight} at once" if row.cell.fps_in_flight is not None else None


def _ceiling(row: Row) -> Text:
    share = percent(row.cell.ceiling, 0)
    return f"{share} of ceiling" if share else None


POINTS = partial(percent, digits=2)
COLUMNS = (
    Column("p50 ms", "median of a frame, and where a repetition's would lie (95 %)",
           _time("p50"), note=_interval),
    Column("p95 ms", "19 of 20 frames take no longer", _time("p95")),
    Column("p99 ms", "99 of 100 frames take no longer", _time("p99")),
    Column("fps", "frames a second, one at a time", _field("fps")),
    Column("fps in flight", "frames a second with several batches on the way",
           _field("fps_in_flight"), note=_in_flight),
    Column("× PyTorch", "times faster than PyTorch on the same weights and frames, with its 95 % "
           "interval", lambda row: row.faster.value if row.faster else None, times,
           lambda row: span(row.faster)),
    Column("mIoU", "on the labelled frames, as this cell answered them", _score("miou"), POINTS),
    Column("boundary F", "of the borders between classes, at 3 pixels", _score("boundary_f"),
           POINTS),
    Column("model MB", "files of the bundle that this engine reads", _field("model_mb")),
    Column("engine MB", "what the engine keeps built on this machine", _field("engine_mb")),
    Column("start s", "from the start of the process to its first labels", _field("start_s")),
    Column("peak MB", "memory of the process at its highest", _field("peak_mb")),
    Column("GPU MB", "memory of the GPU that the start took", _field("gpu_mb")),
    Column("GFLOP/s", "reached, and the share of what this machine reaches in that arithmetic",
           _field("gflops"), note=_ceiling),
    Column("J a frame", "energy of the whole chip or board while it is busy", _field("joules")),
)  # fmt: skip

COSTS = ("cost of", "model", "engine", "with, ms", "without, ms", "% of the frame", "at least",
         "at most")  # fmt: skip
PIPELINES = ("model", "engine ms", "labels only", "overlay + H.264", "× naive loop", "tail %",
             "CPU ms: engine", "labels add", "overlay + H.264 add")  # fmt: skip

LAYERS = ("model", "engine", "layers", "nodes", "ms", "% of the frame", "GFLOP/s", "% of ceiling",
          "GB/s", "% of memory's")  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """columns: those that at least one row fills, unknown: heads of the others; cells, costs,
    layers, pipelines: what Markdown has room for; footer: where and how this was measured, in a
    line."""

    columns: Sequence[Column]
    unknown: Sequence[str]
    cells: Lines
    costs: Lines
    layers: Lines
    pipelines: Lines
    footer: str

    @property
    def filled(self) -> list[Lines]:
        """Those that hold more than their heads."""
        return [
            lines for lines in (self.cells, self.costs, self.layers, self.pipelines) if lines[1:]
        ]


def tabulate(view: View, notes: bool = False) -> Tables:
    """Write the view down; notes: put those of the columns, such as intervals, into ``cells``."""
    known = [column for column in COLUMNS if any(map(column.shows, view.rows))]
    unknown = [column.head for column in COLUMNS if column not in known]
    brief = [column for column in known if column.head in BRIEF]
    return Tables(
        known,
        unknown,
        _cells(view, brief, notes),
        _costs(view),
        _layers(view),
        _pipelines(view),
        _footer(view),
    )


def _cells(view: View, shown: Sequence[Column], notes: bool) -> Lines:
    """Every bundle and peer that was timed."""
    rows = [row for row in view.rows if row.cell.kind != "bare" and row.cell.timing]

    def line(row: Row) -> Iterator[str]:
        yield row.model
        yield row.way + _apart(row, rows)
        for column in shown:
            note = column.note(row) if notes else None
            yield (column.shows(row) or "–") + (f" ({note})" if note else "")

    return [("model", "engine", *(column.head for column in shown)), *map(tuple, map(line, rows))]


def _costs(view: View) -> Lines:
    """What SE, edges and our own code take of a frame."""
    return [
        COSTS,
        *(
            (one.part, one.whole.lines[1], one.whole.way, f"{one.whole.p50:.2f}",
             f"{one.rest.p50:.2f}",
             *(f"{100 * x:.1f}" for x in (one.share.value, one.share.low, one.share.high)))
            for one in view.costs
        ),
    ]  # fmt: skip


def _layers(view: View) -> Lines:
    """Where a frame goes in the engines, and what is left to their limits."""

    def whole(share: float | None) -> str:
        return "–" if share is None else f"{100 * share:.0f}"

    return [
        LAYERS,
        *(
            (one.row.model, one.row.way, one.kind, str(one.nodes), f"{one.ms:.2f}", whole(one.part),
             number(one.gflops) or "–", whole(one.of_arithmetic),
             number(one.gbs) or "–", whole(one.of_memory))
            for one in view.layers
        ),
    ]  # fmt: skip


def _pipelines(view: View) -> Lines:
    """What the video pipeline keeps of its engine's speed."""
    return [
        PIPELINES,
        *(
            (one.model, f"{one.engine_ms:.1f}", f"{one.labels:.2f}", f"{one.overlay:.2f}",
             f"{one.times_naive:.2f}", f"{100 * one.tail:.1f}", f"{one.cpu_ms['engine']:.1f}",
             *(f"{one.cpu_ms[way] - one.cpu_ms['engine']:+.1f}" for way in ("labels", "overlay")))
            for one in view.results.pipelines
        ),
    ]  # fmt: skip


def is_words(lines: Lines, number: int) -> bool:
    """Whether a column holds anything else than numbers."""
    return any(not re.match(r"[-+–\d]", line[number]) for line in lines[1:])


def _footer(view: View) -> str:
    """Where and how this was measured, in a line."""
    results, machine = view.results, view.results.machine
    versions = machine.get("versions")
    found = versions.items() if isinstance(versions, Mapping) else ()
    gpus = machine.get("gpus")
    sizes = dict.fromkeys(f"{c.input[1]}×{c.input[2]}" for c in results.cells if any(c.input))
    threads = f"{results.threads} threads" if results.threads else "threads as each library likes"
    rounds = max((len(c.timing.samples) for c in results.cells if c.timing), default=0)
    scored = any(cell.accuracy for cell in results.cells)
    parts = [
        machine.get("cpu"),
        ", ".join(gpus) if isinstance(gpus, (list, tuple)) else None,
        _cores(machine),
        threads,
        ", ".join(f"{proper(name)} {version}" for name, version in found),
        f"{', '.join(sizes)} pixels" if sizes else None,
        f"medians of up to {rounds} interleaved rounds" + " (a quick run)" * results.quick
        if rounds
        else None,
        ("accuracy on " if scored else "accuracy not measured: ") + (results.data or "no data"),
    ]
    return "; ".join(str(part) for part in parts if part)


def _cores(machine: Mapping[str, Fact]) -> str | None:
    """How many there are, and how much of their time a container with a quota gets."""
    cores, granted = machine.get("cores"), machine.get("granted_cores")
    if not isinstance(cores, int) or cores < 1:
        return None
    if isinstance(granted, (int, float)) and granted < cores:
        return f"{cores} cores, time of {granted:g} granted"
    return f"{cores} cores"


def _apart(row: Row, rows: Sequence[Row]) -> str:
    """The input's size and the cell's name, where they tell two rows apart."""
    same = [one.cell for one in rows if (one.model, one.way) == (row.model, row.way)]
    size = f", {'×'.join(map(str, row.cell.input))}" if len({c.input for c in same}) > 1 else ""
    twice = sum(cell.input == row.cell.input for cell in same) > 1
    return size + (f", {row.cell.bundle or row.cell.name}" if twice else "")
