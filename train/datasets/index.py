"""A split of a data set as pairs of files, and how such a pair becomes an image and its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from runtime.bundle import class_list
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.files import composed
from runtime.images import opened, orientation, read_orientation, read_rgb, read_size, upright

Thing = TypeVar("Thing")


class Problem(Enum):
    """Kinds of problems of a data set; the value is the name in reports."""

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
    """An image, its label and its edges differ in size."""


@dataclass(frozen=True)
class Fault:
    """A problem: its kind, its place, and a sentence with cause and fix."""

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
        require_same_size(item.edges, edges.shape, item.image, read_size(item.image))
        return edges


@dataclass(frozen=True)
class Survey:
    """A split's pairs, and its faults."""

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


_BACKGROUND = 191  # edges are lines: what is brighter in most places is the paper behind them


def read_edge_map(path: Path) -> np.ndarray:
    """(H, W) uint8 edge strength 0..255; HedgeError names a file that is not 8-bit gray, or whose
    edges are black."""
    with opened(path, "edge map") as image:
        if image.mode != "L":
            raise HedgeError(f"{path}: an edge map must have mode L (8-bit gray), not {image.mode}")
        values = np.asarray(image)
        if np.median(values) > _BACKGROUND:
            raise HedgeError(
                f"{path}: most of it is white, which is edge here; invert maps that are drawn in "
                "black (DexiNed's)"
            )
        return np.asarray(upright(Image.fromarray(values), orientation(image)))


def require_same_size(
    path: Path, shape: tuple[int, ...], other: Path, wanted: tuple[int, ...]
) -> None:
    """Raise SizeMismatchError unless the shapes of two files' pixels share height and width."""
    if shape[:2] != wanted[:2]:
        here, there = (f"{s[1]}x{s[0]}" for s in (shape, wanted))
        turn = read_orientation(other)
        turned = f", turned upright by its EXIF orientation {turn}" if turn > 1 else ""
        raise SizeMismatchError(
            f"{path}: {here}, but {other.name} is {there}{turned}; they must agree"
        )


def split_of(name: str) -> str:
    """The split that a folder of this name holds, whatever its spelling; "" where it says none."""
    word = name.casefold().rstrip("0123456789_- ")
    return next((split for split, words in _SPELLINGS.items() if word in words), "")


def split_folder(parent: Path, split: str) -> Path:
    """The folder of a split: by its own name, else by another spelling of it (Train, valid)."""
    plain = parent / split
    if plain.is_dir() or not parent.is_dir():
        return plain
    found = (path for path in sorted(parent.iterdir()) if split_of(path.name) == split)
    return next((path for path in found if path.is_dir()), plain)


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """The visible files of a folder that match, sorted; none where there is no such folder."""
    found = (path for path in folder.glob(pattern) if not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def pair(
    images: Iterable[tuple[str, Path]],
    labels: Iterable[tuple[str, Path]],
    split: str,
    folder: Path,
) -> tuple[tuple[Item, ...], list[Fault]]:
    """Match images to labels by key: the pairs, and a fault for each file left over.

    images: (key, path) in the order wanted; labels: the same, in whatever Unicode form; folder:
    where images should be.
    """
    faults: list[Fault] = []
    by_key: dict[str, Path] = {}
    for key, path in labels:
        if (first := by_key.setdefault(composed(key), path)) != path:
            detail = f"shares its name with {first.name}; remove one"
            faults.append(Fault(Problem.DUPLICATE, path, detail))
    items: dict[str, Item] = {}
    seen: dict[str, Path] = {}
    for key, image in ((composed(key), image) for key, image in images):
        if key in seen:
            detail = f"shares its name with {seen[key].name}; rename or remove one"
            faults.append(Fault(Problem.DUPLICATE, image, detail))
        elif key not in by_key:
            detail = "no label of this name (PNG, TIFF or BMP); add it or remove the image"
            faults.append(Fault(Problem.MISSING_LABEL, image, detail))
        else:
            items[key] = Item(image.stem, image, by_key[key])
        seen.setdefault(key, image)
    if not seen:
        faults.insert(0, Fault(Problem.EMPTY_SPLIT, folder, f"no images of the split '{split}'"))
    faults += [
        Fault(Problem.ORPHAN_LABEL, path, "no image of this name; add the image or remove it")
        for key, path in by_key.items()
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
            return class_list.load(path), []
        detail = f'not there; it names the classes: {{"classes": [{_EXAMPLE}, ...]}}'
    except HedgeError as error:
        detail = str(error).removeprefix(f"{path}: ")
    names = tuple(f"id {i}" for i in range(IGNORE))
    stand_ins = ClassSet(names, ((0, 0, 0),) * IGNORE)
    return stand_ins, [Fault(Problem.CLASS_LIST, path, detail)]


_SPELLINGS = {
    "train": {"train", "training", "trainset", "train set"},
    "val": {"val", "valid", "validation", "validate", "dev", "valset"},
    "test": {"test", "testing", "testset"},
}
_EXAMPLE = '{"name": "road", "color": [128, 64, 128]}'
