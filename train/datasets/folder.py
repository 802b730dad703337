"""The folder layout: images/<split>/*, labels/<split>/* of the same stem, classes.json.

A label (PNG, TIFF or BMP) holds one id a pixel, by default the position in classes.json, 255 where
nothing counts; or the colour of its class, exactly.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from runtime.accuracy import label_files
from runtime.images import IMAGE_SUFFIXES
from train.datasets.index import Index, Layout, Survey, files, load_classes, pair, split_folder


def fits(data: Path) -> bool:
    """Whether ``data`` keeps its images in a folder per split."""
    return any(path.is_dir() for path in (data / "images").glob("[!.]*"))


def is_whole(data: Path) -> bool:
    """Whether ``data`` is certain to be laid out so: a class list, and labels that are pictures."""
    labels = (path for path in (data / "labels").glob("[!.]*/*") if path.is_file())
    some = next((path for path in labels if not path.name.startswith(".")), None)
    is_label = some is not None and some.suffix.lower() in label_files.LABEL_SUFFIXES
    return is_label and (data / "classes.json").is_file() and fits(data)


def survey(data: Path, split: str) -> Survey:
    """The pairs of a split by file stem, and everything that does not pair up."""
    classes, faults = load_classes(data / "classes.json")
    folder = split_folder(data / "images", split)
    found = [path for path in files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    labels = label_files.label_files(files(split_folder(data / "labels", split)))
    keyed, keyed_labels = ([(path.stem, path) for path in paths] for paths in (found, labels))
    items, unpaired = pair(keyed, keyed_labels, split, folder)
    read_label = partial(label_files.read_label, class_set=classes)
    index = Index(data, split, LAYOUT.name, classes, items, read_label)
    return Survey(index, (*faults, *unpaired))


LAYOUT = Layout("folder", fits, survey)
