"""An export as a data set of the folder layout: images/<split>/, labels/<split>/, classes.json."""

from __future__ import annotations

import hashlib
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from runtime import cli
from runtime.bundle import class_list
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.files import composed
from runtime.images import read_orientation, read_size, upright
from train.datasets.index import Fault, Problem, SizeMismatchError
from train.datasets.tools.export import Color, Export, Picture, Size, background
from train.datasets.tools.split import with_splits
from train.datasets.tools.tree import Tree

_LONGEST = 120  # characters of a name; file systems allow 255 bytes
# Endings that mean another kind of label.
_TELLING = ("_color", "_labelIds", "_labelTrainIds", "_labelcsTrainIds")


class Finding(msgspec.Struct, frozen=True):
    """A fault of the export, as it is kept beside what was converted."""

    split: str
    problem: str
    path: str
    detail: str

    def fault(self) -> Fault:
        """The fault, for a survey."""
        return Fault(Problem(self.problem), Path(self.path), self.detail)

    def called(self, folder: str, name: str) -> Finding:
        """The same of an export that lay in ``folder`` for a while only, and is called ``name``."""
        path, detail = (text.replace(folder, name) for text in (self.path, self.detail))
        return Finding(self.split, self.problem, path, detail)


class Origin(msgspec.Struct, frozen=True):
    """What is kept beside a converted data set: what it was made of, and what was wrong."""

    tool: str
    data: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Job:
    picture: Picture
    split: str
    name: str


def convert(
    export: Export, tree: Tree, data: Path, folder: Path, quiet: bool
) -> tuple[list[Finding], tuple[str, ...]]:
    """Write an export into the empty ``folder``; what is wrong, and what is said of it.

    Pictures are links where the tree stays, and moved where it lies in ``folder``'s own cache.
    data: what the export is called; quiet: no bar. HedgeError where there are no classes or no
    pictures at all.
    """
    if not export.pictures:
        missing = f"; {export.faults[0]}" if export.faults else ""
        raise HedgeError(f"{data}: without a single labelled picture{missing}")
    chosen = tree.root / "classes.json"
    classes, unlabelled = _classes(export, chosen if chosen.is_file() else None, data)
    (folder / "classes.json").write_bytes(classes.to_json())
    values = {name: i for i, name in enumerate(classes.names)}
    splits, made = with_splits(export.pictures, tree.root)
    names = _names([picture.image.relative_to(tree.root) for picture in export.pictures])
    jobs = [_Job(*row) for row in zip(export.pictures, splits, names, strict=True)]
    for split in {"train", "val", *splits}:
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
    findings = _twice(jobs)
    findings += [Finding("", f.problem.value, str(f.path), f.detail) for f in export.faults]
    with ThreadPoolExecutor() as pool:
        write = partial(_write, folder, values, values.get(unlabelled, IGNORE))
        results = pool.map(write, jobs)
        shown = results if quiet else cli.track(results, f"converting {data.name}", len(jobs))
        findings += filter(None, shown)
    meaning = f"are {unlabelled}" if unlabelled in values else "count nowhere"
    return findings, (f"pixels without a label {meaning}", *filter(None, [made]))


def _classes(export: Export, chosen: Path | None, data: Path) -> tuple[ClassSet, str]:
    """The classes that are trained, and what a pixel without a label is of them.

    chosen: a classes.json beside the export: its classes, in its order; others count nowhere.
    """
    own = [_tidy(name) for name in export.names if name not in export.ignored]
    names = dict.fromkeys([*filter(None, [export.unlabelled]), *own])
    if chosen:
        loaded = class_list.load(chosen)
        plain = ClassSet(loaded.names, loaded.colors)
        return plain, export.unlabelled and background(plain.names)
    colors: dict[str, Color] = {_tidy(name): color for name, color in export.colors.items()}
    if not own:
        raise HedgeError(f"{data}: no classes; label something, and export it again")
    if len(names) > IGNORE:
        raise HedgeError(
            f"{data}: {len(names)} classes, of which labels hold {IGNORE}; name those to be "
            "trained in a classes.json beside it"
        )
    try:
        return class_list.made({name: colors.get(name) for name in names}), export.unlabelled
    except ValueError as error:
        raise HedgeError(f"{data}: {error}; rename it in the tool") from None


def _write(folder: Path, values: dict[str, int], unlabelled: int, job: _Job) -> Finding | None:
    """Place a picture and draw its label; what is wrong with it, and then nothing is written."""
    picture = job.picture
    suffix = picture.image.suffix.lower()
    image = folder / "images" / job.split / f"{job.name}{suffix}"
    try:
        if picture.content:
            image.write_bytes(picture.content())
        else:
            _place(picture.image, image, folder)
        label = _draw(picture, image, values, unlabelled)
    except HedgeError as error:
        image.unlink(missing_ok=True)
        shown = str(error).replace(str(image), picture.image.name)
        mismatch = isinstance(error, SizeMismatchError)
        problem = Problem.SIZE_MISMATCH if mismatch else Problem.UNREADABLE
        detail = shown.removeprefix(f"{picture.origin}: ")
        where = picture.image.name
        detail = detail if where in detail else f"{where}: {detail}"
        return Finding(job.split, problem.value, str(picture.origin), detail)
    path = folder / "labels" / job.split / f"{job.name}.png"
    Image.fromarray(label).save(path, compress_level=3)
    return None


def _draw(picture: Picture, image: Path, values: dict[str, int], unlabelled: int) -> np.ndarray:
    """(H, W) uint8 ids of a picture that lies at ``image``."""
    size = read_size(image)
    try:
        return _layered(picture, size, values, unlabelled)
    except SizeMismatchError:
        # Tools that leave the orientation of a photo aside label it as it is stored.
        if (turn := read_orientation(image)) < 5:
            raise
        stored = _layered(picture, size[::-1], values, unlabelled)
        return np.asarray(upright(Image.fromarray(stored), turn))


def _layered(picture: Picture, size: Size, values: dict[str, int], unlabelled: int) -> np.ndarray:
    label = np.full(size, unlabelled, np.uint8)
    for name, mask in picture.layers(size):
        label[mask] = values.get(_tidy(name), IGNORE)
    return label


def _place(source: Path, target: Path, cache: Path) -> None:
    """A picture in its new place, without a second copy where the system allows that."""
    try:
        if source.is_relative_to(cache.parent):
            os.link(source, target)
        else:
            target.symlink_to(source.resolve())
    except OSError:  # Windows lets few make links
        shutil.copyfile(source, target)


def _twice(jobs: Sequence[_Job]) -> list[Finding]:
    """A finding for each picture that is labelled more than once."""
    seen: dict[Path, _Job] = {}
    findings = []
    for job in jobs:
        if (first := seen.setdefault(job.picture.image, job)) is not job:
            detail = f"{job.picture.image.name} is labelled in {first.picture.origin.name}, too"
            place = str(job.picture.origin)
            findings.append(
                Finding(job.split, Problem.DUPLICATE.value, place, f"{detail}; keep one")
            )
    return findings


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each picture: its stem, or as much of its path as tells it from others."""
    stems = Counter(composed(path.stem).casefold() for path in paths)
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        alone = stems[composed(path.stem).casefold()] == 1
        name = path.stem if alone else "-".join(path.with_suffix("").parts)
        name = _short(composed(name))
        if name.casefold() in taken:
            name = f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}-{len(names)}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _short(name: str) -> str:
    if len(name.encode()) > _LONGEST:
        name = f"{name[: _LONGEST // 4]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}-" if name.endswith(_TELLING) else name


def _tidy(name: str) -> str:
    """The name of a class as a class list writes it."""
    return unicodedata.normalize("NFC", name).strip()
