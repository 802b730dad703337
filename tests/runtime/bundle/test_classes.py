"""Class sets and id tables; the Cityscapes ids against the official table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import class_list
from runtime.bundle.classes import (
    CITYSCAPES,
    IGNORE,
    ClassSet,
    apply_lookup,
    cityscapes_lookup,
)
from runtime.errors import HedgeError

# label id → train id, written down from the official table, apart from the one in the code
OFFICIAL = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def test_cityscapes_label_ids_map_to_the_official_train_ids() -> None:
    table = cityscapes_lookup()
    assert {i: int(t) for i, t in enumerate(table[:34]) if t != IGNORE} == OFFICIAL
    assert table[IGNORE] == IGNORE
    assert (table[34:IGNORE] == -1).all()


def test_cityscapes_names_and_colors_sit_at_their_train_ids() -> None:
    assert len(CITYSCAPES) == 19
    golden = {0: ("road", (128, 64, 128)), 10: ("sky", (70, 130, 180)), 13: ("car", (0, 0, 142))}
    for train_id, (name, color) in golden.items():
        assert (CITYSCAPES.names[train_id], CITYSCAPES.colors[train_id]) == (name, color)


def test_apply_lookup_maps_each_pixel() -> None:
    ids = np.array([[7, 26, 0], [33, 255, 11]], np.uint8)
    mapped = apply_lookup(ids, cityscapes_lookup(), "x.png")
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[0, 13, IGNORE], [18, IGNORE, 2]]


def test_an_unknown_id_names_the_file_and_the_id(classes: ClassSet) -> None:
    ids = np.array([[0, 3], [9, 1]], np.uint8)
    with pytest.raises(HedgeError, match=r"x\.png.*\[3, 9\]"):
        apply_lookup(ids, classes.lookup(), "x.png")


def test_palette_is_bgr_and_black_where_no_class_is(classes: ClassSet) -> None:
    palette = classes.palette()
    assert palette[:3].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert not palette[3:].any()


def test_classes_json_round_trip(classes: ClassSet, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(classes.to_json())
    assert class_list.load(path) == classes


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        ((), ()),
        (("a", "a"), ((0, 0, 0), (1, 1, 1))),
        (("a",), ()),
        (("a",), ((0, 0, 256),)),
        (tuple(map(str, range(256))), ((0, 0, 0),) * 256),
    ],
)
def test_a_class_set_that_makes_no_sense_is_refused(names: tuple, colors: tuple) -> None:
    with pytest.raises(ValueError):
        ClassSet(names, colors)
