"""All cells in turn, round after round, so that a machine whose speed drifts treats them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.cells.process import LostError
from benchmarks.stats.interval import timing, width

LEAST = 15  # rounds, however short the time
NARROW = 0.02  # the intervals of all cells, for the rounds to end before their time
SHARE = 0.1  # of the time that programs, which take seconds each time, may have


class Measured(Protocol):
    """What takes part: ``benchmarks.cells.process.Child``."""

    def measure(self, number: int) -> float:
        """Milliseconds a frame; LostError where there is no answer."""


@dataclass
class Rounds:
    """Samples by cell, as far as they have come; ``lost``: why a cell has no more.

    programs: names of cells that are not asked in every round, but as long as together they have
    taken less than SHARE of the time; their samples belong to no round.
    """

    programs: frozenset[str] = frozenset()
    samples: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    count: int = 0
    _spent: float = 0.0

    def run(
        self, cells: Mapping[str, Measured], seconds: float, tell: Callable[[str], None]
    ) -> None:
        """Go on until every interval is narrow or the time is over, but at least LEAST rounds.

        The order changes with every round, for a cell's neighbour leaves its traces in the caches
        and in what its library's threads still do. tell: is told of each round.
        """
        start, number, self._spent = time.perf_counter(), 0, 0.0
        shuffle, order = random.Random(0), list(cells)
        while order and not (number >= LEAST and self._done(order, start + seconds)):
            shuffle.shuffle(order)
            for name in list(order):
                if self._waits(name, start):
                    continue
                tell(f"round {number + 1}: {name}")
                if not self._measured(name, cells[name], number):
                    order.remove(name)
            number += 1
        self.count = max(self.count, number)

    def _measured(self, name: str, cell: Measured, number: int) -> bool:
        start = time.perf_counter()
        try:
            ms = cell.measure(number)
        except LostError as error:
            self.lost[name] = str(error)
            return False
        self.samples.setdefault(name, []).append(ms)
        if name in self.programs:
            self._spent += time.perf_counter() - start
        return True

    def _waits(self, name: str, start: float) -> bool:
        """Whether programs have had their share of the time, and this one has a sample."""
        if name not in self.programs or name not in self.samples:
            return False
        return self._spent > SHARE * (time.perf_counter() - start)

    def _done(self, order: list[str], end: float) -> bool:
        if time.perf_counter() >= end:
            return True
        regular = (name for name in order if name not in self.programs)
        return all(width(timing(self.samples[name])) <= NARROW for name in regular)
