"""The folder layout: images/<split>/*, labels/<split>/*.png of the same stem, classes.json.

A label holds one training id a pixel (the position in classes.json), 255 where nothing counts.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from runtime import images
from runtime.images import IMAGE_SUFFIXES
from train.datasets.index import Index, Layout, Survey, files, load_classes, pair


def fits(data: Path) -> bool:
    """Whether ``data`` keeps its images in a folder per split."""
    return any(path.is_dir() for path in (data / "images").glob("[!.]*"))


def survey(data: Path, split: str) -> Survey:
    """The pairs of a split by file stem, and everything that does not pair up."""
    classes, faults = load_classes(data / "classes.json")
    folder = data / "images" / split
    found = [path for path in files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    labels = {path.stem: path for path in files(data / "labels" / split, "*.png")}
    items, unpaired = pair([(path.stem, path) for path in found], labels, split, folder)
    read_label = partial(images.read_label, class_set=classes)
    index = Index(data, split, LAYOUT.name, classes, items, read_label)
    return Survey(index, (*faults, *unpaired))


LAYOUT = Layout("folder", fits, survey)
