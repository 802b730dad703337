"""The official Cityscapes tree: leftImg8bit/<split>/<city>/ beside gtFine/<split>/<city>/.

IDD has the same tree; of its label pictures those in the training ids of Cityscapes are read.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from runtime.accuracy import label_files
from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES
from train.datasets.index import Fault, Index, Layout, Problem, Survey, files, pair

_HALVES = ("leftImg8bit", "gtFine")
_IMAGE = "_leftImg8bit"
_ENDS = {"leftImg8bit": "_leftImg8bit.png", "gtFine": "_gtFine_labelIds.png"}
_VARIANTS = {"leftImg8bit": ("leftImg8bit_foggy", "leftImg8bit_rain"), "gtFine": ("gtCoarse",)}
# Best first. A colour image cannot tell a pole from a pole group, nor a car from its licence
# plate: ids say more, so colours are the last resort.
_LABELS = (
    "_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtFine_labelcsTrainIds", "_gtFine_color",
)  # fmt: skip


def fits(data: Path) -> bool:
    """Whether ``data`` holds (at least half of) the official tree."""
    return any((data / name).is_dir() for name in _HALVES)


def require_both(data: Path) -> None:
    """HedgeError where only one half of the tree is there, as in each of the two official zips."""
    if lacking := [name for name in _HALVES if not (data / name).is_dir()]:
        variants = (p for p in data.iterdir() if p.name.startswith(_VARIANTS[lacking[0]]))
        if path := next(variants, None):
            raise HedgeError(
                f"{path}: a variant of Cityscapes, whose names are not read; copy it as "
                f"{lacking[0]}/, with files that end in {_ENDS[lacking[0]]}"
            )
        raise HedgeError(
            f"{data}: Cityscapes without its {lacking[0]}/; unpack leftImg8bit_trainvaltest.zip "
            "and gtFine_trainvaltest.zip into one folder, and give that"
        )


def survey(data: Path, split: str) -> Survey:
    """The pairs of a split, best label file first, and everything that does not pair up."""
    require_both(data)
    folder = data / "leftImg8bit" / split
    found = _named(folder, _IMAGE, IMAGE_SUFFIXES)
    truth = data / "gtFine" / split
    labels = _labels(truth)
    items, faults = pair(found, labels.items(), split, folder)
    if found and not labels and next(truth.glob("*/*_polygons.json"), None):
        detail = (
            "holds outlines alone; make label pictures of them, for IDD with its tools' "
            "createLabels.py --id-type csTrainId"
        )
        faults = [Fault(Problem.MISSING_LABEL, truth, detail)]
    read_label = partial(label_files.read_label, class_set=CITYSCAPES)
    index = Index(data, split, LAYOUT.name, CITYSCAPES, items, read_label)
    return Survey(index, tuple(faults))


LAYOUT = Layout("cityscapes", fits, survey)


def _named(folder: Path, ending: str, suffixes: set[str]) -> list[tuple[str, Path]]:
    """The files of all cities whose stem ends so, with city and the rest of the stem as key."""
    return [
        (f"{path.parent.name}/{path.stem.removesuffix(ending)}", path)
        for path in files(folder, f"*/*{ending}.*")
        if path.stem.endswith(ending) and path.suffix.lower() in suffixes
    ]


def _labels(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for ending in reversed(_LABELS):
        found |= dict(_named(folder, ending, label_files.LABEL_SUFFIXES))
    return found
