"""Supervisely's alpha masks, and several of its projects side by side."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from tests.train.datasets.tools.scenes import THINGS, labels, require_like
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
