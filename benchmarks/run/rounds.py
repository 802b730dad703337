"""All cells in turn, round after round, until their medians are known well enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from benchmarks.cells.process import LostError
from benchmarks.stats.interval import timing, width
from runtime.latency import Interleaved

LEAST = 15  # rounds, however short the time
NARROW = 0.02  # the intervals of all cells, for the rounds to end before their time
SHARE = 0.1  # of the time that programs, which take seconds each time, may have

Tell = Callable[[str], None]


class Measured(Protocol):
    """What takes part: ``benchmarks.cells.process.Child``."""

    def measure(self, number: int) -> float:
        """Milliseconds a frame; LostError where there is no answer."""


@dataclass
class Rounds:
    """Samples by cell, as far as they have come; ``lost``: why a cell has no more.

    programs: names of cells that are not asked in every round, but as long as together they have
    taken less than SHARE of the time; their samples belong to no round. least: rounds.
    """

    programs: frozenset[str] = frozenset()
    least: int = LEAST
    samples: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    _spent: float = 0.0

    def run(self, cells: Mapping[str, Measured], seconds: float, tell: Tell) -> None:
        """Go on until every interval is narrow or the time is over, but at least ``least`` rounds.

        tell: is told of each round.
        """
        start, self._spent = time.perf_counter(), 0.0
        end = start + seconds
        timed = Interleaved[int](
            {name: partial(self._measured, name, cell, tell) for name, cell in cells.items()},
            self.samples,
        )
        while timed.calls and not (timed.rounds >= self.least and self._done(timed, end)):
            spent = self._spent > SHARE * (time.perf_counter() - start)
            timed.round(timed.rounds, leave_out=self.programs if spent else ())

    def _measured(self, name: str, cell: Measured, tell: Tell, number: int) -> float | None:
        tell(f"round {number + 1}: {name}")
        start = time.perf_counter()
        try:
            return cell.measure(number)
        except LostError as error:
            self.lost[name] = str(error)
            return None
        finally:
            if name in self.programs:
                self._spent += time.perf_counter() - start

    def _done(self, timed: Interleaved[int], end: float) -> bool:
        if time.perf_counter() >= end:
            return True
        regular = (name for name in timed.calls if name not in self.programs)
        return all(width(timing(self.samples[name])) <= NARROW for name in regular)
