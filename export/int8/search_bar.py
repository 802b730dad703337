"""A search for the mIoU budget in the terminal: a bar, and above it a line for each try."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn

from export.int8.search_log import Step, kept_names
from export.verify import Budget
from runtime import cli

Thing = TypeVar("Thing")


class SearchBar(Progress):
    """One bar for the whole search, which fits 80 columns; ``most``: tries that there can be.

    A try measures a set of layers on all frames; before the first one that keeps a layer, each
    layer is looked at alone. ``most`` falls as the search learns how many layers it needs.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            TextColumn("{task.fields[left]}"),
            console=cli.err,
            transient=True,  # the lines of the tries stay
        )
        self._budget = budget
        self._task = self.add_task("INT8", left="")
        self._tries_s: list[float] = []
        self._ahead = 0
        self._begun = time.perf_counter()

    def layers(self, names: Iterable[Thing], total: int) -> Iterator[Thing]:
        """Iterate over the layers that are looked at alone."""
        started = time.perf_counter()
        for number, name in enumerate(names, 1):
            mean_s = (time.perf_counter() - started) / max(number - 1, 1)
            left = _left(mean_s * (total - number + 1)) if number > 1 else ""
            text = f"layer {number} of {total} alone in INT8"
            self.update(self._task, description=text, completed=number - 1, total=total, left=left)
            yield name

    def begin(self, number: int, most: int, kept: int) -> None:
        """Before the engine of the ``number``-th try is built, of at most ``most``."""
        self._begun = time.perf_counter()
        most = max(most, number)
        self._ahead = most - number
        text = f"try {number} of at most {most}, {kept} in floating point"
        self.update(self._task, description=text, completed=0)

    def frames(self, frames: Iterable[Thing], total: int) -> Iterator[Thing]:
        """Iterate over the frames of the try that began."""
        started = time.perf_counter()
        built_s = started - self._begun  # of an engine for a GPU most of it
        self.update(self._task, total=total)
        for count, frame in enumerate(frames):
            gone = time.perf_counter() - self._begun
            whole = built_s + (gone - built_s) / count * total if count else 0.0
            mean_s = sum([*self._tries_s, whole]) / (len(self._tries_s) + 1)
            left = max(whole - gone, 0.0) + mean_s * self._ahead
            text = f"at most {_left(left)}" if whole or self._tries_s else ""
            self.update(self._task, completed=count, left=text)
            yield frame
        self.update(self._task, completed=total)
        self._tries_s.append(time.perf_counter() - self._begun)

    def tried(self, number: int, step: Step) -> None:
        """A line of what a try lost, which stays."""
        drop, held = step.drop, "within" if self._budget.holds(step.drop) else "over"
        self.console.print(
            f"try {number}: lost {drop.miou:.2f} of mIoU, {drop.worst:.2f} of {drop.worst_class}, "
            f"{held} the budget; {step.ms:.1f} ms; took {self._tries_s[-1]:.1f} s; "
            f"in floating point: {kept_names(step.kept, 2)}",
            soft_wrap=True,
        )


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min left" if minutes >= 10 else f"{minutes}:{rest:02d} left"
