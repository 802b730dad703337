"""Several data sets as one: the first one's classes, the others' classes found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from runtime import cli
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from train.datasets.index import Index

Reader = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Portion:
    """A data set beside the first, each of whose images is drawn ``weight`` times as often."""

    data: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Portion:
        """From ``PATH`` or ``PATH:WEIGHT``; HedgeError where the weight is not above 0."""
        path, _, number = text.rpartition(":")
        if not path:
            return cls(Path(text))
        try:
            portion = cls(Path(path), float(number))
        except ValueError:
            return cls(Path(text))
        if not 0 < portion.weight < float("inf"):
            raise HedgeError(f"--also {text}: a weight is a positive number")
        return portion


def mixed(first: Index, others: list[tuple[Index, float]], quiet: bool = False) -> Index:
    """``first`` and the ``others`` as one index with first's classes.

    A class of another is the one of that name; without one its pixels are ignored, and a line says
    so unless ``quiet``. HedgeError where a data set shares no class at all with the first.
    """
    if not others:
        return first
    readers = {item.label: first.read_label for item in first.items}
    items, weights = list(first.items), [1.0] * len(first)
    for index, weight in others:
        table = _table(index, first.classes, quiet)
        read = partial(_read, index.read_label, table)
        readers |= {item.label: read for item in index.items}
        items += index.items
        weights += [weight] * len(index)
    read_label = partial(_read_by_path, readers)
    return replace(first, items=tuple(items), read_label=read_label, weights=np.array(weights))


def _table(index: Index, classes: ClassSet, quiet: bool) -> np.ndarray:
    """(256,) uint8: ids of ``index`` → ids of ``classes``, IGNORE where there is no such class."""
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    unknown = []
    for number, name in enumerate(index.classes.names):
        if name in classes.names:
            table[number] = classes.names.index(name)
        else:
            unknown.append(name)
    if len(unknown) == len(index.classes):
        raise HedgeError(
            f"{index.root}: none of its classes ({', '.join(unknown[:4])}, …) is one of --data's; "
            "name them alike in its classes.json"
        )
    if unknown and not quiet:
        cli.warn(f"{index.root}: ignored, as --data has no such class: {', '.join(unknown)}")
    return table


def _read(read_label: Reader, table: np.ndarray, path: Path) -> np.ndarray:
    return table[read_label(path)]


def _read_by_path(readers: dict[Path, Reader], path: Path) -> np.ndarray:
    return readers[path](path)
