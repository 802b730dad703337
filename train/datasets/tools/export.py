"""What a labelling tool exported, in one form: pictures, and the things outlined in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from train.datasets.index import Fault, SizeMismatchError
from train.datasets.tools.tree import Tree

BACKGROUND = "background"

Color = tuple[int, int, int]
Size = tuple[int, int]  # height, width
# (class, (H, W) bool) from the lowest to the topmost.
Layers = Iterable[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Picture:
    """One labelled picture.

    image: its file, in the tree of the export; layers: what is drawn on a label of the size that
    the picture has, HedgeError where that is impossible; origin: the file that its labels stand
    in; split: "train", "val", "test" or "" where the tool says none; content: the picture's bytes
    where no file holds them, ``image`` then only names it; video: the video that it is a frame of.
    """

    image: Path
    layers: Callable[[Size], Layers]
    origin: Path
    split: str = ""
    content: Callable[[], bytes] | None = None
    video: str = ""


@dataclass(frozen=True)
class Export:
    """All that a tool exported.

    names: the classes in the order of the tool; unlabelled: the class of a pixel without a label,
    "" where such a pixel counts nowhere; ignored: classes that count nowhere; notes: warnings
    of what was left out or decided; faults: what is wrong beside the pictures.
    """

    names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    colors: dict[str, Color] = field(default_factory=dict)
    unlabelled: str = BACKGROUND
    ignored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Tool:
    """One format of labelling tools: is a tree laid out so, and what does it hold?"""

    name: str
    fits: Callable[[Tree], bool]
    read: Callable[[Tree], Export]


def require_size(name: str, claimed: tuple[int | None, int | None], size: Size) -> None:
    """Raise SizeMismatchError where an export has another size (H, W) for a picture than it has."""
    height, width = claimed
    if height and width and (height, width) != size:
        raise SizeMismatchError(
            f"{name}: {width}x{height} when it was labelled, but the picture is "
            f"{size[1]}x{size[0]}; take the pictures that were labelled"
        )


def background(names: Iterable[str]) -> str:
    """The class of pixels without a label: the one of this name, as LabelMe spells it
    (_background_) or others do."""
    return next((name for name in names if name.strip("_").lower() == BACKGROUND), BACKGROUND)


def counted(what: str, counts: dict[str, int]) -> tuple[str, ...]:
    """A note that names what was left out, by kind and number; none where nothing was."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()) if number)
    return (f"{what}: {kinds}",) if kinds else ()
