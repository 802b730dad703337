"""All that a run knows so far, and the ``Results`` that follow from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from benchmarks.cells.bare_library import LOOPS
from benchmarks.host.machine import machine
from benchmarks.results import Cell, Results, Stages, Worst
from benchmarks.run.plan import Planned
from benchmarks.run.rounds import LEAST, Rounds
from benchmarks.stats.interval import drift, timing
from runtime import cli


@dataclass
class Record:
    """The rows as they fill, and what belongs to no row; ``results`` can be asked for at any time.

    least: rounds; mious: by cell, of single frames by number; others: cores that other processes
    took.
    """

    planned: Sequence[Planned]
    least: int = LEAST
    rounds: Rounds = field(init=False)
    ceilings: dict[str, float] = field(default_factory=dict)
    mious: dict[str, dict[int, float]] = field(default_factory=dict)
    stages: list[Stages] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: float = 0.0
    _cells: dict[str, Cell] = field(init=False)
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._cells = {planned.cell.name: planned.cell for planned in self.planned}
        programs = frozenset(n for n, cell in self._cells.items() if is_program(cell))
        self.rounds = Rounds(programs, self.least)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._began

    def change(self, planned: Planned, **facts: Any) -> None:
        """Fill fields of a cell's row."""
        name = planned.cell.name
        self._cells[name] = replace(self._cells[name], **facts)

    def note(self, text: str) -> None:
        """What a reader must know, told at once and in the report."""
        self.notes.append(text)
        cli.warn(text)

    def cell(self, planned: Planned) -> Cell:
        """The row with all that follows from what was measured."""
        cell = self._cells[planned.cell.name]
        samples = self.rounds.samples.get(cell.name)
        cell = replace(cell, error=cell.error or self.rounds.lost.get(cell.name))
        if not samples:
            return cell
        cell = replace(cell, timing=timing(samples, drift(self.rounds.samples.values())))
        if cell.multiply_adds is None:
            return cell
        gflops = 2 * cell.multiply_adds / median(samples) / 1e6
        highest = None if on_gpu(cell) else self.ceilings.get(cell.computes)
        return replace(cell, gflops=gflops, ceiling=gflops / highest if highest else None)

    def arithmetic(self, bare: Cell) -> str:
        """What the engine computes in that a bare cell is the bare form of."""
        same = ("bundle", bare.bundle, bare.backend)
        cells = self._cells.values()
        return next((c.computes for c in cells if (c.kind, c.bundle, c.backend) == same), "")

    def bundles(self) -> list[tuple[Planned, Cell]]:
        """The cells of our engines that have an answer to everything."""
        rows = [(p, self.cell(p)) for p in self.planned if p.cell.kind == "bundle"]
        return [(planned, cell) for planned, cell in rows if cell.error is None]

    def results(self, data: str, threads: int, quick: bool) -> Results:
        """All that is known by now."""
        models = {planned.model.name: planned.model for planned in self.planned}
        passports = {name: model.manifest.calibration for name, model in models.items()}
        searches = {name: model.search() for name, model in models.items()}
        return Results(
            machine=machine(),
            cells=[self.cell(planned) for planned in self.planned],
            data=data,
            threads=threads,
            seconds=self.seconds,
            quick=quick,
            ceilings=self.ceilings,
            stages=self.stages,
            worst=self.worst,
            passports={name: known for name, known in passports.items() if known},
            sensitivity={name: known for name, known in searches.items() if known},
            notes=self.notes,
            others=self.others,
        )


def is_program(cell: Cell) -> bool:
    """Whether it is the library's own benchmark, a process for each sample."""
    return cell.kind == "bare" and cell.way not in LOOPS


def on_gpu(cell: Cell) -> bool:
    """Whether the CPU's ceilings mean nothing to it."""
    return cell.device == "cuda"
