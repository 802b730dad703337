"""Formats that are not read are told by their name, with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import HedgeError
from tests.train.datasets.layouts import ids, picture, save
from train.datasets import survey

POLYGON = {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [1, 1, 5]}
FILES: dict[str, Any] = {
    "COCO panoptic": {
        "images": [], "categories": [], "annotations": [{"segments_info": [{"id": 1}]}],
    },
    "VGG Image Annotator": {
        "a.jpg99": {"regions": [{"shape_attributes": POLYGON, "region_attributes": {}}]},
    },
    "Label Studio's JSON": [{"annotations": [{"result": [{"from_name": "t", "to_name": "i"}]}]}],
    "Labelbox": {"data_row": {"external_id": "a.jpg"}, "media_attributes": {}},
    "V7 Darwin": {"annotations": [{"polygon": {"paths": []}, "slot_names": ["0"]}]},
    "Segments.ai": {
        "dataset": {
            "task_type": "segmentation-bitmap", "task_attributes": {"categories": []},
            "samples": [{"labels": {"truth": {"annotations": []}}}],
        },
    },
    "Ultralytics' NDJSON": {"type": "dataset", "task": "segment", "class_names": {"0": "car"}},
    "nnU-Net": {"channel_names": {"0": "R"}, "labels": {"road": 1}, "file_ending": ".png"},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("pictures", ["a.jpg", "images/train2017/a.jpg"])
def test_a_file_of_a_tool_is_told(name: str, pictures: str, tmp_path: Path) -> None:
    save(tmp_path / pictures, picture(3))
    (tmp_path / "labels.json").write_text(json.dumps(FILES[name]))
    with pytest.raises(HedgeError, match=rf"labels\.json: {name}, which is not read; \w+"):
        survey(tmp_path, "train")
    (tmp_path / "labels.json").rename(tmp_path / "labels.ndjson")
    with pytest.raises(HedgeError, match=rf"labels\.ndjson: {name}, which is not read; \w+"):
        survey(tmp_path / "labels.ndjson", "train")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("train-00000-of-00001.parquet", "Parquet"),
        ("groundTruth/a.mat", "MATLAB"),
        ("images/ADE/training/a_parts_1.png", "SceneParsing"),
    ],
)
def test_files_of_other_kinds_are_told(file: str, name: str, tmp_path: Path) -> None:
    save(tmp_path / "images/ADE/training/a.jpg", picture(3))
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(HedgeError, match=name):
        survey(tmp_path, "train")


def test_what_lies_beside_labels_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", picture(3))
    save(tmp_path / "masks/a.png", ids())
    (tmp_path / "project.json").write_text(json.dumps(FILES["VGG Image Annotator"]))
    with pytest.raises(HedgeError, match="1 pictures have labels"):
        survey(tmp_path, "train")
    (tmp_path / "classes.json").write_text(json.dumps(["ground", "thing"]))
    assert survey(tmp_path, "train").index.classes.names == ("ground", "thing")
