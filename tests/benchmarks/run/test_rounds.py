"""Taking turns: order, rounds, when it ends, and what a lost cell costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from benchmarks.cells.process import LostError
from benchmarks.run import rounds
from benchmarks.run.rounds import LEAST, Rounds


@dataclass
class Scripted:
    """Answers from a list, over and over; dies in the round that is named."""

    answers: list[float]
    dies: int | None = None
    asked: list[int] = field(default_factory=list)

    def measure(self, number: int) -> float:
        """The next answer."""
        self.asked.append(number)
        if number == self.dies:
            raise LostError("gone")
        return self.answers[number % len(self.answers)]


def _nobody(text: str) -> None:
    pass


def test_steady_cells_are_done_after_the_least_rounds() -> None:
    taken = Rounds()
    taken.run({"a": Scripted([5.0]), "b": Scripted([9.0])}, 60, _nobody)
    assert taken.samples == {"a": [5.0] * LEAST, "b": [9.0] * LEAST}
    assert not taken.lost


def test_without_time_there_are_the_least_rounds() -> None:
    taken = Rounds()
    taken.run({"a": Scripted([5.0, 9.0, 6.0])}, 0, _nobody)
    assert len(taken.samples["a"]) == LEAST


def test_it_goes_on_while_one_interval_is_wide() -> None:
    taken = Rounds()
    unsteady = Scripted([100.0 + n % 7 for n in range(60)])
    taken.run({"steady": Scripted([5.0]), "unsteady": unsteady}, 60, _nobody)
    assert len(taken.samples["steady"]) == len(taken.samples["unsteady"]) > LEAST


def test_a_cell_that_dies_keeps_its_samples_and_the_rest_goes_on() -> None:
    taken = Rounds()
    taken.run({"a": Scripted([5.0]), "b": Scripted([9.0], dies=3)}, 0, _nobody)
    assert taken.samples == {"a": [5.0] * LEAST, "b": [9.0] * 3}
    assert taken.lost == {"b": "gone"}


def test_a_cell_that_dies_at_once_has_no_samples() -> None:
    taken = Rounds()
    taken.run({"a": Scripted([5.0], dies=0)}, 0, _nobody)
    assert taken.samples == {} and taken.lost == {"a": "gone"}


def test_the_order_changes_from_round_to_round() -> None:
    order: list[str] = []
    taken = Rounds()
    cells = {name: Scripted([5.0]) for name in "abc"}
    taken.run(cells, 0, lambda text: order.append(text[-1]))
    turns = ["".join(order[n : n + 3]) for n in range(0, len(order), 3)]
    assert len(turns) == LEAST and len(set(turns)) > 1
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)


def test_programs_have_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_000_000))  # every look at it is a second later
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: float(next(clock)))
    program, cell = Scripted([50.0]), Scripted([100.0 + n % 7 for n in range(60)])
    taken = Rounds(frozenset({"program"}))
    taken.run({"cell": cell, "program": program}, 600, _nobody)
    assert program.asked[0] == 0
    assert 1 < len(program.asked) < len(cell.asked) / 2
