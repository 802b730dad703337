"""Predictions as outlines that labelling tools import, to be corrected there: COCO or CVAT's XML.

Each connected area of a class is a polygon. They are written from the largest to the smallest: what
lies in the hole of another is drawn above it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.sax.saxutils import quoteattr

import cv2
import msgspec
import numpy as np

from runtime import files
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.outputs.checks import writing

_LEAST = 5e-5  # of the image's pixels: smaller areas become part of what surrounds them
_SLACK = 0.6  # pixels that an outline may be off, for the fewer corners
_UNTOLD = re.compile("[\0-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Area:
    """A connected area of a class; outline: (N, 2) float x and y, of the picture's upper left
    corner, through the outermost pixels; pixels: those and all inside of it, holes included."""

    label: int
    outline: np.ndarray
    pixels: int


def areas(labels: np.ndarray) -> list[Area]:
    """The areas of (H, W) uint8 labels, the largest first; 255 has none."""
    found = []
    for label in np.unique(labels[labels != IGNORE]):
        # At twice the size an outline runs a quarter of a pixel inside the edge, not half of one.
        mask = cv2.resize((labels == label).astype(np.uint8), None, fx=2, fy=2,
                          interpolation=cv2.INTER_NEAREST)  # fmt: skip
        rings, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = (ring for ring, (*_, parent) in zip(rings, tree[0], strict=True) if parent < 0)
        for ring in outer:  # those of an area within another one's hole as well
            # Pick's theorem: the contour runs through the middles of the outermost pixels.
            pixels = round((cv2.contourArea(ring) + len(ring) / 2 + 1) / 4)
            outline = cv2.approxPolyDP(ring, _SLACK, True)[:, 0] / 2 + 0.25
            if pixels >= _LEAST * labels.size and len(outline) > 2:
                found.append(Area(int(label), outline, pixels))
    return sorted(found, key=lambda area: -area.pixels)


def check_annotations(path: Path) -> None:
    """Raise HedgeError for a file's name that says neither of the two formats."""
    if path.suffix.lower() not in _SINKS:
        raise HedgeError(f"{path}: end its name in .json for COCO, in .xml for CVAT")


class _Sink(Closing, ABC):
    """A file that grows frame by frame, and is there, whole, when it is closed."""

    def __init__(self, path: Path, classes: ClassSet) -> None:
        self.path, self.classes = path, classes
        self._stack = ExitStack()
        with writing(path):
            temporary = self._stack.enter_context(files.atomic_path(path))
            self._file: IO[str] = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        self._frames = 0
        self._put(self.head())

    def write(self, name: str, labels: np.ndarray) -> None:
        """Append the areas of (H, W) uint8 ``labels`` of the picture ``name``."""
        # Neither format holds bytes that are no text, nor XML control codes.
        name = _UNTOLD.sub(lambda found: files.printable(found[0]), name)
        for text in self.frame(name, labels, areas(labels)):
            self._put(text)
        self._frames += 1

    def close(self) -> None:
        """Finish the file; harmless when repeated."""
        if not self._file.closed:
            self._put(self.tail())
        with writing(self.path):
            self._stack.close()

    def _put(self, text: str) -> None:
        with writing(self.path):
            self._file.write(text)

    @abstractmethod
    def head(self) -> str:
        """What comes before the frames."""

    @abstractmethod
    def frame(self, name: str, labels: np.ndarray, found: list[Area]) -> Iterator[str]:
        """What is written of a frame."""

    @abstractmethod
    def tail(self) -> str:
        """What comes after the frames."""


class CocoSink(_Sink):
    """COCO: annotations as they come, the list of the pictures after them."""

    def head(self) -> str:
        """Categories, whose ids begin with 1."""
        self._images: list[dict[str, str | int]] = []
        self._count = 0
        rows = [{"id": i + 1, "name": name} for i, name in enumerate(self.classes.names)]
        return f'{{"categories": {_json(rows)}, "annotations": ['

    def frame(self, name: str, labels: np.ndarray, found: list[Area]) -> Iterator[str]:
        """A line an area."""
        height, width = labels.shape
        number = self._frames + 1
        self._images.append({"id": number, "file_name": name, "width": width, "height": height})
        for area in found:
            low, high = area.outline.min(0), area.outline.max(0)
            row = {
                "id": self._count + 1,
                "image_id": number,
                "category_id": area.label + 1,
                "segmentation": [area.outline.ravel().tolist()],
                "area": area.pixels,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "iscrowd": 0,
            }
            yield f"{',' if self._count else ''}\n{_json(row)}"
            self._count += 1

    def tail(self) -> str:
        """The pictures."""
        return f'\n], "images": {_json(self._images)}}}\n'


class CvatSink(_Sink):
    """CVAT XML 1.1 for images: a later area has a higher z_order."""

    def head(self) -> str:
        """The labels with their colours."""
        labels = "".join(
            f"<label><name>{_escaped(name)}</name><color>#{bytes(color).hex()}</color></label>"
            for name, color in zip(self.classes.names, self.classes.colors, strict=True)
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
            f"<meta><job><labels>{labels}</labels></job></meta>\n"
        )

    def frame(self, name: str, labels: np.ndarray, found: list[Area]) -> Iterator[str]:
        """An image with its polygons."""
        height, width = labels.shape
        yield (
            f'<image id="{self._frames}" name={quoteattr(name)} width="{width}" height="{height}">'
        )
        for order, area in enumerate(found):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in area.outline)
            label = quoteattr(self.classes.names[area.label])
            yield (
                f'\n<polygon label={label} occluded="0" z_order="{order}" source="auto" '
                f'points="{points}"/>'
            )
        yield "\n</image>\n"

    def tail(self) -> str:
        """The end."""
        return "</annotations>\n"


_SINKS: dict[str, type[CocoSink | CvatSink]] = {".json": CocoSink, ".xml": CvatSink}


def annotation_sink(path: Path, classes: ClassSet) -> CocoSink | CvatSink:
    """Open a file of annotations by the suffix of its name, which ``check_annotations`` took."""
    return _SINKS[path.suffix.lower()](path, classes)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _escaped(text: str) -> str:
    return quoteattr(text)[1:-1]
