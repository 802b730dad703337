"""Class sets: names, colours, and the tables that turn label ids into training ids."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
import numpy as np

from runtime.errors import HedgeError

IGNORE = 255  # the training id of pixels that count nowhere


class UnknownIdError(HedgeError):
    """A label holds ids or colours that its class list does not know."""


class ClassSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """The classes a model can answer with; a class's position is its training id.

    names: one per class; colors: RGB, 0-255, one per class; ids: the value of each class in label
    files, empty where that is its training id; ignored: values in label files that count nowhere,
    beside 255. At most 255 classes (uint8 labels).
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ids: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.names) <= IGNORE:
            raise ValueError(f"a class set holds 1 to {IGNORE} classes, not {len(self.names)}")
        if len(self.names) != len(self.colors):
            raise ValueError(f"{len(self.names)} class names but {len(self.colors)} colours")
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes share a name")
        if not all(name.strip() and name.isprintable() for name in self.names):
            raise ValueError("a class name is empty or holds control characters")
        if any(not 0 <= value <= 255 for color in self.colors for value in color):
            raise ValueError("a class colour lies outside 0-255")
        if self.ids == tuple(range(len(self))):
            msgspec.structs.force_setattr(self, "ids", ())
        if self.ids and len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.names)} class names but {len(self.ids)} ids")
        values = (*self.label_ids, *self.ignored)
        if len(set(values)) != len(values):
            raise ValueError("two classes share an id, or a class has an id that is ignored")
        if any(not 0 <= value <= 255 for value in values):
            raise ValueError("an id lies outside 0-255, which is all that a label file can hold")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The value of each class in label files."""
        return self.ids or tuple(range(len(self)))

    def find(self, name: str, option: str) -> int:
        """A class's training id; HedgeError, which names ``option`` and all classes, for no class.

        Upper and lower case are alike.
        """
        key = unicodedata.normalize("NFC", name).strip().casefold()
        known = {own.casefold(): index for index, own in enumerate(self.names)}
        if key not in known:
            has = ", ".join(self.names)
            raise HedgeError(f"{option} {name}: no class of this model; it has {has}")
        return known[key]

    def palette(self) -> np.ndarray:
        """(256, 3) uint8 BGR: the colour of every label value; unused ones and IGNORE are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.array(self.colors, np.uint8)[:, ::-1]
        return table

    def lookup(self) -> np.ndarray:
        """(256,) int16 table from the values in label files to training ids, -1 for unknown ones.

        255 counts nowhere, unless it is the id of a class.
        """
        ignored = dict.fromkeys((IGNORE, *self.ignored), IGNORE)
        return lookup(ignored | {value: i for i, value in enumerate(self.label_ids)})

    def to_json(self) -> bytes:
        """The content of a ``classes.json``."""
        classes: list[dict[str, Any]] = []
        for i, (name, color) in enumerate(zip(self.names, self.colors, strict=True)):
            numbers = {"id": self.ids[i], "trainId": i} if self.ids else {}
            classes.append({"name": name, "color": color} | numbers)
        ignore = sorted({*self.ignored, IGNORE} - {*self.ids})
        return msgspec.json.format(msgspec.json.encode({"classes": classes, "ignore": ignore}))


# Cityscapes: (name, label id, train id, RGB), the table of the official cityscapesScripts.
CITYSCAPES_LABELS: tuple[tuple[str, int, int, tuple[int, int, int]], ...] = (
    ("unlabeled", 0, IGNORE, (0, 0, 0)),
    ("ego vehicle", 1, IGNORE, (0, 0, 0)),
    ("rectification border", 2, IGNORE, (0, 0, 0)),
    ("out of roi", 3, IGNORE, (0, 0, 0)),
    ("static", 4, IGNORE, (0, 0, 0)),
    ("dynamic", 5, IGNORE, (111, 74, 0)),
    ("ground", 6, IGNORE, (81, 0, 81)),
    ("road", 7, 0, (128, 64, 128)),
    ("sidewalk", 8, 1, (244, 35, 232)),
    ("parking", 9, IGNORE, (250, 170, 160)),
    ("rail track", 10, IGNORE, (230, 150, 140)),
    ("building", 11, 2, (70, 70, 70)),
    ("wall", 12, 3, (102, 102, 156)),
    ("fence", 13, 4, (190, 153, 153)),
    ("guard rail", 14, IGNORE, (180, 165, 180)),
    ("bridge", 15, IGNORE, (150, 100, 100)),
    ("tunnel", 16, IGNORE, (150, 120, 90)),
    ("pole", 17, 5, (153, 153, 153)),
    ("polegroup", 18, IGNORE, (153, 153, 153)),
    ("traffic light", 19, 6, (250, 170, 30)),
    ("traffic sign", 20, 7, (220, 220, 0)),
    ("vegetation", 21, 8, (107, 142, 35)),
    ("terrain", 22, 9, (152, 251, 152)),
    ("sky", 23, 10, (70, 130, 180)),
    ("person", 24, 11, (220, 20, 60)),
    ("rider", 25, 12, (255, 0, 0)),
    ("car", 26, 13, (0, 0, 142)),
    ("truck", 27, 14, (0, 0, 70)),
    ("bus", 28, 15, (0, 60, 100)),
    ("caravan", 29, IGNORE, (0, 0, 90)),
    ("trailer", 30, IGNORE, (0, 0, 110)),
    ("train", 31, 16, (0, 80, 100)),
    ("motorcycle", 32, 17, (0, 0, 230)),
    ("bicycle", 33, 18, (119, 11, 32)),
)

_TRAINED = sorted((row for row in CITYSCAPES_LABELS if row[2] != IGNORE), key=lambda row: row[2])
CITYSCAPES = ClassSet(tuple(row[0] for row in _TRAINED), tuple(row[3] for row in _TRAINED))


def lookup(pairs: dict[int, int]) -> np.ndarray:
    """(256,) int16 table from label id to training id; -1 marks ids that a label may not hold."""
    table = np.full(256, -1, np.int16)
    for label_id, train_id in pairs.items():
        table[label_id] = train_id
    return table


def cityscapes_lookup() -> np.ndarray:
    """The table of Cityscapes ``labelIds`` images (the licence plate's -1 is stored as 255)."""
    rows = {label_id: train_id for _, label_id, train_id, _ in CITYSCAPES_LABELS}
    return lookup(rows | {IGNORE: IGNORE})


def apply_lookup(ids: np.ndarray, table: np.ndarray, source: Any) -> np.ndarray:
    """(H, W) uint8 ids → (H, W) uint8 training ids; an id outside the table names ``source``."""
    mapped = table[ids]
    if mapped.min(initial=0) < 0:
        unknown = sorted(int(i) for i in np.unique(ids[mapped < 0]))
        raise UnknownIdError(f"{source}: unknown label ids {unknown}; is this another class list?")
    return mapped.astype(np.uint8)
