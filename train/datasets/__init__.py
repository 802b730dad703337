"""Data sets on disk: finding the pairs of images and labels in every supported layout."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.cli import err, say
from runtime.errors import HedgeError, OutputError
from train.datasets import cityscapes, folder, listfile
from train.datasets.index import Fault, Index, Item, Layout, Problem, Survey
from train.datasets.synthetic.generate import SyntheticConfig, generate

__all__ = [
    "Fault", "Index", "Item", "Problem", "Survey",
    "default_data", "is_data", "open_index", "survey",
]  # fmt: skip

# The first that fits wins: the most particular tree comes first.
LAYOUTS: tuple[Layout, ...] = (cityscapes.LAYOUT, folder.LAYOUT, listfile.LAYOUT)


def open_index(data: Path, split: str) -> Index:
    """The labelled images of a split, in the first layout that fits ``data``.

    HedgeError names the first problem. A label without an image is none here, since images are
    often a selection; ``train.check`` reports it.
    """
    found = survey(data, split)
    for fault in found.faults:
        if fault.problem is not Problem.ORPHAN_LABEL:
            raise HedgeError(f"{fault} (python -m train.check --data {data} lists everything)")
    return found.index


def survey(data: Path, split: str) -> Survey:
    """Everything found at a split, faults included; HedgeError only where no layout fits."""
    if not data.exists():
        raise HedgeError(f"{data}: no such file or folder; --data takes a data set or a list file")
    for layout in LAYOUTS:
        if layout.fits(data):
            return layout.survey(data, split)
    raise HedgeError(
        f"{data}: not a data set; expected leftImg8bit/ and gtFine/ (Cityscapes), "
        "images/<split>/ and labels/<split>/ with classes.json, or a train.txt list"
    )


def is_data(path: Path) -> bool:
    """Whether ``path`` is laid out like a data set."""
    return any(layout.fits(path) for layout in LAYOUTS)


def default_data(quiet: bool = False) -> Path:
    """The data set used where none is named; ``quiet``: print nothing.

    The environment's CITYSCAPES_DATASET, else ./data/cityscapes where it exists, else street
    scenes generated once at ./data/synthetic.
    """
    if named := os.environ.get("CITYSCAPES_DATASET"):
        return Path(named)
    official, generated = Path("data/cityscapes"), Path("data/synthetic")
    if official.is_dir():
        return official
    if not generated.is_dir():
        if not quiet:
            say(f"no Cityscapes here: generating street scenes at {generated} (--data PATH)", err)
        try:
            generate(SyntheticConfig(generated), quiet)
        except OutputError:  # another process of the same training was faster
            if not generated.is_dir():
                raise
    return generated
