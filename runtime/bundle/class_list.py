"""A ``classes.json`` as people and labelling tools write it: every key is honoured or refused."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError

Color = tuple[int, int, int]

# Linear RGB as most people see it, and as those without red or without green cones do (F. Viénot,
# H. Brettel, J. D. Mollon, 1999).
_EYES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    ]
)
_DARK = 20  # of CIELAB's lightness: colours below it look black, which is what is ignored


class _Class(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    color: Color | str | None = None
    id: int | None = None
    trainid: int | None = None
    ignoreineval: bool = False
    # These only describe a class; no number depends on them.
    category: Any = None
    categoryid: Any = None
    catid: Any = None
    supercategory: Any = None
    hasinstances: Any = None
    isthing: Any = None
    description: Any = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    classes: list[_Class | str]
    ignore: int | list[int] | None = None
    name: Any = None
    description: Any = None
    version: Any = None


# The field that a key means, by the key in lower case without _ and -.
_MEANT = {name: name for kind in (_Class, _File) for name in kind.__struct_fields__} | {
    "colour": "color",
    "ignoreid": "ignore",
    "ignoreids": "ignore",
    "ignoreindex": "ignore",
    "ignorelabel": "ignore",
    "ignorevalue": "ignore",
}


def load(path: Path) -> ClassSet:
    """Read a class list; HedgeError names the key or value that cannot be honoured.

    The file is a list of names or of objects, or ``{"classes": …, "ignore": 255}`` around one, in
    any Unicode encoding. An object has a ``name`` and may have: ``color``, [r, g, b] or
    "#rrggbb", assigned where it is missing; ``id``, the value in label files, by default the
    position; ``trainId``, the training id, 255 or -1 for a class that is ignored. ``ignore`` names
    more values that count nowhere, beside 255.
    """
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_keys)
        wrapped = {"classes": content} if isinstance(content, list) else content
        return _class_set(msgspec.convert(wrapped, _File))
    except RecursionError:
        raise HedgeError(f"{path}: not a class list: nested too deeply") from None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise HedgeError(f"{path}: not a class list: {error}") from error


def named(path: Path) -> ClassSet:
    """The classes of a text file with a name a line, whose place is the number in label files.

    LabelMe's first line, ``__ignore__``, has none. HedgeError where a name cannot stand in a class
    list.
    """
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
        names = names[names[:1] == ["__ignore__"] :]
        return ClassSet(tuple(names), _colors([_Class(name) for name in names]))
    except (OSError, ValueError) as error:
        raise HedgeError(f"{path}: not a list with the name of a class a line: {error}") from error


def made(colors: dict[str, Color | None]) -> ClassSet:
    """The classes of these names, their colours assigned where there are none; ValueError where a
    name or a colour cannot stand in a class list."""
    rows = [_Class(name, color) for name, color in colors.items()]
    return ClassSet(tuple(colors), _colors(rows))


def _keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object by the fields its keys mean; unknown keys stay as they are written."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        meant = _MEANT.get(re.sub("[_-]", "", key).lower(), key)
        if meant in found:
            raise ValueError(f'"{key}" is given twice')
        found[meant] = value
    return found


def _class_set(file: _File) -> ClassSet:
    rows = [_Class(row) if isinstance(row, str) else row for row in file.classes]
    more = file.ignore if isinstance(file.ignore, list) else [file.ignore]
    ignored = {value for value in more if value is not None and value >= 0}
    by_id, by_train_id = _given(rows, "id"), _given(rows, "trainid")
    kept: list[tuple[int, int, _Class]] = []  # training order, value in label files
    for position, row in enumerate(rows):
        order = _number(row.trainid, row.id, position)
        value = _number(row.id, row.trainid, position)
        untrained = by_train_id and not 0 <= order < IGNORE
        if value in ignored and not untrained and (by_train_id or not by_id):
            raise ValueError(
                f'"ignore" holds {value}, the value of "{row.name}", which counts; give each class '
                'its "id", the value in label files, and "trainId": 255 to those that are ignored'
            )
        if untrained or value in ignored:
            ignored |= {value} if value >= 0 else set()
        elif row.ignoreineval:
            raise ValueError(f'"{row.name}" has "ignoreInEval"; give it "trainId": 255 as well')
        else:
            kept.append((order, value, row))
    kept.sort(key=lambda entry: entry[0])
    trained = [order for order, *_ in kept]
    if by_train_id and trained != list(range(len(kept))):
        raise ValueError(f'"trainId" must count from 0 without gaps, 255 where ignored: {trained}')
    return ClassSet(
        tuple(unicodedata.normalize("NFC", row.name).strip() for *_, row in kept),
        _colors([row for *_, row in kept]),
        tuple(value for _, value, _ in kept),
        tuple(sorted(ignored - {IGNORE})),
    )


def _given(rows: list[_Class], key: str) -> bool:
    """Whether the classes have ``key``: all of them or none."""
    without = [row.name for row in rows if getattr(row, key) is None]
    if 0 < len(without) < len(rows):
        raise ValueError(f'"{without[0]}" has no "{key}", but other classes have one')
    return bool(rows) and not without


def _number(*choices: int | None) -> int:
    return next(choice for choice in choices if choice is not None)


def _colors(rows: list[_Class]) -> tuple[Color, ...]:
    given = [None if row.color is None else _color(row.color) for row in rows]
    spare = iter(_distinct(len(rows), [color for color in given if color is not None]))
    return tuple(next(spare) if color is None else color for color in given)


def _color(color: Color | str) -> Color:
    if not isinstance(color, str):
        if not all(0 <= value <= 255 for value in color):
            raise ValueError(f"a class colour lies outside 0-255: {color}"[:100])
        return color
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise ValueError(f'the colour "{color}" is not of the form "#rrggbb"')
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _distinct(count: int, taken: Iterable[Color]) -> list[Color]:
    """``count`` colours, each as far as possible from the others, from ``taken`` and from black.

    Far for everybody: two colours are as far apart as for the eyes that tell them apart least.
    """
    steps = np.linspace(0, 255, 8).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    lattice = lattice[_seen(lattice)[0, :, 0] > _DARK]
    seen, nearest = _seen(lattice), np.full(len(lattice), np.inf)
    found: list[Color] = []
    for color in ((0, 0, 0), *taken):
        own = _seen(np.array([color], np.uint8))
        nearest = np.minimum(nearest, np.linalg.norm(seen - own, axis=2).min(0))
    for _ in range(count):
        best = nearest.argmax()
        red, green, blue = map(int, lattice[best])
        found.append((red, green, blue))
        own = seen[:, best : best + 1]
        nearest = np.minimum(nearest, np.linalg.norm(seen - own, axis=2).min(0))
    return found


def _seen(colors: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 RGB → (3, N, 3) float32 CIELAB, as each of ``_EYES`` sees them."""
    share = colors.astype(np.float32) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = (light @ _EYES.transpose(0, 2, 1)).clip(0, 1).astype(np.float32)
    return cv2.cvtColor(linear, cv2.COLOR_LRGB2Lab)
