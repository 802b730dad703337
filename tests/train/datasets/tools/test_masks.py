"""Exports whose labels are pictures keep every pixel: VOC, CVAT's masks, street sets, colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from tests.train.datasets.tools.scenes import (
    HOLELESS,
    NAMES,
    ROAD,
    SIZE,
    STEMS,
    THINGS,
    drawn,
    labels,
    photo,
    require_like,
)
from train.datasets import open_index, survey
from train.datasets.tools.formats.voc import voc_color

COLORS = [(0, 0, 0), (10, 200, 30), (250, 0, 1), (7, 7, 70)]
WANTED = drawn(THINGS, 0.0)[0]


def save_ids(path: Path, ids: np.ndarray, palette: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids)
    if palette:
        image.putpalette(np.array([voc_color(i) for i in range(256)], np.uint8).tobytes())
    image.save(path)
    return path


def save_colors(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(COLORS, np.uint8)[ids]).save(path)
    return path


def lists(root: Path, **stems: tuple[str, ...]) -> None:
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    for name, rows in stems.items():
        (folder / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")


def labelmap(root: Path) -> None:
    rows = [f"{n}:{','.join(map(str, c))}::" for n, c in zip(NAMES, COLORS, strict=True)]
    head = "# label:color_rgb:parts:actions"
    (root / "labelmap.txt").write_text("\n".join([head, *rows]), encoding="utf-8")


def test_voc_by_its_own_classes_and_lists(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit/VOC2012"
    bordered = WANTED.copy()
    bordered[:3] = 255
    for seed, stem in enumerate(STEMS):
        photo(root / f"JPEGImages/{stem}.jpg", seed)
        save_ids(root / f"SegmentationClass/{stem}.png", bordered)
    lists(root, train=STEMS[:2], val=STEMS[2:], trainval=STEMS)
    index = open_index(tmp_path, "train")
    assert [item.name for item in index.items] == sorted(STEMS[:2])
    assert index.classes.names[:4] == ("background", "aeroplane", "bicycle", "bird")
    assert (index.read(index.items[0])[1] == bordered).all()


def test_the_augmented_labels_of_voc_stand_for_all(tmp_path: Path) -> None:
    """Those of SBD, which have a label for pictures that VOC has none for, as gray numbers."""
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"data/JPEGImages/{stem}.jpg", seed)
        save_ids(tmp_path / f"data/SegmentationClassAug/{stem}.png", WANTED, palette=False)
    save_ids(tmp_path / f"data/SegmentationClass/{STEMS[0]}.png", WANTED)
    lists(tmp_path / "data", trainaug=STEMS[:2], val=STEMS[2:])
    train, val = (survey(tmp_path / "data", split) for split in ("train", "val"))
    assert not train.faults and (len(train.index), len(val.index)) == (2, 1)
    assert (train.index.read(train.index.items[0])[1] == WANTED).all()


@pytest.mark.parametrize("listed", [True, False])
def test_a_voc_tree_for_each_split_with_the_same_names(listed: bool, tmp_path: Path) -> None:
    """As LabelMe's labelme2voc.py makes them of two folders; it writes no ImageSets."""
    for split, stems in (("train", STEMS), ("val", STEMS[:1])):
        root = tmp_path / "export" / (f"half {len(stems)}" if listed else split)
        for seed, stem in enumerate(stems):
            photo(root / f"JPEGImages/{stem}.jpg", seed + len(split))
            save_ids(root / f"SegmentationClass/{stem}.png", WANTED)
        if listed:
            lists(root, **{split: stems})
    assert [len(open_index(tmp_path / "export", split)) for split in ("train", "val")] == [3, 1]


@pytest.mark.parametrize("kind", ["class_names.txt", "labelmap.txt"])
def test_each_voc_tree_by_the_list_beside_it(kind: str, tmp_path: Path) -> None:
    """As several tasks, which have listed other classes, are unpacked side by side."""
    orders: tuple[tuple[str, ...], ...] = (NAMES, ("background", "person", NAMES[1], "car"))
    for seed, order in enumerate(orders):
        root = tmp_path / f"export/task {seed}"
        photo(root / f"JPEGImages/{seed}.jpg", seed)
        ids = np.array([order.index(name) for name in NAMES], np.uint8)[WANTED]
        lines = order
        if kind == "labelmap.txt":
            lines = tuple(f"{n}:{','.join(map(str, voc_color(i)))}::" for i, n in enumerate(order))
        save_ids(root / f"SegmentationClass/{seed}.png", ids)
        (root / kind).write_text("\n".join(lines), encoding="utf-8")
    found = labels(tmp_path / "export")
    assert len(found) == 2 and all((label == WANTED).all() for label in found.values())


@pytest.mark.parametrize("save", [save_colors, save_ids])
def test_masks_of_cvat_by_the_colours_of_their_labelmap(
    save: Callable[[Path, np.ndarray], Path], tmp_path: Path
) -> None:
    labelmap(tmp_path)
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"JPEGImages/{stem}.png", seed)
        save(tmp_path / f"SegmentationClass/{stem}.png", WANTED)
    if save is save_ids:  # a palette may hold the colours, too, in any order
        for path in (tmp_path / "SegmentationClass").iterdir():
            image = Image.open(path)
            image.putpalette(np.array(COLORS, np.uint8).tobytes())
            image.save(path)
    lists(tmp_path, default=STEMS)
    found = labels(tmp_path)
    assert len(found) == 3 and all((label == WANTED).all() for label in found.values())


def test_a_label_without_a_picture_or_with_a_foreign_colour_is_named(tmp_path: Path) -> None:
    labelmap(tmp_path)
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"JPEGImages/{stem}.png", seed)
        save_colors(tmp_path / f"SegmentationClass/{stem}.png", WANTED)
    (tmp_path / f"JPEGImages/{STEMS[0]}.png").unlink()
    foreign = np.full((*SIZE, 3), 99, np.uint8)
    Image.fromarray(foreign).save(tmp_path / f"SegmentationClass/{STEMS[1]}.png")
    lists(tmp_path, train=STEMS)
    faults = [str(fault) for s in ("train", "val") for fault in survey(tmp_path, s).faults]
    assert any(STEMS[0] in fault and "no picture" in fault for fault in faults)
    assert any(STEMS[1] in fault and "colour (99, 99, 99)" in fault for fault in faults)
    (tmp_path / "labelmap.txt").write_text("road:1,2::\n")
    with pytest.raises(HedgeError, match=r"labelmap.txt: expected 'name:red,green,blue::'"):
        open_index(tmp_path, "train")


def vistas(root: Path, version: str) -> Path:
    """Numbers of the config's list: the last class is not evaluated, as Unlabeled is."""
    rows = [
        {"name": n.lower(), "readable": n, "color": list(c), "evaluate": i < 3, "instances": True}
        for i, (n, c) in enumerate(zip(NAMES, COLORS, strict=True))
    ]
    root.mkdir(parents=True)
    (root / f"config_{version}.json").write_text(json.dumps({"labels": rows, "version": version}))
    splits = ("training", "training", "validation")
    for seed, (stem, split) in enumerate(zip(STEMS, splits, strict=True)):
        photo(root / f"{split}/images/{stem}.jpg", seed)
        save_ids(root / f"{split}/{version}/labels/{stem}.png", WANTED)
        save_ids(root / f"{split}/{version}/instances/{stem}.png", WANTED * 0)
    return root


@pytest.mark.parametrize("version", ["v1.2", "v2.0"])
def test_vistas_by_its_config(version: str, tmp_path: Path) -> None:
    root = vistas(tmp_path / "mapillary", version)
    found = labels(root)
    assert len(found) == 3
    for label in found.values():
        assert (label == np.where(WANTED == 3, 255, WANTED)).all()
    assert len(open_index(root, "val")) == 1


def test_bdd_by_its_masks_and_by_its_polygons(tmp_path: Path) -> None:
    ids = np.array([255, 0, 13, 11], np.uint8)[WANTED]  # road, car, person of Cityscapes
    names = dict(zip(HOLELESS, ("road", "car", "person"), strict=True))
    things = [{"category": n, "poly2d": [{"vertices": t.outline, "types": "L" * len(t.outline),
               "closed": True}]} for t, n in names.items()]  # fmt: skip
    things.append({"category": "unknown", "poly2d": [{"vertices": ROAD.outline}]})
    for seed, (stem, split) in enumerate(zip("abc", ("train", "train", "val"), strict=True)):
        for kind in ("masks", "polygons"):
            photo(tmp_path / f"{kind}/images/10k/{split}/{stem}.jpg", seed)
        save_ids(tmp_path / f"masks/labels/sem_seg/masks/{split}/{stem}.png", ids, palette=False)
        path = tmp_path / f"polygons/labels/sem_seg/polygons/sem_seg_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        own = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*own, {"name": f"{stem}.jpg", "labels": things}]))
    masks, polygons = (open_index(tmp_path / kind, "train") for kind in ("masks", "polygons"))
    assert masks.classes == polygons.classes == CITYSCAPES
    assert len(masks) == len(polygons) == 2
    assert all((masks.read(item)[1] == ids).all() for item in masks.items)
    back = np.zeros(256, np.uint8)
    back[[0, 13, 11]] = 1, 2, 3
    for item in polygons.items:
        label = polygons.read(item)[1]
        assert (label[drawn(HOLELESS, 0.5)[0] == 0] != 18).all() and (label == 255).any()
        require_like(back[label], HOLELESS, 0.5)


def flat_colors(root: Path) -> Path:
    for seed, stem in enumerate(STEMS):
        photo(root / f"images/{stem}.jpg", seed)
        save_colors(root / f"masks/{stem}_mask.png", WANTED)
    return root


def split_ids(root: Path) -> Path:
    for seed, (stem, split) in enumerate(zip(STEMS, ("Train", "Train", "valid"), strict=True)):
        photo(root / f"{split}/images/{stem}.jpg", seed)
        save_ids(root / f"{split}/labels/{stem}.png", WANTED, palette=False)
    return root


def roboflow(root: Path) -> Path:
    for seed, (stem, split) in enumerate(zip(STEMS, ("train", "train", "valid"), strict=True)):
        photo(root / f"{split}/{stem}.jpg", seed)
        save_ids(root / f"{split}/{stem}_mask.png", WANTED, palette=False)
        rows = "\n".join(f"{i}, {name}" for i, name in enumerate(NAMES))
        (root / split / "_classes.csv").write_text(f"Pixel Value, Class\n{rows}", encoding="utf-8")
    return root


def kaggle(root: Path) -> Path:
    """As CamVid is laid out there."""
    for seed, (stem, split) in enumerate(zip(STEMS, ("train", "train", "val"), strict=True)):
        photo(root / f"{split}/{stem}.png", seed)
        save_colors(root / f"{split}_labels/{stem}_L.png", WANTED)
    rows = [f"{n},{r},{g},{b}" for n, (r, g, b) in zip(NAMES, COLORS, strict=True)]
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]), encoding="utf-8")
    return root


def cvat_camvid(root: Path) -> Path:
    """As CVAT exports "CamVid 1.0" of tasks with subsets."""
    for seed, (stem, split) in enumerate(zip(STEMS, ("Train", "Train", "Val"), strict=True)):
        photo(root / f"{split}/{stem}.png", seed)
        save_colors(root / f"{split}annot/{stem}.png", WANTED)
        line = f"/{split}/{stem}.png /{split}annot/{stem}.png\n"
        with (root / f"{split}.txt").open("a", encoding="utf-8") as file:
            file.write(line)
    rows = [f"{r} {g} {b} {name}" for name, (r, g, b) in zip(NAMES, COLORS, strict=True)]
    (root / "label_colors.txt").write_text("\n".join(rows), encoding="utf-8")
    return root


@pytest.mark.parametrize("make", [flat_colors, split_ids, roboflow, kaggle, cvat_camvid])
def test_label_pictures_in_folders_of_any_order(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = make(tmp_path / "data")
    if make not in (roboflow, kaggle, cvat_camvid):
        rows = [{"name": n, "color": c} for n, c in zip(NAMES, COLORS, strict=True)]
        (root / "classes.json").write_text(json.dumps(rows), encoding="utf-8")
    found = labels(root)
    assert len(found) == 3 and all((label == WANTED).all() for label in found.values())
    assert (len(open_index(root, "train")), len(open_index(root, "val"))) == (2, 1)


def test_names_alone_make_a_class_list(tmp_path: Path) -> None:
    root = split_ids(tmp_path / "data")
    (root / "classes.json").write_text(json.dumps(NAMES), encoding="utf-8")
    assert all((label == WANTED).all() for label in labels(root).values())


@pytest.mark.parametrize("make", [flat_colors, split_ids])
def test_labels_without_a_class_list_are_told_what_they_lack(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = make(tmp_path / "data")
    with pytest.raises(HedgeError, match=r"3 pictures have labels, but .* add a .*classes\.json"):
        survey(root, "train")
    (root / "class_dict.csv").write_text("name,r,g,b\nroad,1,2\n")
    with pytest.raises(HedgeError, match=r"class_dict\.csv: expected 'name,r,g,b'"):
        survey(root, "train")


@pytest.mark.parametrize("folders", [("img_dir", "ann_dir"), ("images_png", "masks_png")])
def test_folders_that_begin_with_their_kind(folders: tuple[str, str], tmp_path: Path) -> None:
    """img_dir/train and ann_dir/train are MMSegmentation's."""
    for seed, (stem, split) in enumerate(zip(STEMS, ("train", "train", "val"), strict=True)):
        photo(tmp_path / f"data/{folders[0]}/{split}/{stem}.jpg", seed)
        save_ids(tmp_path / f"data/{folders[1]}/{split}/{stem}.png", WANTED, palette=False)
    with pytest.raises(HedgeError, match="3 pictures have labels"):
        survey(tmp_path / "data", "train")
    (tmp_path / "data/classes.json").write_text(json.dumps(NAMES), encoding="utf-8")
    assert all((label == WANTED).all() for label in labels(tmp_path / "data").values())
    assert len(open_index(tmp_path / "data", "val")) == 1


@pytest.mark.parametrize("named", [True, False])
def test_labels_with_loss_are_told(named: bool, tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"images/{stem}.jpg", seed)
        photo(tmp_path / f"masks/{stem}.jpg", seed)
    if named:
        (tmp_path / "classes.json").write_text(json.dumps(NAMES), encoding="utf-8")
    with pytest.raises(HedgeError, match=r"masks.*\.jpg: labels must be saved without loss"):
        survey(tmp_path, "train")
