"""A split of labelled data whose classes are a model's."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from train.datasets import audit, open_index
from train.datasets.index import Index


def matching_index(data: Path, classes: ClassSet, split: str) -> Index:
    """A split whose classes are those of a model; refuses others, warns of odd labels."""
    index = open_index(data, split)
    there, known = index.classes.names, classes.names
    if there != known:
        first = next(i for i, (a, b) in enumerate(zip_longest(there, known)) if a != b)
        raise HedgeError(
            f"{index.root}: {len(there)} classes, but the model knows {len(known)}; class {first} "
            f"is {(*there, 'none')[first]} here and {(*known, 'none')[first]} there"
        )
    audit.warn_of(index)
    return index
