"""Scores in the terminal: by class, what is taken for what, and the worst images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.table import Column, Table
from rich.text import Text

Values = Mapping[str, float | None]
_SHOWN = 5  # rows of what is worst


def by_class(title: str, columns: Mapping[str, Values], means: Sequence[float | None]) -> Table:
    """A row a class with its values in 0..1 as percentages, and their means in the last.

    columns: by their heading, the values by class name; means: one for each column.
    """
    right = (Column(heading, justify="right") for heading in columns)
    table = Table("class", *right, title=title, title_justify="left")
    for name in next(iter(columns.values())):
        table.add_row(Text(name), *(percent(values[name]) for values in columns.values()))
    table.add_section()
    table.add_row("mean", *map(percent, means), style="bold")
    return table


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that there are; None of none."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else None


def confusions(pairs: Sequence[tuple[str, str, float]]) -> Table:
    """The largest of ``ConfusionMatrix.confusions``."""
    share = Column("of its pixels %", justify="right")
    table = Table("class", "taken for", share, title="most confused", title_justify="left")
    for name, other, value in pairs[:_SHOWN]:
        table.add_row(Text(name), Text(other), percent(value))
    return table


def worst(images: Sequence[tuple[str, float]]) -> Table:
    """The first of ``Evaluation.worst_first``."""
    heading = Column("mIoU %", justify="right")
    table = Table(Column("image", overflow="fold"), heading, title="worst images",
                  title_justify="left")  # fmt: skip
    for name, miou in images[:_SHOWN]:
        table.add_row(Text(name), percent(miou))
    return table


def percent(value: float | None) -> str:
    """A share in 0..1 as a percentage; a dash where there is none."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.2f}"
