"""CVAT XML 1.1, for images and for video: polygons, rectangles, ellipses and masks, by z_order.

Outlines are drawn as CVAT's own mask export does: with pycocotools' rule, ellipses with OpenCV's.
Polylines, points, cuboids and skeletons have no inside and are left out. Pixels without a label
are background.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
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
from train.datasets.tools.formats.raster import coco_polygon, points_of, runs
from train.datasets.tools.tree import Tree

_NO_INSIDE = ("polyline", "points", "cuboid", "skeleton")
_FRAME = re.compile(r"frame_(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Shape:
    label: str
    kind: str
    at: Mapping[str, str]

    @property
    def z_order(self) -> int:
        return int(self.at.get("z_order") or 0)


@dataclass
class _Image:
    name: str
    size: tuple[int, int]
    split: str
    shapes: list[_Shape] = field(default_factory=list)


@dataclass
class _File:
    """What an XML file holds: images by name, or the shapes of a video by frame."""

    labels: dict[str, Color | None] = field(default_factory=dict)
    images: list[_Image] = field(default_factory=list)
    frames: dict[int, list[_Shape]] = field(default_factory=lambda: defaultdict(list))
    left_out: Counter[str] = field(default_factory=Counter)
    is_video: bool = False


def read(tree: Tree) -> Export:
    """All XML files of a tree, as one export."""
    labels: dict[str, Color | None] = {}
    left_out: Counter[str] = Counter()
    pictures: list[Picture] = []
    faults: list[Fault] = []
    for path in filter(partial(_is_cvat, tree), tree.of(".xml")):
        file = _parsed(path)
        labels |= file.labels
        left_out += file.left_out
        pictures += _frames(tree, path, file) if file.is_video else []
        for image in file.images:
            found = tree.find(image.name, path.parent, image.split)
            if found is None:
                detail = f"no picture {image.name} in {tree.root}; export with 'Save images'"
                faults.append(Fault(Problem.MISSING_FILE, path, detail))
                continue
            layers = partial(_layers, image.shapes, image.name, image.size)
            pictures.append(Picture(found, layers, path, image.split or tree.split(found)))
    return Export(
        tuple(labels),
        tuple(pictures),
        {name: color for name, color in labels.items() if color and any(color)},
        background(labels),
        notes=counted("left out, as they have no inside", left_out),
        faults=tuple(faults),
    )


def _fits(tree: Tree) -> bool:
    return any(_is_cvat(tree, path) for path in tree.of(".xml")[:20])


TOOL = Tool("CVAT XML", _fits, read)


def _is_cvat(tree: Tree, path: Path) -> bool:
    head = tree.sniff(path)
    return b"<annotations" in head and (b"<image" in head or b"<track" in head or b"<meta" in head)


def _parsed(path: Path) -> _File:
    file = _File()
    try:
        if b"<!DOCTYPE" in path.read_bytes()[: 1 << 20]:
            raise HedgeError(f"{path}: has a DOCTYPE, which CVAT never writes; export it again")
        for _, element in ElementTree.iterparse(path):
            take = _TAKE.get(element.tag)
            if take:
                take(file, element)
                element.clear()
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        if isinstance(error, HedgeError):
            raise
        raise HedgeError(f"{path}: not CVAT's XML 1.1: {error}; export it again") from error
    return file


def _take_label(file: _File, element: ElementTree.Element) -> None:
    # Joints of a skeleton are listed like any class.
    if (name := element.findtext("name")) and element.findtext("type") not in (*_NO_INSIDE, "tag"):
        code = element.findtext("color") or ""
        is_color = re.fullmatch("#[0-9a-fA-F]{6}", code)
        red, green, blue = bytes.fromhex(code[1:]) if is_color else b"\0\0\0"
        file.labels[name] = (red, green, blue) if is_color else None


def _take_image(file: _File, element: ElementTree.Element) -> None:
    at = element.attrib
    size = (int(float(at["height"])), int(float(at["width"])))
    image = _Image(at["name"], size, split_of(at.get("subset", "")))
    for child in element:
        if child.tag in _MASKS:
            image.shapes.append(_shape(file, child.attrib["label"], child))
        file.left_out[child.tag] += child.tag in _NO_INSIDE
    file.images.append(image)


def _take_track(file: _File, element: ElementTree.Element) -> None:
    file.is_video = True
    for child in element:
        if child.tag in _MASKS and child.attrib.get("outside") != "1":
            shape = _shape(file, element.attrib["label"], child)
            file.frames[int(child.attrib["frame"])].append(shape)
        file.left_out[child.tag] += child.tag in _NO_INSIDE


def _shape(file: _File, label: str, element: ElementTree.Element) -> _Shape:
    file.labels.setdefault(label, None)  # scripts that write such files list no labels
    return _Shape(label, element.tag, dict(element.attrib))


_TAKE: dict[str, Callable[[_File, ElementTree.Element], None]] = {
    "label": _take_label,
    "image": _take_image,
    "track": _take_track,
}


def _frames(tree: Tree, path: Path, file: _File) -> Iterator[Picture]:
    """The frames of a video, which CVAT exports as frame_000000 and so on; empty ones, too."""
    for image in tree.images:
        if match := _FRAME.fullmatch(image.stem):
            layers = partial(_layers, file.frames.get(int(match[1]), []), image.name, (0, 0))
            video = path.relative_to(tree.root).as_posix()
            yield Picture(image, layers, path, tree.split(image), video=video)


def _layers(
    shapes: Sequence[_Shape], name: str, claimed: tuple[int, int], size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    require_size(name, claimed, size)
    for shape in sorted(shapes, key=lambda shape: shape.z_order):
        try:
            yield shape.label, _MASKS[shape.kind](shape.at, size)
        except (KeyError, ValueError) as error:
            raise HedgeError(f"{name}: a {shape.kind} is not understood: {error}") from error


def _numbers(at: Mapping[str, str], *keys: str) -> list[float]:
    numbers = [float(at[key]) for key in keys]
    points_of([*numbers, *numbers])  # refuses what is not finite or lies far outside
    return numbers


def _polygon(at: Mapping[str, str], size: Size) -> np.ndarray:
    pairs = [pair.split(",") for pair in at["points"].split(";")]
    return coco_polygon(points_of([float(value) for pair in pairs for value in pair]), size)


def _box(at: Mapping[str, str], size: Size) -> np.ndarray:
    left, top, right, bottom = _numbers(at, "xtl", "ytl", "xbr", "ybr")
    angle = math.radians(float(at.get("rotation") or 0))
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    middle = corners.mean(axis=0)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return coco_polygon((corners - middle) @ turn + middle if angle else corners, size)


def _ellipse(at: Mapping[str, str], size: Size) -> np.ndarray:
    x, y, rx, ry = (round(value) for value in _numbers(at, "cx", "cy", "rx", "ry"))
    mask = np.zeros(size, np.uint8)
    angle = float(at.get("rotation") or 0)
    return cv2.ellipse(mask, (x, y), (abs(rx), abs(ry)), angle, 0, 360, 1, -1).astype(bool)


def _mask(at: Mapping[str, str], size: Size) -> np.ndarray:
    left, top, width, height = (int(v) for v in _numbers(at, "left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or top + height > size[0] or left + width > size[1]:
        raise HedgeError("a mask reaches out of its picture; export it again")
    counts = [int(text) for text in at["rle"].split(",")]
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = runs(counts, (height, width), by_column=False)
    return mask


_MASKS: dict[str, Callable[[Mapping[str, str], Size], np.ndarray]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
