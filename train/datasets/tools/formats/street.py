"""Street sets as they are handed out: Mapillary Vistas, and BDD100K's masks and polygons.

Vistas labels are numbers of config*.json's list; a class that is not evaluated there counts
nowhere. BDD100K has the classes of Cityscapes, and nothing else counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from runtime.bundle.classes import CITYSCAPES, IGNORE
from runtime.errors import HedgeError
from train.datasets.index import Fault, Problem
from train.datasets.tools.export import Color, Export, Picture, Size, Tool
from train.datasets.tools.formats.coco import Rle, rle_mask
from train.datasets.tools.formats.masks import NOWHERE, by_id
from train.datasets.tools.formats.raster import coco_polygon, points_of
from train.datasets.tools.tree import Tree, has_keys, read_json

_BDD_ENDINGS = ("_train_id", "")  # of a mask's stem in the old release, and in the new one
_STEPS = 20  # straight pieces of a curve


class _VistasLabel(msgspec.Struct):
    readable: str
    color: Color
    evaluate: bool = True


class _Vistas(msgspec.Struct):
    labels: list[_VistasLabel]


class _Outline(msgspec.Struct):
    vertices: list[tuple[float, float]]
    types: str = ""


class _Label(msgspec.Struct):
    category: str
    poly2d: list[_Outline] | None = None
    rle: Rle | None = None


class _Frame(msgspec.Struct, rename="camel"):
    name: str
    labels: list[_Label] | None = None
    video_name: str | None = None


class _Frames(msgspec.Struct):
    frames: list[_Frame]


def read_vistas(tree: Tree) -> Export:
    """The labels of the newest version that is there, or of the config that is named."""
    config = _configs(tree)[-1]
    rows = read_json(config, _Vistas, "a config of Mapillary Vistas").labels
    version = config.stem.removeprefix("config").strip("_")
    names = {i: row.readable for i, row in enumerate(rows)}
    known = {i: name if rows[i].evaluate else NOWHERE for i, name in names.items()}
    labels = [path for path in tree.images if path.parent.name == "labels"]
    own = [path for path in labels if path.parent.parent.name == version]
    pictures, faults = _paired(tree, own or labels, known, ("",))
    return Export(
        tuple(dict.fromkeys(name for name in known.values() if name)),
        tuple(pictures),
        {row.readable: row.color for row in rows},
        NOWHERE,
        notes=(f"labels by {config.name}; give another config as --data for its version",),
        faults=tuple(faults),
    )


def read_bdd(tree: Tree) -> Export:
    """The masks where there are some, else the polygons."""
    if masks := _masks(tree):
        known = dict(enumerate(CITYSCAPES.names)) | {IGNORE: NOWHERE}
        pictures, faults = _paired(tree, masks, known, _BDD_ENDINGS)
    else:
        pictures, faults = _outlined(tree)
    colors = dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
    return Export(CITYSCAPES.names, tuple(pictures), colors, NOWHERE, faults=tuple(faults))


def _fits_vistas(tree: Tree) -> bool:
    return bool(_configs(tree)) and any(path.parent.name == "labels" for path in tree.images)


def _fits_bdd(tree: Tree) -> bool:
    return bool(_masks(tree)) or any(_is_bdd(tree, path) for path in tree.of(".json")[:20])


TOOLS = (
    Tool("Mapillary Vistas", _fits_vistas, read_vistas),
    Tool("BDD100K", _fits_bdd, read_bdd),
)


def _configs(tree: Tree) -> list[Path]:
    found = (path for path in tree.of(".json") if path.name.startswith("config"))
    return [path for path in found if has_keys(tree.sniff(path), "labels", "readable")]


def _masks(tree: Tree) -> list[Path]:
    """Masks of labels/sem_seg/masks/, or of the old release's seg/labels/."""
    return [
        path
        for path in tree.images
        if "sem_seg/masks/" in path.as_posix() or path.stem.endswith("_train_id")
    ]


def _is_bdd(tree: Tree, path: Path) -> bool:
    data = tree.sniff(path)
    return has_keys(data, "name", "category") and has_keys(data, "poly2d", "rle", least=1)


def _paired(
    tree: Tree, labels: Sequence[Path], names: dict[int, str], endings: Sequence[str]
) -> tuple[list[Picture], list[Fault]]:
    pictures, faults = [], []
    for label in labels:
        ending = next(each for each in endings if label.stem.endswith(each))
        image = tree.find(f"images/{label.stem.removesuffix(ending)}.jpg", label, tree.split(label))
        if image is None:
            faults.append(Fault(Problem.ORPHAN_LABEL, label, "no picture of this name"))
            continue
        layers = partial(by_id, label, names)
        pictures.append(Picture(image, layers, label, tree.split(label) or tree.split(image)))
    return pictures, faults


def _outlined(tree: Tree) -> tuple[list[Picture], list[Fault]]:
    pictures: list[Picture] = []
    faults: list[Fault] = []
    paths = [path for path in tree.of(".json") if _is_bdd(tree, path)]
    for path, told in zip(paths, tree.splits(paths), strict=True):
        found = read_json(path, _Frames | list[_Frame], "a BDD100K file")  # type: ignore[arg-type]
        for frame in found.frames if isinstance(found, _Frames) else found:
            image = tree.find(frame.name, path.parent, told)
            if image is None:
                detail = f"no picture {frame.name} in {tree.root}"
                faults.append(Fault(Problem.ORPHAN_LABEL, path, detail))
                continue
            layers = partial(_layers, frame.labels or [])
            split = told or tree.split(image)
            pictures.append(Picture(image, layers, path, split, video=frame.video_name or ""))
    return pictures, faults


def _layers(labels: Sequence[_Label], size: Size) -> Iterator[tuple[str, np.ndarray]]:
    for label in labels:
        if label.category not in CITYSCAPES.names:
            continue  # as in BDD100K's own masks: what lies below it stays
        mask = rle_mask(label.rle, size) if label.rle else np.zeros(size, bool)
        for outline in label.poly2d or []:
            if len(outline.vertices) > 2:
                mask |= coco_polygon(_flattened(outline), size)
        yield label.category, mask


def _flattened(outline: _Outline) -> np.ndarray:
    """(N, 2) points of an outline, in which three C stand for a curve: two controls and its end."""
    points = points_of(outline.vertices)
    types = outline.types or "L" * len(points)
    if len(types) != len(points):
        raise HedgeError("an outline has other types than points; export it again")
    closed = np.concatenate([points, points[:1]])
    found = [points[0]]
    i = 1
    while i < len(points):
        if types[i] == "C" and i + 2 < len(closed):
            t = np.linspace(0, 1, _STEPS + 1)[1:, None]
            start, (one, two, end) = found[-1], closed[i : i + 3]
            found += list(
                (1 - t) ** 3 * start
                + 3 * (1 - t) ** 2 * t * one
                + 3 * (1 - t) * t**2 * two
                + t**3 * end
            )
            i += 3
        else:
            found.append(points[i])
            i += 1
    return np.array(found)
