"""Audit of a data set: every file is decoded, nothing is changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from runtime import cli, files
from runtime.accuracy.ground_truth import ignored_line
from runtime.bundle.classes import IGNORE, UnknownIdError
from runtime.errors import HedgeError
from runtime.images import read_orientation, read_rgb
from train.datasets import listfile, survey
from train.datasets.index import (
    Fault,
    Index,
    Item,
    Problem,
    SizeMismatchError,
    read_edge_map,
    require_same_size,
)

SPLITS = ("train", "val")

Result = TypeVar("Result")
Size = tuple[int, int]  # height, width
_RARE = 0.001  # of the pixels: fewer are rarely learned
_LOOKS = 500  # labels at the most, where a class does not turn up


@dataclass
class SplitReport:
    """Statistics of a split.

    sizes: images by (H, W); pixels: (256,) int64 pixels by training id; blank: labels without a
    single class; turned: images that are stored in another orientation than they are shown in;
    read: items that were looked at.
    """

    index: Index
    sizes: Counter[Size] = field(default_factory=Counter)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    blank: int = 0
    turned: int = 0
    read: int = 0

    def add(self, size: Size | None, pixels: np.ndarray, turned: bool) -> None:
        """Count one item; ``pixels``: (256,) by training id, all 0 where its label is not read."""
        if size:
            self.sizes[size] += 1
        self.read += 1
        self.pixels += pixels
        self.turned += turned
        self.blank += bool(pixels[IGNORE] and not pixels[:IGNORE].any())

    def unseen(self) -> list[str]:
        """The classes without a pixel."""
        return [n for n, c in zip(self.index.classes.names, self.pixels, strict=False) if not c]

    def shares(self) -> dict[str, float]:
        """Share of the pixels, 0..1, by class name, and ``ignore``."""
        names = (*self.index.classes.names, "ignore")
        counts = (*self.pixels[: len(names) - 1], self.pixels[IGNORE])
        total = max(int(self.pixels.sum()), 1)
        return {n: int(c) / total for n, c in zip(names, counts, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """The stable keys of a split in ``--json``."""
        sizes = {size_text(size): count for size, count in sorted(self.sizes.items())}
        return {"images": len(self.index), "sizes": sizes, "pixel_share": self.shares()}


@dataclass(frozen=True)
class Findings:
    """The result of a check: faults make a data set unusable as it is, warnings do not."""

    data: Path
    splits: dict[str, SplitReport]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]

    def by_problem(self) -> dict[Problem, list[Fault]]:
        """The faults, grouped, in the order of ``Problem``."""
        groups: dict[Problem, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            groups[fault.problem].append(fault)
        return {problem: groups[problem] for problem in Problem if problem in groups}

    def to_json(self) -> dict[str, Any]:
        """The stable keys of ``--json``."""
        groups = self.by_problem().items()
        return {
            "data": str(self.data),
            "layout": self.splits[SPLITS[0]].index.layout,
            "clean": not self.faults,
            "problems": {problem.value: [str(f) for f in group] for problem, group in groups},
            "warnings": list(self.warnings),
            "splits": {split: report.to_json() for split, report in self.splits.items()},
        }


def audit(data: Path) -> Findings:
    """Look at every file of the train and val splits of ``data``.

    HedgeError only where there is no data set at all.
    """
    found = {split: survey(data, split) for split in SPLITS}
    faults = [fault for split in SPLITS for fault in found[split].faults]
    reports = {split: SplitReport(found[split].index) for split in SPLITS}
    for report in reports.values():
        faults += _examine_split(report)
    faults += _faint(reports["train"].index)
    faults += _overlap(reports["train"].index.items, reports["val"].index.items)
    warnings = [line for report in reports.values() for line in split_warnings(report)]
    warnings += _rare(reports[SPLITS[0]])
    # A class list that is wrong is wrong in both splits.
    return Findings(data, reports, tuple(dict.fromkeys(faults)), tuple(warnings))


def _examine_split(report: SplitReport) -> list[Fault]:
    """Decode all items into ``report``; the faults, in the order of the items."""
    faults: list[Fault] = []
    index = report.index
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(partial(_examine, index), index.items)
        examined = cli.track(results, f"reading {index.split}", len(index))
        for size, pixels, turned, wrong in examined:
            report.add(size, pixels, turned)
            faults += wrong
    finally:
        pool.shutdown(cancel_futures=True)  # else Ctrl-C waits for every file still queued
    return faults


def _examine(index: Index, item: Item) -> tuple[Size | None, np.ndarray, bool, list[Fault]]:
    """(H, W) of the image where it decodes, (256,) int64 pixels by id, whether the image is turned,
    and all that is wrong.

    All files are looked at: one bad file does not hide another.
    """
    faults: list[Fault] = []
    image = _attempt(faults, item.image, read_rgb)
    label = _attempt(faults, item.label, index.read_label)
    edges = _attempt(faults, item.edges, read_edge_map) if item.edges else None
    if image is None:
        size = None
    else:
        size = (image.shape[0], image.shape[1])
        for path, array in ((item.label, label), (item.edges, edges)):
            if path and array is not None:
                same = partial(require_same_size, shape=array.shape, other=item.image, wanted=size)
                _attempt(faults, path, same)
    pixels = np.zeros(0, np.uint8) if label is None else label.ravel()
    turned = image is not None and read_orientation(item.image) > 1
    return size, np.bincount(pixels, minlength=256), turned, faults


def _attempt(faults: list[Fault], path: Path, read: Callable[[Path], Result]) -> Result | None:
    """``read(path)``, or None and one more fault."""
    try:
        return read(path)
    except HedgeError as error:
        kinds = {UnknownIdError: Problem.UNKNOWN_ID, SizeMismatchError: Problem.SIZE_MISMATCH}
        problem = kinds.get(type(error), Problem.UNREADABLE)
        faults.append(Fault(problem, path, str(error).removeprefix(f"{path}: ")))
        return None


def _overlap(train: tuple[Item, ...], val: tuple[Item, ...], by_name: bool = True) -> list[Fault]:
    """A fault for each image of val that train has too, by content or by name."""
    names = {item.name: item.image for item in train} if by_name else {}
    contents = {digest: path for path, digest in _digests(train, val).items()}
    own = _digests(val, train)
    faults = []
    for item in val:
        if twin := contents.get(own.get(item.image, "")):
            detail = f"same content as {twin}; an image must be in one split only"
        elif twin := names.get(item.name):
            detail = f"same name as {twin}; remove one, or rename it if they differ"
        else:
            continue
        faults.append(Fault(Problem.OVERLAP, item.image, detail))
    return faults


def _faint(index: Index) -> list[Fault]:
    """A fault where no edge map of a split holds more than 0 and 1: they teach that there are no
    edges."""
    paths = [item.edges for item in index.items if item.edges][:_LOOKS]
    maps = (_attempt([], path, read_edge_map) for path in paths)
    if not paths or any(edges is None or edges.max() > 1 for edges in maps):
        return []
    detail = f"no edge map of {index.split} has a value above 1; an edge is up to 255"
    return [Fault(Problem.UNREADABLE, paths[0], detail)]


def _digests(items: tuple[Item, ...], others: tuple[Item, ...]) -> dict[Path, str]:
    """SHA-256 by path, of those images that are as long as one of ``others``, so may equal it."""
    lengths = {item.image.stat().st_size for item in others}
    images = (item.image for item in items)
    return {path: files.sha256(path) for path in images if path.stat().st_size in lengths}


def look(index: Index) -> SplitReport:
    """A quick look at the labels of a split, spread over it, until every class was seen.

    HedgeError for a label that cannot be read.
    """
    report = SplitReport(index)
    order = np.random.default_rng(0).permutation(len(index))[:_LOOKS]
    for number in order:
        item = index.items[number]
        label = index.read_label(item.label)
        pixels = np.bincount(label.ravel(), minlength=256)
        report.add(None, pixels, read_orientation(item.image) > 1)
        if not report.unseen():
            break
    return report


def warn_of(index: Index) -> None:
    """Print what ``train.check`` would warn of in a split, once a process."""
    for line in split_warnings(look(index)):
        _warn_once(f"{index.root}: {line}")


def before_training(train: Index, val: Index, hushed: bool = False) -> None:
    """Print what ``train.check`` would say of the labels and of images in both splits.

    hushed: print nothing. HedgeError where labels hold only one of several classes, and those to
    validate on none at all: there would be no best.pt; and where edge maps are black.
    """
    report = look(train)
    if len(train.classes) - len(report.unseen()) < min(2, len(train.classes)):
        lines = "; ".join(split_warnings(report))
        raise HedgeError(f"{train.root}: nothing to learn: {lines} (python -m train.check)")
    if not look(val).pixels[:IGNORE].any():
        raise HedgeError(
            f"{val.root}: nothing to validate on: every pixel of val's labels is ignored "
            "(python -m train.check)"
        )
    for fault in _faint(train):
        raise HedgeError(str(fault))
    if hushed:
        return
    warn_of(train)
    warn_of(val)
    if doubles := _overlap(train.items, val.items, by_name=False):
        _warn_once(f"{len(doubles)} images of val are in train, too: {doubles[0]}")


@lru_cache(maxsize=256)
def _warn_once(line: str) -> None:
    cli.warn(line)


def split_warnings(report: SplitReport) -> Iterator[str]:
    """What looks wrong in a split, one line each."""
    index, unseen = report.index, report.unseen()
    if unseen and report.pixels.any() and len(index.classes) < IGNORE:  # else: no class list
        lost = "it cannot be learned" if index.split == "train" else "it is 0 where it is answered"
        some = f" {report.read} of the" if report.read < len(index) else " the"
        yield f"never in{some} labels of {index.split}: {', '.join(unseen)}; {lost}"
        if report.pixels[IGNORE] and len(index.classes) - len(unseen) < 2:
            ignored, labelled = report.pixels[IGNORE], report.pixels[:IGNORE].sum()
            yield f"{index.split}: {ignored_line(ignored, labelled)}"
    if listfile.is_guess(index) and index.items:
        yield f"{index.split}: labels are read as Cityscapes', as the list has no classes.json"
    bare = sum(item.edges is None for item in index.items)
    if 0 < bare < len(index):
        yield f"{index.split}: {bare} of {len(index)} lines name no edges, the others do"
    if report.turned:
        yield (
            f"{index.split}: {report.turned} of the images that were read are turned upright by "
            "their EXIF orientation; labels must be drawn on what viewers show"
        )
    if report.blank:
        yield f"{index.split}: {report.blank} labels hold no class at all, every pixel is ignored"


def _rare(report: SplitReport) -> Iterator[str]:
    """A line that names the classes with few pixels to learn from."""
    rare = {n: share for n, share in report.shares().items() if 0 < share < _RARE and n != "ignore"}
    if rare and len(report.index.classes) < IGNORE:
        named = ", ".join(f"{name} ({share:.3%})" for name, share in rare.items())
        yield (
            f"rare in the labels of {report.index.split}: {named}; label more, or train with "
            "--class-balance and --oversample"
        )


def size_text(size: Size) -> str:
    """``WxH``, as image viewers write it."""
    return f"{size[1]}x{size[0]}"
