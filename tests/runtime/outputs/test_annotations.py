"""Outlines for labelling tools: read back as a data set, they are the labels they were made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.outputs.annotations import annotation_sink, areas
from runtime.video import VideoConfig, main
from train.datasets import open_index

CLASSES = ClassSet(("background", "a & b", "ünı"), ((1, 2, 3), (40, 50, 60), (70, 80, 90)))


def spots(seed: int, size: tuple[int, int] = (90, 140)) -> np.ndarray:
    """(H, W) uint8 of 0, 1, 2 in wide spots, with spots within spots."""
    noise = np.random.default_rng(seed).random((9, 12)).astype(np.float32)
    wide = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    labels = np.digitize(wide, [0.4, 0.6]).astype(np.uint8)
    labels[40:60, 50:80] = 1
    labels[45:52, 55:70] = 2
    labels[47:49, 58:62] = 0
    return labels


@pytest.mark.parametrize("suffix", [".json", ".xml"])
def test_outlines_read_back_are_the_labels(suffix: str, tmp_path: Path) -> None:
    labels = {f"{split}_{i}": spots(i) for i, split in enumerate(("train", "train2", "val"))}
    with annotation_sink(tmp_path / f"outlines{suffix}", CLASSES) as sink:
        for name, label in labels.items():
            Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(tmp_path / f"{name}.png")
            sink.write(f"{name}.png", label)
        assert not (tmp_path / f"outlines{suffix}").exists(), "whole or not at all"
    found = 0
    for split in ("train", "val"):
        index = open_index(tmp_path, split, quiet=True)
        assert index.classes.names == CLASSES.names
        for item in index.items:
            truth, read = labels[item.name], index.read_label(item.label)
            near = cv2.dilate(truth, np.ones((3, 3))) != cv2.erode(truth, np.ones((3, 3)))
            assert (read == truth).mean() > 0.99 and (read == truth)[~near].mean() > 0.999
            found += 1
    assert found == 3


def test_pixels_of_no_class_have_no_outline_and_specks_are_left_out() -> None:
    labels = np.full((200, 300), 255, np.uint8)
    labels[50:100, 20:80] = 1
    labels[150, 150] = 0
    [area] = areas(labels)
    assert (area.label, area.pixels) == (1, 50 * 60)
    assert np.abs(area.outline.min(0) - (20, 50)).max() < 0.5
    assert np.abs(area.outline.max(0) - (80, 100)).max() < 0.5


def test_the_area_is_that_of_the_outline_as_coco_draws_it(tmp_path: Path) -> None:
    labels = spots(0)
    labels[5:85, 100:102] = 1  # a pole: its outline runs a quarter of a pixel inside of it
    with annotation_sink(tmp_path / "outlines.json", CLASSES) as sink:
        sink.write("a.png", labels)
    found = json.loads((tmp_path / "outlines.json").read_bytes())["annotations"]
    drawn = [coco.area(coco.frPyObjects(one["segmentation"], *labels.shape))[0] for one in found]
    np.testing.assert_allclose([one["area"] for one in found], drawn, rtol=0.02)


@pytest.mark.parametrize("suffix", [".json", ".xml"])
def test_names_that_are_no_text_are_told_in_escapes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"outlines{suffix}"
    with annotation_sink(path, CLASSES) as sink:
        for name in ("caf\udce9.jpg", "bell\a.jpg", "at 3.05\u202fPM.png"):
            sink.write(name, spots(0))
    if suffix == ".json":
        told = [image["file_name"] for image in json.loads(path.read_bytes())["images"]]
    else:
        told = [image.get("name") for image in ElementTree.parse(path).iter("image")]
    assert told == ["caf\\udce9.jpg", "bell\\x07.jpg", "at 3.05\u202fPM.png"]


def test_a_video_and_photos_have_the_names_that_tools_know(
    shared_bundle: Path, make_images: Callable[..., Path], make_clip: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    photos = make_images(tmp_path / "photos", 2)
    config = VideoConfig(
        str(photos), shared_bundle, "onnxruntime", annotations=tmp_path / "photos.json"
    )
    assert main(config) == 0
    file = json.loads((tmp_path / "photos.json").read_text())
    names = sorted(path.name for path in photos.iterdir())
    assert [image["file_name"] for image in file["images"]] == names
    assert [row["name"] for row in file["categories"]] == ["blue", "green", "red"]
    assert {row["image_id"] for row in file["annotations"]} == {1, 2}
    clip = make_clip(tmp_path / "a.mkv", 3)
    config = VideoConfig(str(clip), shared_bundle, "onnxruntime", annotations=tmp_path / "a.xml")
    assert main(config) == 0
    images = ElementTree.parse(tmp_path / "a.xml").findall("image")
    assert [image.get("name") for image in images] == [f"frame_{i:06d}.png" for i in range(3)]
    assert all(image.find("polygon") is not None for image in images)
    with pytest.raises(HedgeError, match=r"a\.txt: end its name in \.json for COCO, in \.xml"):
        main(VideoConfig(str(clip), shared_bundle, annotations=tmp_path / "a.txt"))
