"""Label pictures beside their pictures, in ids or colours of a classes.json.

Folders of any order: images/ and masks/, train/images and train/labels, train/ and train_labels/,
or ``name_mask.png`` beside ``name.jpg``. Roboflow's "semantic segmentation masks" have a
_classes.csv of ids instead, sets of Kaggle a class_dict.csv of colours, CamVid and CVAT's export of
that name a label_colors.txt.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from runtime.accuracy import label_files
from runtime.bundle import class_list
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.files import composed
from train.datasets.index import Fault, Problem
from train.datasets.tools.export import Color, Export, Picture, Size, Tool, require_size
from train.datasets.tools.formats.masks import NOWHERE, by_id
from train.datasets.tools.tree import Tree, read_text

_IMAGES = {
    "data", "frames", "image", "images", "img", "imgs", "inputs", "jpegimages", "photos",
    "pictures", "rgb",
}  # fmt: skip
_LABELS = {
    "ann", "annot", "annotation", "annotations", "gt", "groundtruth", "label", "labels", "mask",
    "masks", "segmentation", "segmentations",
}  # fmt: skip
_WORDS = "|".join(_IMAGES | _LABELS)
_KIND = re.compile(
    rf"(?:(?P<a>.*)[_ -])?(?P<kind>{_WORDS})|(?P<b>.+)(?P<annot>annot)"
    rf"|(?P<first>{_WORDS})[_ -](?P<c>.+)",
    re.IGNORECASE,
)
_ENDINGS = ("_mask", "_label", "_gt")
_CAMVID = ("_L", "_P")  # endings of labels that say too little outside of a folder of labels
_CSV = "_classes.csv"
_COLORS = "class_dict.csv"
_COLOR_LINES = "label_colors.txt"

Key = tuple[str, ...]


def read(tree: Tree) -> Export:
    """The pictures that have a label."""
    found = _pairs(tree)
    faults = [
        Fault(Problem.MISSING_LABEL, image, "no label of this name; add it or remove the image")
        for image, label in found
        if label is None
    ]
    chosen, dictionary = tree.root / "classes.json", _dictionary(tree)
    if chosen.is_file() or dictionary:
        classes = class_list.load(chosen) if chosen.is_file() else _colored(dictionary[0])
        names, colors = classes.names, dict(zip(classes.names, classes.colors, strict=True))
        layers = partial(_layers, classes)
    else:
        by_number = _numbered(tree)
        names, colors = tuple(dict.fromkeys(by_number.values())), {}
        layers = partial(_by_number, by_number)
    pictures = [
        Picture(image, partial(layers, label), label, tree.split(image))
        for image, label in found
        if label is not None
    ]
    return Export(names, tuple(pictures), colors, NOWHERE, faults=tuple(faults))


def _fits(tree: Tree) -> bool:
    is_named = (tree.root / "classes.json").is_file() or _csv(tree, _CSV) or _dictionary(tree)
    return bool(is_named) and count(tree) > 0


TOOL = Tool("label pictures", _fits, read)


def count(tree: Tree) -> int:
    """How many pictures have a label picture, whether or not its classes are known."""
    return sum(label is not None for _, label in _pairs(tree))


def unusable(tree: Tree) -> Path | None:
    """The first label of a picture in a format that labels are not read from, as JPEG."""
    images, _, others = _by_key(tree)
    return next((path for key, path in others.items() if key in images), None)


def _csv(tree: Tree, name: str) -> list[Path]:
    return [path for path in tree.files if path.name == name]


def _dictionary(tree: Tree) -> list[Path]:
    """The files that name the colours of classes."""
    return [*_csv(tree, _COLORS), *_csv(tree, _COLOR_LINES)]


def _pairs(tree: Tree) -> list[tuple[Path, Path | None]]:
    """Each picture and its label: the same path, were it not for the folder's kind or an ending."""
    images, labels, _ = _by_key(tree)
    for lone in sorted(labels.keys() - images.keys()):
        short = (*lone[:-1], lone[-1][:-2])
        if short in images and lone[-1].endswith(_CAMVID):
            labels.setdefault(short, labels[lone])
    return [(image, labels.get(key)) for key, image in images.items()]


def _by_key(tree: Tree) -> tuple[dict[Key, Path], dict[Key, Path], dict[Key, Path]]:
    """Pictures, labels, and what lies where labels do but cannot hold any, by what tells pairs."""
    images: dict[Key, Path] = {}
    labels: dict[Key, Path] = {}
    others: dict[Key, Path] = {}
    for path in tree.images:
        folders = [_folder(part) for part in path.relative_to(tree.root).parts[:-1]]
        ending = next((each for each in _ENDINGS if path.stem.endswith(each)), "")
        is_label = bool(ending) or any(in_labels for _, in_labels in folders)
        stem = composed(path.stem.removesuffix(ending))
        key = (*(name for name, _ in folders if name), stem)
        if not is_label:
            images[key] = path
        elif path.suffix.lower() in label_files.LABEL_SUFFIXES:
            labels[key] = path
        else:
            others[key] = path
    return images, labels, others


def _folder(name: str) -> tuple[str, bool]:
    """What a folder's name says beside its kind ("train" of "train_labels", "dir" of "ann_dir"),
    and whether it holds labels."""
    if found := _KIND.fullmatch(name):
        rest, kind = found["a"] or found["b"] or found["c"], found["kind"] or found["first"]
        return rest or "", bool(found["annot"]) or kind.lower() in _LABELS
    return name, False


def _numbered(tree: Tree) -> dict[int, str]:
    """Roboflow's classes by the value of a pixel."""
    path = _csv(tree, _CSV)[0]
    try:
        return {int(row[0]): row[1].strip() for row in _rows(path)}
    except (ValueError, IndexError):
        raise HedgeError(f"{path}: expected 'Pixel Value, Class' and such lines") from None


def _colored(path: Path) -> ClassSet:
    """Kaggle's classes by the colour of a pixel, or CamVid's."""
    try:
        return class_list.made(_csv_colors(path) if path.suffix == ".csv" else _line_colors(path))
    except ValueError as error:
        raise HedgeError(f"{path}: {error}") from None


def _csv_colors(path: Path) -> dict[str, Color | None]:
    try:
        return {name.strip(): (int(r), int(g), int(b)) for name, r, g, b in _rows(path)}
    except ValueError:
        raise HedgeError(f"{path}: expected 'name,r,g,b' and such lines") from None


def _line_colors(path: Path) -> dict[str, Color | None]:
    return {name: color for color, name in color_lines(path).items()}


def color_lines(path: Path) -> dict[Color, str]:
    """The classes of a text file whose lines are ``r g b name``; HedgeError for any other."""
    found: dict[Color, str] = {}
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        try:
            red, green, blue, name = line.split(maxsplit=3)
            color = (int(red), int(green), int(blue))
        except ValueError:
            raise HedgeError(f"{path}: expected 'r g b name', found {line[:60]!r}") from None
        if color in found:
            raise HedgeError(f"{path}: {found[color]} and {name} share the colour {color}")
        found[color] = name
    return found


def _rows(path: Path) -> list[list[str]]:
    """The lines of a table below its head."""
    return [row for row in csv.reader(read_text(path).splitlines()) if row][1:]


def _by_number(names: dict[int, str], label: Path, size: Size) -> Iterator[tuple[str, np.ndarray]]:
    return by_id(label, {IGNORE: NOWHERE} | names, size)


def _layers(classes: ClassSet, label: Path, size: Size) -> Iterator[tuple[str, np.ndarray]]:
    ids = label_files.read_label(label, classes)
    require_size(label.name, (ids.shape[0], ids.shape[1]), size)
    for value in np.unique(ids).tolist():
        name = NOWHERE if value >= len(classes) else classes.names[value]
        yield name, ids == value
