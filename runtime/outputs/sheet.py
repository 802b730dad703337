"""Sheets of pictures: rows with a line of text above each, and a legend of classes below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime import files
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.outputs.checks import writing
from runtime.outputs.overlay import UNKNOWN, Overlay, text_mask

WIDTH = 1280  # of a sheet, in pixels
_POINTS, _GAP, _INK, _PAPER = 15, 6, 235, 24
_WRONG = (60, 60, 255)  # BGR of pixels that are not what their label says
_DIM = 0.4  # what is left of the picture under the errors

Row = tuple[str, Sequence[np.ndarray]]


def sheet(rows: Sequence[Row], classes: ClassSet) -> np.ndarray:
    """(H, WIDTH, 3) uint8 BGR: each row's text above its pictures, the classes' colours below.

    Pictures are (h, w, 3) uint8 BGR of any size; those of a row share its width evenly.
    """
    parts: list[np.ndarray] = []
    for text, pictures in rows:
        parts += [_line(text), _side_by_side(pictures)]
    return np.concatenate([*parts, *_legend(classes)])


def judged(
    image: np.ndarray, target: np.ndarray, labels: np.ndarray, overlay: Overlay
) -> list[np.ndarray]:
    """Four pictures: the image, its label, the prediction, and in red where these two differ.

    image: (H, W, 3) uint8 BGR; target, labels: (H, W) uint8. Pixels without a label are dark gray
    in the label and never wrong.
    """
    errors = (image * _DIM).astype(np.uint8)
    errors[(target != labels) & (target != IGNORE)] = _WRONG
    return [image, overlay.colors(target), overlay.colors(labels), errors]


def save(picture: np.ndarray, path: Path) -> None:
    """Write an (H, W, 3) uint8 BGR picture as PNG, whole or not at all; OutputError if it cannot
    be written."""
    with writing(path):
        files.write_bytes(path, cv2.imencode(".png", picture)[1].tobytes())


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    side = (WIDTH - _GAP * (len(pictures) + 1)) // len(pictures)
    height = max(1, round(side * pictures[0].shape[0] / pictures[0].shape[1]))
    row = np.full((height, WIDTH, 3), _PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        method = cv2.INTER_AREA if picture.shape[1] > side else cv2.INTER_NEAREST
        left = _GAP + number * (side + _GAP)
        row[:, left : left + side] = cv2.resize(picture, (side, height), interpolation=method)
    return row


def _line(text: str) -> np.ndarray:
    mask = text_mask(text, _POINTS)[:, : WIDTH - 2 * _GAP]
    line = np.full((mask.shape[0] + _GAP, WIDTH, 3), _PAPER, np.uint8)
    _write(line, mask, _GAP)
    return line


def _legend(classes: ClassSet) -> list[np.ndarray]:
    """Lines of swatches and names."""
    entries = [*zip(classes.names, classes.palette().tolist(), strict=False)]
    lines: list[np.ndarray] = []
    left = WIDTH
    for name, color in [*entries, ("no label", UNKNOWN)]:
        mask = text_mask(name, _POINTS)[:, : WIDTH // 2]
        if left + mask.shape[1] + 2 * _POINTS > WIDTH:
            lines.append(np.full((mask.shape[0] + _GAP, WIDTH, 3), _PAPER, np.uint8))
            left = _GAP
        swatch = (left, _GAP, _POINTS, _POINTS)
        cv2.rectangle(lines[-1], swatch, color, cv2.FILLED)
        _write(lines[-1], mask, left + _POINTS + _GAP)
        left += mask.shape[1] + 2 * _POINTS + _GAP
    return lines


def _write(line: np.ndarray, mask: np.ndarray, left: int) -> None:
    area = line[_GAP // 2 : _GAP // 2 + mask.shape[0], left : left + mask.shape[1]]
    ink = _PAPER + mask[..., None].astype(np.float32) / 255 * (_INK - _PAPER)
    area[:] = ink.astype(np.uint8)
