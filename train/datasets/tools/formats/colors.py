"""Label pictures beside their pictures, in ids or colours of a classes.json.

Folders of any order: images/ and masks/, train/images and train/labels, or ``name_mask.png`` beside
``name.jpg``. Roboflow's "semantic segmentation masks" have a _classes.csv of ids instead.
"""

from __future__ import annotations

import csv
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
from train.datasets.tools.export import Export, Picture, Size, Tool, require_size
from train.datasets.tools.formats.masks import NOWHERE, by_id
from train.datasets.tools.tree import Tree, read_text

_IMAGES = {"image", "images", "img", "imgs", "photos", "pictures", "rgb"}
_LABELS = {
    "annotation", "annotations", "gt", "label", "labels", "mask", "masks", "segmentation",
    "segmentations",
}  # fmt: skip
_ENDINGS = ("_mask", "_label", "_gt")
_CSV = "_classes.csv"

Key = tuple[str, ...]


def read(tree: Tree) -> Export:
    """The pictures that have a label."""
    found = _pairs(tree)
    faults = [
        Fault(Problem.MISSING_LABEL, image, "no label of this name; add it or remove the image")
        for image, label in found
        if label is None
    ]
    chosen = tree.root / "classes.json"
    if chosen.is_file():
        classes = class_list.load(chosen)
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
    is_named = (tree.root / "classes.json").is_file() or bool(_csv(tree))
    return is_named and any(label for _, label in _pairs(tree))


TOOL = Tool("label pictures", _fits, read)


def _csv(tree: Tree) -> list[Path]:
    return [path for path in tree.files if path.name == _CSV]


def _pairs(tree: Tree) -> list[tuple[Path, Path | None]]:
    """Each picture and its label: the same path, were it not for the folder's name or an ending."""
    images: dict[Key, Path] = {}
    labels: dict[Key, Path] = {}
    for path in tree.images:
        parts = path.relative_to(tree.root).with_suffix("").parts
        folders = [part for part in parts[:-1] if part.lower() not in _IMAGES | _LABELS]
        ending = next((e for e in _ENDINGS if path.stem.endswith(e)), "")
        is_label = bool(ending) or any(part.lower() in _LABELS for part in parts[:-1])
        key = (*folders, composed(parts[-1].removesuffix(ending) if is_label else parts[-1]))
        if is_label and path.suffix.lower() in label_files.LABEL_SUFFIXES:
            labels[key] = path
        elif not is_label:
            images[key] = path
    return [(image, labels.get(key)) for key, image in images.items()]


def _numbered(tree: Tree) -> dict[int, str]:
    """Roboflow's classes by the value of a pixel."""
    path = _csv(tree)[0]
    rows = [row for row in csv.reader(read_text(path).splitlines()) if row][1:]
    try:
        return {int(row[0]): row[1].strip() for row in rows}
    except (ValueError, IndexError):
        raise HedgeError(f"{path}: expected 'Pixel Value, Class' and such lines") from None


def _by_number(names: dict[int, str], label: Path, size: Size) -> Iterator[tuple[str, np.ndarray]]:
    return by_id(label, {IGNORE: NOWHERE} | names, size)


def _layers(classes: ClassSet, label: Path, size: Size) -> Iterator[tuple[str, np.ndarray]]:
    ids = label_files.read_label(label, classes)
    require_size(label.name, (ids.shape[0], ids.shape[1]), size)
    for value in np.unique(ids).tolist():
        name = NOWHERE if value >= len(classes) else classes.names[value]
        yield name, ids == value
