"""Supervisely's alpha masks, and several of its projects side by side."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

import numpy as np

from tests.train.datasets.tools.scenes import NAMES, SIZE, THINGS, labels, require_like
from tests.train.datasets.tools.test_shapes import ring_png, supervisely
from train.datasets import open_index


def test_alpha_masks_are_drawn_and_need_not_be_packed(tmp_path: Path) -> None:
    root = supervisely(tmp_path / "export")
    for path in root.rglob("*.png.json"):
        content = json.loads(path.read_text())
        for each in content["objects"]:
            if each["geometryType"] == "bitmap":
                each["geometryType"] = "alpha_mask"
                each["bitmap"]["data"] = base64.b64encode(ring_png("L")).decode()
        path.write_text(json.dumps(content))
    for label in labels(root).values():
        require_like(label, THINGS, 0.0)


def test_the_other_shapes(tmp_path: Path) -> None:
    """Those without an inside have points in other forms, for which the file was refused."""
    root = supervisely(tmp_path / "export")
    ring = {"exterior": [[10, 10], [50, 10], [50, 50], [10, 50]],
            "interior": [[[20, 20], [40, 20], [40, 40], [20, 40]]]}  # fmt: skip
    square = {"exterior": [[60, 60], [80, 60], [80, 80], [60, 80]], "interior": []}
    shapes = [
        {"classTitle": "car", "geometryType": "multipolygon", "parts": [ring, square]},
        {"classTitle": "person", "geometryType": "oriented_bbox", "angle": math.pi / 2,
         "points": [[100, 100], [140, 120]]},
        {"classTitle": "car", "geometryType": "cuboid", "faces": [[0, 1, 2, 3]],
         "points": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 9], [1, 1], [2, 2]]},
    ]  # fmt: skip
    for path in root.rglob("*.png.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"objects": shapes}))
    wanted = np.zeros(SIZE, np.uint8)
    wanted[10:51, 10:51] = wanted[60:81, 60:81] = NAMES.index("car")
    wanted[20:41, 20:41] = 0
    wanted[90:131, 110:131] = NAMES.index("person")
    for label in labels(root).values():
        np.testing.assert_array_equal(label, wanted)


def test_two_projects_have_the_classes_of_both(tmp_path: Path) -> None:
    for name in ("car", "person"):
        root = supervisely(tmp_path / f"export/{name}s")
        (root / "meta.json").write_text(json.dumps({"classes": [{"title": name}], "tags": []}))
        for path in root.rglob("*.png.json"):
            content = json.loads(path.read_text())
            own = [each for each in content["objects"] if each["classTitle"] == name]
            path.write_text(json.dumps(content | {"objects": own}))
    index = open_index(tmp_path / "export", "train")
    assert index.classes.names == ("background", "car", "person")
    assert {*np.unique([index.read(item)[1] for item in index.items])} == {0, 1, 2}
