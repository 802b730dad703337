"""Published sets in the trees and with the names that they are handed out in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from tests.train.datasets.layouts import picture, save
from train.datasets import open_index

Value = int | tuple[int, int, int]
ADE = "Idx\tRatio\tStuff\tName\n1\t0.2\t1\twall\n2\t0.1\t1\tbuilding, edifice\n"
COCO = "0: unlabeled\n1: person\n2: bicycle\n"
DRIVES = ("20180807_145028", "20180810_142822")


def put(root: Path, image: str, label: str, values: tuple[Value, ...], seed: int) -> None:
    """A picture, and a label that holds ``values`` from left to right."""
    save(root / image, picture(seed))
    save(root / label, np.repeat(np.array([values] * 6, np.uint8), 2, axis=1))


# label, picture (both by split, drive and number), values, names of them ("" counts nowhere), texts
SETS: dict[str, tuple[str, str, tuple[Value, ...], tuple[str, ...], Mapping[str, str]]] = {
    "KITTI": (
        "training/semantic/{n:06d}_10.png", "training/image_2/{n:06d}_10.png",
        (7, 26, 4, 33), ("road", "car", "", "bicycle"), {},
    ),
    "ACDC": (
        "gt/fog/{split}/G{drive}/G_{n:06d}_gt_labelTrainIds.png",
        "rgb_anon/fog/{split}/G{drive}/G_{n:06d}_rgb_anon.png",
        (0, 13, 255, 18), ("road", "car", "", "bicycle"), {},
    ),
    "A2D2": (
        "{drive}/label/cam_front_center/1_label_frontcenter_{n:09d}.png",
        "{drive}/camera/cam_front_center/1_camera_frontcenter_{n:09d}.png",
        ((255, 0, 0), (200, 0, 0), (135, 206, 255), (255, 0, 0)), ("Car", "Car", "Sky", "Car"),
        {"class_list.json": '{"#ff0000": "Car 1", "#c80000": "Car 2", "#87ceff": "Sky"}'},
    ),
    "ApolloScape": (
        "Label/{drive}/Camera 5/17_{n}_Camera_5_bin.png",
        "ColorImage/{drive}/Camera 5/17_{n}_Camera_5.jpg",
        (33, 161, 49, 99), ("car", "car", "road", ""), {},
    ),
    "ADE20K": (
        "annotations/{split}ing/ADE_x_{n:08d}.png", "images/{split}ing/ADE_x_{n:08d}.jpg",
        (0, 1, 2, 1), ("", "wall", "building", "wall"), {"objectInfo150.txt": ADE},
    ),
    "COCO-Stuff": (
        "annotations/{split}2017/{n:012d}.png", "images/{split}2017/{n:012d}.jpg",
        (0, 1, 255, 0), ("person", "bicycle", "", "person"), {"labels.txt": COCO},
    ),
    "CamVid": (
        "LabeledApproved_full/{drive}_{n:03d}_L.png", "701_StillsRaw_full/{drive}_{n:03d}.png",
        ((64, 0, 128), (0, 0, 0), (1, 2, 3), (1, 2, 3)), ("Car", "", "Sign Symbol", "Sign Symbol"),
        {"label_colors.txt": "64 0 128\tCar\n0 0 0\t\tVoid\n1 2 3 Sign Symbol\n"},
    ),
    "LoveDA": (
        "{split}/Rural/masks_png/{n}.png", "{split}/Rural/images_png/{n}.png",
        (0, 1, 7, 2), ("", "background", "agricultural", "building"), {},
    ),
    "Potsdam": (
        "5_Labels_all/top_potsdam_{n}_label.tif", "2_Ortho_RGB/top_potsdam_{n}_RGB.tif",
        ((255, 255, 255), (0, 0, 255), (255, 0, 0), (0, 0, 255)),
        ("impervious surface", "building", "clutter", "building"), {},
    ),
    "RailSem19": (
        "uint8/rs19_val/rs{n:05d}.png", "jpgs/rs19_val/rs{n:05d}.jpg",
        (0, 1, 255, 0), ("road", "rail-track", "", "road"),
        {"rs19-config.json": json.dumps({"labels": [{"name": "road"}, {"name": "rail-track"}]})},
    ),
    "RELLIS-3D": (
        "{digits}/pylon_camera_node_label_id/frame{n:06d}-1_{n}5.png",
        "{digits}/pylon_camera_node/frame{n:06d}-1_{n}5.jpg",
        (0, 1, 3, 34), ("", "dirt", "grass", "rubble"), {},
    ),
    "Vaihingen": (
        "gts_for_participants/top_mosaic_area{n}.tif", "top/top_mosaic_area{n}.tif",
        ((0, 255, 255), (0, 255, 0), (255, 255, 0), (0, 255, 0)),
        ("low vegetation", "tree", "car", "tree"), {},
    ),
    "Virtual KITTI 2": (
        "Scene{digits}/clone/frames/classSegmentation/Camera_0/classgt_{n:05d}.png",
        "Scene{digits}/clone/frames/rgb/Camera_0/rgb_{n:05d}.jpg",
        ((100, 60, 100), (255, 127, 80), (0, 0, 0), (0, 139, 139)), ("road", "car", "", "van"), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_as_it_is_handed_out(name: str, tmp_path: Path) -> None:
    label, image, values, names, texts = SETS[name]
    for n in range(5):
        first = n < 4
        at = {"n": n, "split": "train" if first else "val", "drive": DRIVES[n > 3],
              "digits": f"{1 + (not first):02d}"}  # fmt: skip
        put(tmp_path, image.format(**at), label.format(**at), values, n)
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    train, val = (open_index(tmp_path, split) for split in ("train", "val"))
    assert train.layout == name and (len(train), len(val)) == (4, 1)
    for index in (train, val):
        for item in index.items:
            pixels, ids = index.read(item)
            assert np.unique(pixels).size < 4  # a picture, not a label
            told = ["" if i == 255 else index.classes.names[i] for i in ids[0, ::2]]
            assert told == list(names)


def test_frames_of_one_drive_are_not_in_train_and_in_val(tmp_path: Path) -> None:
    """The variations of a scene show the same frames."""
    for scene in range(1, 7):
        for weather in ("clone", "fog"):
            root = f"Scene{scene:02d}/{weather}/frames"
            label = f"{root}/classSegmentation/Camera_0/classgt_00000.png"
            put(tmp_path, f"{root}/rgb/Camera_0/rgb_00000.jpg", label, ((0, 0, 0),) * 4, scene)
    names = ([i.name[:7] for i in open_index(tmp_path, s).items] for s in ("train", "val"))
    train, val = map(set, names)
    assert len(val) == 1 and not train & val


def test_what_names_the_classes_is_asked_for(tmp_path: Path) -> None:
    for n, split in enumerate(("training", "validation")):
        place = f"{split}/ADE_x_{n:08d}"
        put(tmp_path, f"images/{place}.jpg", f"annotations/{place}.png", (0, 1, 2, 1), n)
    with pytest.raises(HedgeError, match=r"ADE20K without objectInfo150\.txt"):
        open_index(tmp_path, "train")
    rows = [{"name": "wall", "id": 1}, {"name": "house", "id": 2}]  # says what numbers mean
    (tmp_path / "classes.json").write_text(json.dumps({"classes": rows, "ignore": 0}))
    index = open_index(tmp_path, "train")
    assert index.classes.names == ("wall", "house")
    assert index.read(index.items[0])[1][0, ::2].tolist() == [255, 0, 1, 0]


def test_kitti_has_the_classes_of_cityscapes(tmp_path: Path) -> None:
    put(tmp_path, "training/image_2/000000_10.png", "training/semantic/000000_10.png", (7,) * 4, 1)
    assert open_index(tmp_path, "train").classes.names == CITYSCAPES.names
