"""Data sets on disk: finding the pairs of images and labels in every supported layout."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from runtime.bundle.classes import ClassSet
from runtime.cli import err, say
from runtime.errors import HedgeError, OutputError
from train.datasets import folder, tools
from train.datasets.index import Fault, Index, Item, Problem, Survey
from train.datasets.synthetic.generate import SyntheticConfig, generate
from train.datasets.synthetic.things import CLASSES
from train.datasets.tools import PLAIN as LAYOUTS

__all__ = [
    "Fault", "Index", "Item", "Problem", "Survey",
    "default_data", "is_data", "open_index", "survey",
]  # fmt: skip


def open_index(data: Path, split: str, quiet: bool = False) -> Index:
    """The labelled images of a split, in the first layout that fits ``data``.

    quiet: say nothing while an export of a labelling tool is converted. HedgeError names the first
    problem. A label without an image is none here, since images are often a selection;
    ``train.check`` reports it.
    """
    found = survey(data, split, quiet)
    for fault in found.faults:
        if fault.problem is not Problem.ORPHAN_LABEL:
            raise HedgeError(f"{fault} (python -m train.check {data} lists everything)")
    return found.index


def survey(data: Path, split: str, quiet: bool = False) -> Survey:
    """Everything found at a split, faults included; HedgeError only where no layout fits.

    What a labelling tool exported is converted first, once.
    """
    require_there(data)
    if data.is_file() and tarfile.is_tarfile(data):  # else it would be taken for a list
        raise HedgeError(f"{data}: a tar archive; unpack it and give the folder, or pack it as zip")
    place, origin = tools.prepared(data, quiet)
    if place == data and data.is_file():  # that, too
        _require_known(data)
    for layout in LAYOUTS:
        if layout.fits(place):
            # Many formats have an images/<split>/, too, and other labels.
            if layout is folder.LAYOUT and not (place / "labels").is_dir():
                _require_known(place)
            found = layout.survey(place, split)
            return tools.with_origin(found, origin) if origin else found
    if count := tools.labelled(data):
        raise HedgeError(
            f"{data}: {count} pictures have labels, but nothing names the classes; add a "
            f'{data / "classes.json"}, as ["road", "person"], or with the "id" or "color" of each'
        )
    if label := tools.unusable(data):
        raise HedgeError(
            f"{label}: labels must be saved without loss, as PNG; a GIF is "
            "converted, a JPEG exported anew or, if it is black and white, cut at a threshold"
        )
    _require_known(data)
    raise HedgeError(
        f"{data}: not a data set; expected leftImg8bit/ and gtFine/ (Cityscapes), "
        "images/<split>/ and labels/<split>/ with classes.json, a train.txt list, or what a "
        f"labelling tool exports ({', '.join(tool.name for tool in tools.TOOLS)})"
    )


def _require_known(data: Path) -> None:
    """HedgeError that says what to do where ``data`` is in a format that is known and not read."""
    if told := tools.advice(data):
        raise HedgeError(told)


def require_there(data: Path) -> None:
    """HedgeError where nothing is at ``data``."""
    if not data.exists():
        raise HedgeError(f"{data}: no such file or folder; --data takes a data set or a list file")


def is_data(path: Path) -> bool:
    """Whether ``path`` is laid out like a data set."""
    return any(layout.fits(path) for layout in LAYOUTS) or tools.is_export(path)


def default_data(quiet: bool = False, classes: ClassSet | None = None) -> Path:
    """The data set used where none is named; ``quiet``: print nothing.

    classes: of the network that it is for; HedgeError, before any is drawn, where those of drawn
    streets are others.

    The environment's CITYSCAPES_DATASET, else ./data/cityscapes where it exists, else street
    scenes generated once at ./data/synthetic.
    """
    if named := os.environ.get("CITYSCAPES_DATASET"):
        return Path(named)
    official, generated = Path("data/cityscapes"), Path("data/synthetic")
    if official.is_dir():
        return official
    if classes is not None and set(classes.names) != set(CLASSES.names):
        raise HedgeError("no data set is named, and drawn streets have other classes; --data PATH")
    if not generated.is_dir():
        if not quiet:
            say(f"no Cityscapes here: generating street scenes at {generated} (--data PATH)", err)
        try:
            generate(SyntheticConfig(generated), quiet)
        except OutputError:  # another process of the same training was faster
            if not generated.is_dir():
                raise
    return generated
