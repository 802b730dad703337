"""Supervisely: meta.json with the classes, and a JSON file of objects for each picture.

Polygons with holes, of one part or of several, and turned boxes are filled with OpenCV and bitmaps
are laid on, in the order of the file, as Supervisely itself does. Lines, points and the like are
left out. Pixels without a label are background.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from runtime.errors import HedgeError
from train.datasets.index import Fault, Problem, split_of
from train.datasets.tools.export import (
    Color,
    Export,
    Picture,
    Size,
    Tool,
    background,
    counted,
    require_size,
)
from train.datasets.tools.formats.packed import unpacked_mask
from train.datasets.tools.formats.raster import filled, points_of
from train.datasets.tools.tree import Tree, has_keys, read_json

_FOLDER = "ann"  # of the objects; the pictures lie beside it in img


class _Class(msgspec.Struct):
    title: str
    color: str = ""


class _Meta(msgspec.Struct):
    classes: list[_Class]


_Ring = list[tuple[float, float]]
_NOTHING = msgspec.Raw(b"null")


class _Points(msgspec.Struct):
    exterior: _Ring
    interior: list[_Ring] = []


class _Bitmap(msgspec.Struct):
    data: str
    origin: tuple[int, int]


class _Object(msgspec.Struct, rename="camel"):
    class_title: str
    geometry_type: str = ""
    # Parsed as they are drawn: what is left out has points of other forms.
    points: msgspec.Raw = _NOTHING
    parts: msgspec.Raw = _NOTHING  # of a multipolygon
    angle: msgspec.Raw = _NOTHING
    bitmap: _Bitmap | None = None

    @property
    def kind(self) -> str:
        """Its geometry; older exports only show it by what they hold."""
        return self.geometry_type or ("bitmap" if self.bitmap else "polygon")


class _Tag(msgspec.Struct):
    name: str


class _Size(msgspec.Struct):
    height: int
    width: int


class _File(msgspec.Struct):
    size: _Size
    objects: list[_Object]
    tags: list[_Tag] = []


def read(tree: Tree) -> Export:
    """The pictures of all datasets of a project, or of several."""
    metas = [read_json(path, _Meta, "Supervisely's meta.json") for path in _metas(tree)]
    classes = [row for meta in metas for row in meta.classes]
    left_out: Counter[str] = Counter()
    pictures: list[Picture] = []
    faults: list[Fault] = []
    for path in _annotations(tree):
        file = read_json(path, _File, "a Supervisely file")
        left_out += Counter(each.kind for each in file.objects if each.kind not in _DRAW)
        image = tree.find(path.name.removesuffix(".json"), path.parent.parent / "img")
        if image is None or image.parent.parent != path.parent.parent:
            detail = f"no picture {path.stem} in img; export with the images"
            faults.append(Fault(Problem.MISSING_FILE, path, detail))
            continue
        tagged = next((s for tag in file.tags if (s := split_of(tag.name))), "")
        drawn = [each for each in file.objects if each.kind in _DRAW]
        layers = partial(_layers, drawn, image.name, (file.size.height, file.size.width))
        pictures.append(Picture(image, layers, path, tagged or tree.split(path)))
    names = tuple(dict.fromkeys(row.title for row in classes))
    colors = {row.title: color for row in classes if (color := _color(row.color))}
    return Export(
        names,
        tuple(pictures),
        colors,
        background(names),
        notes=counted("left out, as they have no inside", left_out),
        faults=tuple(faults),
    )


def _fits(tree: Tree) -> bool:
    return bool(_metas(tree)) and bool(_annotations(tree))


TOOL = Tool("Supervisely", _fits, read)


def _metas(tree: Tree) -> list[Path]:
    """The files of classes, one of each project."""
    found = (path for path in tree.files if path.name == "meta.json")
    return [path for path in found if has_keys(tree.sniff(path), "classes")]


def _annotations(tree: Tree) -> list[Path]:
    return [path for path in tree.of(".json") if path.parent.name == _FOLDER]


def _color(code: str) -> Color | None:
    try:
        red, green, blue = bytes.fromhex(code.removeprefix("#"))
    except ValueError:
        return None
    return (red, green, blue) if red or green or blue else None


def _layers(
    objects: Sequence[_Object], name: str, claimed: tuple[int, int], size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    require_size(name, claimed, size)
    for each in objects:
        yield each.class_title, _DRAW[each.kind](each, size)


def _parsed(each: _Object, content: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        text = f"a {each.kind} of {each.class_title} is not understood: {error}; export it again"
        raise HedgeError(text) from error


def _rings(each: _Object, points: _Points, least: int) -> list[np.ndarray]:
    if len(points.exterior) < least:
        raise HedgeError(f"a {each.kind} of {each.class_title} lacks points; export it again")
    rings = [points.exterior, *(ring for ring in points.interior if len(ring) > 2)]
    return [np.rint(points_of(ring)) for ring in rings]


def _polygon(each: _Object, size: Size) -> np.ndarray:
    return filled(_rings(each, _parsed(each, each.points, _Points), 3), size)


def _multipolygon(each: _Object, size: Size) -> np.ndarray:
    mask = np.zeros(size, bool)
    for part in _parsed(each, each.parts, list[_Points]):
        mask |= filled(_rings(each, part, 3), size)
    return mask


def _corners(each: _Object) -> np.ndarray:
    """(2, 2) float64: left and top, right and bottom."""
    points = _parsed(each, each.points, _Points | _Ring)
    points = points if isinstance(points, _Points) else _Points(points)
    return np.sort(_rings(each, points, 2)[0][:2], axis=0)


def _turned(each: _Object, size: Size) -> np.ndarray:
    (left, top), (right, bottom) = corners = _corners(each)
    box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    angle, middle = _parsed(each, each.angle, float), corners.mean(axis=0)
    cos, sin = math.cos(angle), math.sin(angle)
    return filled([(box - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle], size)


def _rectangle(each: _Object, size: Size) -> np.ndarray:
    (left, top), (right, bottom) = _corners(each).astype(int).clip(0)
    mask = np.zeros(size, bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def _bitmap(each: _Object, size: Size) -> np.ndarray:
    if each.bitmap is None:
        raise HedgeError(f"a bitmap of {each.class_title} holds none; export it again")
    return unpacked_mask(each.bitmap.data, each.bitmap.origin, size, is_zlib=True)


_DRAW: dict[str, Callable[[_Object, Size], np.ndarray]] = {
    "alpha_mask": _bitmap,  # all that is not wholly clear
    "bitmap": _bitmap,
    "multipolygon": _multipolygon,
    "oriented_bbox": _turned,
    "polygon": _polygon,
    "rectangle": _rectangle,
}
