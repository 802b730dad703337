"""A split of a data set as pairs of files, and how such a pair becomes an image and its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.images import read_rgb

Thing = TypeVar("Thing")


class Problem(Enum):
    """What can be wrong with a data set; the value is how it is called in reports."""

    CLASS_LIST = "class list not usable"
    EMPTY_SPLIT = "split missing or empty"
    BAD_LINE = "line not understood"
    MISSING_FILE = "listed file missing"
    MISSING_LABEL = "image without label"
    ORPHAN_LABEL = "label without image"
    DUPLICATE = "name used twice"
    UNREADABLE = "file not readable"
    SIZE_MISMATCH = "sizes differ"
    UNKNOWN_ID = "unknown label ids"
    OVERLAP = "image in train and in val"


class SizeMismatchError(HedgeError):
    """An image, its label and its edges are not all of one size."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: its kind, where, and one sentence that says cause and fix."""

    problem: Problem
    path: Path
    detail: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{place}: {self.detail}"


@dataclass(frozen=True)
class Item:
    """One labelled image.

    name: unique in its split, normally the image's stem; edges: an offline edge map, 8-bit gray
    (list files only).
    """

    name: str
    image: Path
    label: Path
    edges: Path | None = None


@dataclass(frozen=True)
class Index:
    """A split of a data set: its items in a fixed order, and how to read them.

    read_label: path → (H, W) uint8 training ids, IGNORE = 255; weights: (items,) how often each is
    drawn in training, relative to the others; None where all are alike.
    """

    root: Path
    split: str
    layout: str
    classes: ClassSet
    items: tuple[Item, ...]
    read_label: Callable[[Path], np.ndarray]
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.items)

    def read(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB image and (H, W) uint8 training ids (255 = ignore) of an item.

        HedgeError names a file that does not decode whole, a label of another size than its image,
        or one that holds ids outside the class list.
        """
        image, label = read_rgb(item.image), self.read_label(item.label)
        require_same_size(item.label, label.shape, item.image, image.shape)
        return image, label

    def read_edges(self, item: Item) -> np.ndarray | None:
        """(H, W) uint8 edge strength 0..255 of an item, or None where the list names none.

        HedgeError names a file that is not 8-bit gray or has another size than its image.
        """
        if item.edges is None:
            return None
        edges = read_edge_map(item.edges)
        require_same_size(item.edges, edges.shape, item.image, _header_shape(item.image))
        return edges


@dataclass(frozen=True)
class Survey:
    """What was found at a split: everything that pairs up, and everything that does not."""

    index: Index
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Layout:
    """One way to lay a data set out on disk.

    fits: is this path laid out so? survey: the pairs of a split and its faults, without opening
    a single image.
    """

    name: str
    fits: Callable[[Path], bool]
    survey: Callable[[Path, str], Survey]


def read_edge_map(path: Path) -> np.ndarray:
    """(H, W) uint8 edge strength 0..255; HedgeError names a file that is not 8-bit gray."""
    return decode(path, {"L"}, "an edge map")


def decode(path: Path, modes: set[str], what: str) -> np.ndarray:
    """The pixels of an image whose PIL mode is one of ``modes``; HedgeError names any other file.

    what: how the error calls it, "an edge map".
    """
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                allowed = " or ".join(sorted(modes))
                raise HedgeError(f"{path}: {what} must have mode {allowed}, not {image.mode}")
            return np.asarray(image)
    except HedgeError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HedgeError(f"{path}: not readable as {what}: {error}") from error


def _header_shape(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HedgeError(f"{path}: not a readable image: {error}") from error


def require_same_size(
    path: Path, shape: tuple[int, ...], other: Path, wanted: tuple[int, ...]
) -> None:
    """Raise SizeMismatchError unless the shapes of two files' pixels share height and width."""
    if shape[:2] != wanted[:2]:
        here, there = (f"{s[1]}x{s[0]}" for s in (shape, wanted))
        raise SizeMismatchError(f"{path}: {here}, but {other.name} is {there}; they must agree")


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """The visible files of a folder that match, sorted; none where there is no such folder."""
    found = (path for path in folder.glob(pattern) if not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def pair(
    images: Iterable[tuple[str, Path]], labels: dict[str, Path], split: str, folder: Path
) -> tuple[tuple[Item, ...], list[Fault]]:
    """Match images to labels by key: the pairs, and a fault for each file left over.

    images: (key, path) in the order wanted; labels: key → path; folder: where images should be.
    """
    items: dict[str, Item] = {}
    faults: list[Fault] = []
    seen: dict[str, Path] = {}
    for key, image in images:
        if key in seen:
            detail = f"shares its name with {seen[key].name}; rename or remove one"
            faults.append(Fault(Problem.DUPLICATE, image, detail))
        elif key not in labels:
            detail = "no label of this name; add the label or remove the image"
            faults.append(Fault(Problem.MISSING_LABEL, image, detail))
        else:
            items[key] = Item(image.stem, image, labels[key])
        seen.setdefault(key, image)
    if not seen:
        faults.insert(0, Fault(Problem.EMPTY_SPLIT, folder, f"no images of the split '{split}'"))
    faults += [
        Fault(Problem.ORPHAN_LABEL, path, "no image of this name; add the image or remove it")
        for key, path in labels.items()
        if key not in seen
    ]
    return tuple(items.values()), faults


def evenly_spaced(items: Sequence[Thing], count: int) -> list[Thing]:
    """``count`` items spread over the whole sequence, all of them where it holds fewer."""
    if len(items) <= count:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def load_classes(path: Path) -> tuple[ClassSet, list[Fault]]:
    """The class list of a file, or stand-ins for all 255 ids and the fault that made them so."""
    try:
        if path.is_file():
            return ClassSet.load(path), []
        detail = f'not there; it names the classes: {{"classes": [{_EXAMPLE}, ...]}}'
    except HedgeError as error:
        detail = str(error).removeprefix(f"{path}: ")
    names = tuple(f"id {i}" for i in range(IGNORE))
    stand_ins = ClassSet(names, ((0, 0, 0),) * IGNORE)
    return stand_ins, [Fault(Problem.CLASS_LIST, path, detail)]


_EXAMPLE = '{"name": "road", "color": [128, 64, 128]}'
