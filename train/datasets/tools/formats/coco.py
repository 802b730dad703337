"""COCO: a JSON file of images, categories and annotations, each a set of outlines or of runs.

Roboflow (``_annotations.coco.json`` in each split), Label Studio (``result.json``), CVAT and the
official sets (``annotations/instances_*.json``) write it. Later annotations lie above earlier ones;
a crowd region lies below all others. Pixels without a label are background.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import HedgeError
from train.datasets.index import Fault, Problem
from train.datasets.tools.export import (
    Export,
    Picture,
    Size,
    Tool,
    background,
    counted,
    require_size,
)
from train.datasets.tools.formats import others
from train.datasets.tools.formats.raster import coco_counts, coco_polygon, points_of, runs
from train.datasets.tools.tree import Tree, has_keys, read_json

_OTHERS = ("captions", "image_info", "panoptic", "person_keypoints")  # of the official set
_DATUMARO = re.compile(rb'"categories"\s*:\s*\{')  # by kind, where COCO has a list
_ONLY_BOXES = (
    "holds boxes only, no outlines ('segmentation'); label with polygons or masks, and export "
    "'COCO Segmentation' (Roboflow) or 'COCO 1.0' (CVAT)"
)


_Id = int | float | str


class Rle(msgspec.Struct, frozen=True):
    """Run lengths of a mask, by column; as text where they are compressed."""

    counts: list[int] | str
    size: tuple[int, int]


class _Image(msgspec.Struct):
    id: _Id
    file_name: str
    height: float | None = None
    width: float | None = None
    video_id: _Id | None = None

    @property
    def claimed(self) -> tuple[int, int]:
        """Height and width as the file has them, 0 where it has none."""
        return int(self.height or 0), int(self.width or 0)


class _Annotation(msgspec.Struct):
    image_id: _Id
    category_id: _Id | None
    # Parsed as it is drawn: as Python's numbers, all outlines of COCO would take gigabytes.
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: float | bool | None = 0
    attributes: msgspec.Raw = msgspec.Raw()

    def is_box(self) -> bool:
        """Whether it outlines nothing."""
        return bytes(self.segmentation).replace(b" ", b"") in (b"null", b"[]", b"[[]]", b"{}")

    def is_crowd(self) -> bool:
        """Whether it is a region of many things; CVAT, which writes attributes, marks every mask
        as one."""
        return bool(self.iscrowd) and not self.attributes


class _Category(msgspec.Struct):
    id: _Id
    name: str
    supercategory: str | None = None


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def read(tree: Tree) -> Export:
    """All files of a tree that hold COCO annotations, as one export."""
    paths = _files(tree)
    for path in paths:
        if _DATUMARO.search(tree.sniff(path)):
            raise HedgeError(f"{path}: Datumaro's own format, not COCO; export as 'COCO 1.0'")
    loaded = [(path, read_json(path, _File, "a COCO file")) for path in paths]
    used = {_key(a.category_id) for _, file in loaded for a in file.annotations}
    rows = [row for _, file in loaded for row in file.categories]
    groups = {row.supercategory for row in rows}
    # Roboflow lists the name of the project as a class of its own, which no annotation has.
    names = dict.fromkeys(r.name for r in rows if _key(r.id) in used or r.name not in groups)
    boxes = Counter({"boxes": sum(a.is_box() for _, f in loaded for a in f.annotations)})
    strays = Counter({"annotations": sum(_strays(file) for _, file in loaded)})
    if boxes["boxes"] and boxes["boxes"] == sum(len(file.annotations) for _, file in loaded):
        raise HedgeError(f"{paths[0]}: {_ONLY_BOXES}")
    pictures: list[Picture] = []
    faults: list[Fault] = []
    for (path, file), told in zip(loaded, tree.splits(paths), strict=True):
        found, missing = _pictures(tree, path, file, told)
        pictures += found
        if missing and not found:
            detail = f"none of its {len(missing)} pictures, as {missing[0]}, is in {tree.root}"
            faults.append(Fault(Problem.MISSING_FILE, path, detail))
        else:  # labels of all pictures beside a selection of them are no reason to stop
            details = (f"no picture {name} in {tree.root}" for name in missing)
            faults += (Fault(Problem.ORPHAN_LABEL, path, detail) for detail in details)
    return Export(
        tuple(names),
        tuple(pictures),
        unlabelled=background(names),
        notes=(
            *counted("left out, as nothing outlines them", boxes),
            *counted("left out, as no picture has their image_id", strays),
        ),
        faults=tuple(faults),
    )


def _fits(tree: Tree) -> bool:
    return any(_is_coco(tree, path) for path in tree.of(".json")[:50])


TOOL = Tool("COCO", _fits, read)


def _is_coco(tree: Tree, path: Path) -> bool:
    if path.name.startswith(_OTHERS):
        return False
    keys = ("images", "annotations", "categories")
    data = tree.sniff(path)
    return path.name.endswith(".coco.json") or (
        has_keys(data, *keys, least=2) and not others.of_text(path, data)
    )


def _files(tree: Tree) -> list[Path]:
    """The files to read: those of instances where the official set has others, too."""
    found = [path for path in tree.of(".json") if _is_coco(tree, path)]
    return [path for path in found if path.name.startswith("instances")] or found


def _key(number: _Id | None) -> str:
    """An id as text, since tables write numbers as 1.0 and scripts as "1", in one of two places."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number)


def _strays(file: _File) -> int:
    """How many annotations are of no picture of their file."""
    known = {_key(image.id) for image in file.images}
    return sum(_key(annotation.image_id) not in known for annotation in file.annotations)


def _pictures(tree: Tree, path: Path, file: _File, told: str) -> tuple[list[Picture], list[str]]:
    """The pictures of one file, whose split is ``told``, and the names of those that are not
    there."""
    names = {_key(row.id): row.name for row in file.categories}
    by_image: dict[str, list[_Annotation]] = defaultdict(list)
    for annotation in file.annotations:
        if not annotation.is_box():
            by_image[_key(annotation.image_id)].append(annotation)
    best: dict[Path, list[_Image]] = {}
    for image in file.images:
        found = tree.find(image.file_name, path.parent, told)
        rows = best.get(found, []) if found else []
        # A selection may lack a picture of whose name another folder has one, too.
        if found and tree.likeness(found, image.file_name) > (
            tree.likeness(found, rows[0].file_name) if rows else 0
        ):
            best[found] = [image]
        elif rows and rows[0].file_name == image.file_name:  # as files that were joined list it
            rows.append(image)
    pictures = []
    for found, (image, *more) in best.items():
        every = (a for row in (image, *more) for a in by_image.get(_key(row.id), []))
        own = sorted(every, key=lambda a: not a.is_crowd())
        layers = partial(_layers, own, names, image)
        split = told or tree.split(found)
        video = "" if image.video_id is None else f"{path.stem} {image.video_id}"
        pictures.append(Picture(found, layers, path, split, video=video))
    taken = {_key(image.id) for rows in best.values() for image in rows}
    return pictures, [image.file_name for image in file.images if _key(image.id) not in taken]


def _layers(
    annotations: Sequence[_Annotation], names: dict[str, str], image: _Image, size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    require_size(image.file_name, image.claimed, size)
    for annotation in annotations:
        category = _key(annotation.category_id)
        if category not in names:
            raise HedgeError(f"no category has the id {category}; export it again")
        yield names[category], _mask(annotation.segmentation, size)


def _mask(segmentation: msgspec.Raw, size: Size) -> np.ndarray:
    """(H, W) bool of runs, or of outlines together."""
    try:
        shape = msgspec.json.decode(segmentation, type=list[list[float] | float] | Rle)
    except msgspec.MsgspecError as error:
        raise HedgeError(f"a segmentation is not understood: {error}; export it again") from error
    if isinstance(shape, Rle):
        return rle_mask(shape, size)
    parts = shape if all(isinstance(ring, list) for ring in shape) else [shape]
    mask = np.zeros(size, bool)
    for ring in parts:
        points = points_of(ring if isinstance(ring, list) else [])
        if len(points) >= 3:
            mask |= coco_polygon(points, size)
    return mask


def rle_mask(rle: Rle, size: Size) -> np.ndarray:
    """(H, W) bool of the runs of a mask; HedgeError where it is not of this size."""
    require_size("a mask", rle.size, size)
    counts = coco_counts(rle.counts) if isinstance(rle.counts, str) else rle.counts
    return runs(counts, size, by_column=True)
