"""LabelMe: one JSON file a picture, which may hold the picture, too.

Shapes are drawn with PIL, as LabelMe's own converters do, later ones above earlier ones; lines and
points are left out. Pixels without a label are background, "__ignore__" counts nowhere.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES
from train.datasets.index import Fault, Problem
from train.datasets.tools.export import (
    BACKGROUND,
    Export,
    Picture,
    Size,
    Tool,
    counted,
    require_size,
)
from train.datasets.tools.formats.packed import unpacked_mask
from train.datasets.tools.formats.raster import points_of
from train.datasets.tools.tree import Tree, has_keys, read_json

_IGNORED = frozenset({"__ignore__", "_ignore_"})
_BACKGROUNDS = ("_background_", "__background__", BACKGROUND)


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class _File(msgspec.Struct, rename="camel"):
    shapes: list[_Shape] = msgspec.field(name="shapes")
    image_path: str
    image_height: int | None = None
    image_width: int | None = None
    image_data: msgspec.Raw = msgspec.Raw(b"null")


class _Data(msgspec.Struct, rename="camel"):
    image_data: str


def read(tree: Tree) -> Export:
    """The pictures of all JSON files; classes by name."""
    names: set[str] = set()
    left_out: Counter[str] = Counter()
    pictures: list[Picture] = []
    faults: list[Fault] = []
    for path in filter(partial(_is_labelme, tree), tree.of(".json")):
        file = read_json(path, _File, "a LabelMe file")
        names |= {shape.label for shape in file.shapes if _kind(shape) in _DRAW}
        left_out += Counter(_kind(shape) for shape in file.shapes if _kind(shape) not in _DRAW)
        image = tree.find(file.image_path, path.parent, tree.split(path))
        content = None
        if image is None and bytes(file.image_data) != b"null":
            suffix = Path(file.image_path).suffix.lower()
            image = path.with_suffix(suffix if suffix in IMAGE_SUFFIXES else ".png")
            content = partial(_embedded, path)
        if image is None:
            detail = f"no picture {file.image_path} in {tree.root}, and none in the file itself"
            faults.append(Fault(Problem.MISSING_FILE, path, detail))
            continue
        shapes = [shape for shape in file.shapes if _kind(shape) in _DRAW]
        layers = partial(_layers, shapes, image.name, (file.image_height, file.image_width))
        split = tree.split(path) or tree.split(image)
        pictures.append(Picture(image, layers, path, split, content))
    ordered = sorted(names - _IGNORED - {*_BACKGROUNDS})
    background = next((name for name in _BACKGROUNDS if name in names), BACKGROUND)
    return Export(
        tuple(ordered),
        tuple(pictures),
        unlabelled=background,
        ignored=_IGNORED,
        notes=counted("left out, as they have no inside", left_out),
        faults=tuple(faults),
    )


def _fits(tree: Tree) -> bool:
    return any(_is_labelme(tree, path) for path in tree.of(".json")[:20])


TOOL = Tool("LabelMe", _fits, read)


def _is_labelme(tree: Tree, path: Path) -> bool:
    keys = ("shapes", "imagePath", "imageData", "imageHeight")
    return has_keys(tree.sniff(path), *keys, least=2)


def _kind(shape: _Shape) -> str:
    return shape.shape_type or "polygon"


def _embedded(path: Path) -> bytes:
    """The picture that a file holds."""
    data = read_json(path, _Data, "a LabelMe file with imageData").image_data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise HedgeError(f"{path}: imageData is damaged: {error}; save it again") from error


def _layers(
    shapes: Sequence[_Shape], name: str, claimed: tuple[int | None, int | None], size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    require_size(name, claimed, size)
    for shape in shapes:
        yield shape.label, _DRAW[_kind(shape)](shape, size)


def _corners(shape: _Shape, least: int, most: int) -> list[tuple[float, float]]:
    if not least <= len(shape.points) <= most:
        raise HedgeError(
            f"a {_kind(shape)} of {shape.label} has {len(shape.points)} points; draw it again"
        )
    points_of(shape.points)
    return shape.points


def _drawn(size: Size, draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    image = Image.new("L", size[::-1])
    draw(ImageDraw.Draw(image))
    return np.asarray(image).astype(bool)


def _polygon(shape: _Shape, size: Size) -> np.ndarray:
    points = _corners(shape, 3, 1 << 20)
    return _drawn(size, lambda pen: pen.polygon(points, outline=1, fill=1))


def _rectangle(shape: _Shape, size: Size) -> np.ndarray:
    columns, rows = zip(*_corners(shape, 2, 4), strict=True)  # four where X-AnyLabeling wrote it
    box = (min(columns), min(rows), max(columns), max(rows))
    return _drawn(size, lambda pen: pen.rectangle(box, outline=1, fill=1))


def _circle(shape: _Shape, size: Size) -> np.ndarray:
    (x, y), (px, py) = _corners(shape, 2, 2)
    radius = float(np.hypot(px - x, py - y))
    box = (x - radius, y - radius, x + radius, y + radius)
    return _drawn(size, lambda pen: pen.ellipse(box, outline=1, fill=1))


def _mask(shape: _Shape, size: Size) -> np.ndarray:
    (left, top), _ = _corners(shape, 2, 2)
    return unpacked_mask(shape.mask or "", (round(left), round(top)), size, is_zlib=False)


_DRAW: dict[str, Callable[[_Shape, Size], np.ndarray]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _polygon,  # by its corners
    "rotation": _polygon,  # the same of X-AnyLabeling, as is the next
    "quadrilateral": _polygon,
    "circle": _circle,
    "mask": _mask,
}
