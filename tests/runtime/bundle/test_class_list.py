"""Class lists: every key has its effect or is refused by name."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import class_list
from runtime.bundle.classes import CITYSCAPES_LABELS, IGNORE, ClassSet, cityscapes_lookup
from runtime.errors import HedgeError

RED, BLUE = [255, 0, 0], [0, 0, 255]


def load(content: Any, tmp_path: Path) -> ClassSet:
    path = tmp_path / "classes.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return class_list.load(path)


def meaning(found: ClassSet) -> dict[int, str]:
    """The name, or "ignore", of every value that a label file may hold."""
    table = found.lookup()
    names = {**dict(enumerate(found.names)), IGNORE: "ignore"}
    return {value: names[int(table[value])] for value in range(256) if table[value] >= 0}


SKY = {"name": "sky", "color": BLUE}
CAR = {"name": "car", "color": RED}
VOID = {"name": "void", "color": [0, 0, 0]}


@pytest.mark.parametrize(
    ("content", "names", "values"),
    [
        (["sky", "car"], "sky car", {0: "sky", 1: "car"}),
        ([SKY, CAR], "sky car", {0: "sky", 1: "car"}),
        ({"classes": ["sky", CAR]}, "sky car", {0: "sky", 1: "car"}),
        ({"classes": [{**CAR, "id": 1}, {**SKY, "id": 0}]}, "sky car", {0: "sky", 1: "car"}),
        ([{**CAR, "id": 26}, {**SKY, "id": 23}], "sky car", {23: "sky", 26: "car"}),
        ([{**SKY, "id": 0}, {**CAR, "id": 255}], "sky car", {0: "sky", 255: "car"}),
        ([{**CAR, "train_id": 1}, {**SKY, "train_id": 0}], "sky car", {0: "sky", 1: "car"}),
        (
            [
                {**CAR, "id": 5, "trainId": 0},
                {**SKY, "id": 2, "trainId": 1},
                {**VOID, "id": 0, "trainId": 255},
                {"name": "plate", "id": -1, "trainId": -1},
            ],
            "car sky",
            {0: "ignore", 2: "sky", 5: "car"},
        ),
        (
            {"classes": [{**VOID, "id": 0}, {**SKY, "id": 1}, {**CAR, "id": 2}], "ignore": 0},
            "sky car",
            {0: "ignore", 1: "sky", 2: "car"},
        ),
        (
            {"classes": [{**SKY, "id": 1}, {**CAR, "id": 2}], "ignore_index": 0},
            "sky car",
            {0: "ignore", 1: "sky", 2: "car"},
        ),
        (
            {"classes": ["sky", "car"], "ignoreLabel": [9, 255, -100]},
            "sky car",
            {0: "sky", 1: "car", 9: "ignore"},
        ),
        ({"classes": ["sky", "car"], "ignore": None}, "sky car", {0: "sky", 1: "car"}),
    ],
)
def test_what_is_written_is_what_a_label_means(
    content: Any, names: str, values: dict[int, str], tmp_path: Path
) -> None:
    found = load(content, tmp_path)
    assert found.names == tuple(names.split())
    assert meaning(found) == {IGNORE: "ignore"} | values
    assert load(found.to_json(), tmp_path) == found


def test_ids_that_are_positions_are_no_other_class_list(tmp_path: Path) -> None:
    given = [{**SKY, "id": 0}, {**CAR, "id": 1}]
    assert load(given, tmp_path) == load([SKY, CAR], tmp_path)


def test_the_official_table_of_cityscapes(tmp_path: Path) -> None:
    rows = [
        {
            "name": name, "id": label_id, "trainId": train_id, "category": "x", "catId": 0,
            "hasInstances": False, "ignoreInEval": train_id == IGNORE, "color": color,
        }
        for name, label_id, train_id, color in CITYSCAPES_LABELS
    ]  # fmt: skip
    found = load(rows, tmp_path)
    assert len(found) == 19
    np.testing.assert_array_equal(found.lookup(), cityscapes_lookup())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"classes": [SKY], "weights": [1]}, "`weights`"),
        ([{**SKY, "weight": 2}], "`weight`"),
        ([{**SKY, "evaluate": False}], "`evaluate`"),
        ([{**SKY, "id": 0}, CAR], '"car" has no "id"'),
        ([{**SKY, "id": 3}, {**CAR, "id": 3}], "share an id"),
        ([{**SKY, "id": 0}, {**CAR, "id": 256}], "outside 0-255"),
        ([{**SKY, "id": "0"}], "Expected `int"),
        ([{**SKY, "id": True}], "Expected `int"),
        ([{**SKY, "trainId": 0}, {**CAR, "trainId": 2}], r"without gaps.*\[0, 2\]"),
        ([{**SKY, "trainId": 0}, {**CAR, "trainId": 0}], r"without gaps.*\[0, 0\]"),
        ([{**SKY, "ignoreInEval": True}], '"sky" has "ignoreInEval"'),
        ({"classes": ["void", "sky"], "ignore": 0}, '0, the value of "void", .* give each class'),
        ({"classes": [{**SKY, "id": 1, "trainId": 0}], "ignore": 1}, '1, the value of "sky"'),
        (b'[{"name": "sky", "id": 0, "id": 1}]', '"id" is given twice'),
        (b'[{"name": "sky", "trainId": 0, "train_id": 1}]', '"train_id" is given twice'),
        ([{**SKY, "color": "blue"}], '"blue" is not of the form "#rrggbb"'),
        ([{**SKY, "color": [0, 0, 256]}], "colour lies outside"),
        ([{**SKY, "color": [0, 0, 10**400]}, "car"], "colour lies outside"),
        ([{**SKY, "color": [0.1, 0.2, 0.3]}], "Expected `int"),
        (["sky", "sky "], "share a name"),
        (["ä", "a\u0308"], "share a name"),
        (["sky", " "], "empty or holds control"),
        (["sky\x1b[31m"], "empty or holds control"),
        ([], "1 to 255 classes"),
        ("sky", "Expected `object`"),
        (b"", "Expecting value"),
        (b"\xff\x00\xff", "can't decode byte"),
        (b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    content: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(HedgeError, match=rf"(?s)classes\.json: not a class list: .*{said}"):
        load(content, tmp_path)


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_a_byte_order_mark_is_no_content(encoding: str, mark: bytes, tmp_path: Path) -> None:
    text = json.dumps(["Straße", "Gehweg"], ensure_ascii=False)
    assert load(mark + text.encode(encoding), tmp_path).names == ("Straße", "Gehweg")


def test_names_are_of_one_unicode_form(tmp_path: Path) -> None:
    assert load(["Ba\u0308ume"], tmp_path).names == ("B\u00e4ume",)


# Of linear RGB, for most people and for those without red or green cones (G. M. Machado, 2009).
EYES = [
    np.eye(3),
    np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
]  # fmt: skip


def least_difference(colors: np.ndarray, eyes: np.ndarray) -> float:
    """Of any two of (N, 3) RGB colours, in CIELAB (CIE76), as ``eyes`` see them."""
    share = colors / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([
        [0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505],
    ])  # fmt: skip
    xyz = (light @ eyes.T).clip(0, 1) @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1], 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    return float(apart[~np.eye(len(colors), dtype=bool)].min())


def test_missing_colors_are_assigned_far_from_all_others(tmp_path: Path) -> None:
    found = load(
        [SKY, *(f"class {i}" for i in range(19)), {"name": "b", "colour": "#0a0B0c"}], tmp_path
    )
    assert (found.colors[0], found.colors[-1]) == ((0, 0, 255), (10, 11, 12))
    assigned = np.array([*found.colors, (0, 0, 0)])[:-2]
    assert assigned[1:].sum(1).min() > 100, "black is what is ignored"
    assert min(least_difference(assigned, eyes) for eyes in EYES) > 12
    many = load([str(i) for i in range(255)], tmp_path)
    assert len(set(many.colors)) == 255
