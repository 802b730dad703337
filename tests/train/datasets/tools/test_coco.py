"""COCO exports become the masks that pycocotools draws of them, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from runtime.errors import HedgeError
from tests.train.datasets.tools import coco_files
from tests.train.datasets.tools.scenes import (
    HOLELESS,
    NAMES,
    SIZE,
    THINGS,
    drawn,
    labels,
    photo,
    require_like,
)
from train.check import Check, main
from train.datasets import open_index, survey
from train.datasets.index import Problem
from train.datasets.tools.formats.raster import coco_counts, coco_polygon, runs

CLASSES = [thing.name for thing in HOLELESS]


def theirs(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rle = coco.merge(coco.frPyObjects([points.ravel().tolist()], *size))
    return coco.decode(rle).astype(bool)


def test_outlines_and_runs_are_to_the_pixel_those_of_pycocotools() -> None:
    random = np.random.default_rng(0)
    for number in range(300):
        size = tuple(map(int, random.integers(1, 60, 2)))
        points = random.uniform(-10, 70, (int(random.integers(3, 9)), 2))
        if number % 3 == 0:
            points = points.round()
        if number % 5 == 0:
            points[1] = points[0]
        mask = theirs(points, size)
        assert (coco_polygon(points, size) == mask).all()
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert (runs(coco_counts(packed), size, by_column=True) == mask).all()


def test_polygons_overlap_in_the_order_of_the_file(tmp_path: Path) -> None:
    root = coco_files.export(tmp_path / "my data", coco_files.polygons(HOLELESS), CLASSES)
    found = labels(root)
    assert set(found) == {"Straße 0", "Straße 1", "v"}
    wanted = np.zeros(SIZE, np.uint8)
    for thing in HOLELESS:
        wanted[theirs(np.array(thing.outline), SIZE)] = NAMES.index(thing.name)
    for label in found.values():
        require_like(label, HOLELESS, 0.5)
        assert (label == wanted).all()


@pytest.mark.parametrize("packed", [True, False])
def test_runs_keep_their_holes(packed: bool, tmp_path: Path) -> None:
    masks = {thing.name: drawn((thing,), 0.5)[0] > 0 for thing in THINGS}
    root = coco_files.export(tmp_path / "data", coco_files.runs(masks, packed), CLASSES)
    for label in labels(root).values():
        assert (label == drawn(THINGS, 0.5)[0]).all()


def test_a_crowd_lies_below_what_is_outlined_alone(tmp_path: Path) -> None:
    crowd = {"iscrowd": 1} | coco_files.runs({"": np.ones(SIZE, bool)}, packed=False)[0]
    shapes = [*coco_files.polygons(HOLELESS), crowd]
    root = coco_files.export(tmp_path / "data", shapes, [*CLASSES, "person"])
    for label in labels(root).values():
        wanted, near = drawn(HOLELESS, 0.5)
        assert (label[~near] == np.where(wanted, wanted, NAMES.index("person"))[~near]).all()


@pytest.mark.parametrize("counts", [[-1], [1 << 80], [1 << 63, -(1 << 63)], [1, 2], []])
def test_runs_that_do_not_fill_a_mask_are_refused(counts: list[int]) -> None:
    with pytest.raises(HedgeError, match="the runs of a mask do not fill 4x3 pixels"):
        runs(counts, (3, 4), by_column=True)


def test_masks_of_cvat_are_no_crowd(tmp_path: Path) -> None:
    """CVAT marks each mask as one, and writes attributes, which COCO's own file has none of."""
    mask = coco_files.runs({"": np.ones(SIZE, bool)}, packed=False)[0]
    mask |= {"iscrowd": 1, "attributes": {"occluded": False}}
    shapes = [*coco_files.polygons(HOLELESS), mask]
    root = coco_files.export(tmp_path / "data", shapes, [*CLASSES, "person"])
    assert all((label == NAMES.index("person")).all() for label in labels(root).values())


def test_the_project_that_roboflow_lists_is_no_class(tmp_path: Path) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        for row in content["categories"]:
            row["supercategory"] = "streets"
        content["categories"].insert(0, {"id": 0, "name": "streets", "supercategory": "none"})
        path.write_text(json.dumps(content))
    assert open_index(root, "train").classes.names == NAMES


def test_the_background_that_labelme_lists_is_what_has_no_label(tmp_path: Path) -> None:
    """Its labelme2coco.py lists it as a class; there were two backgrounds."""
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        content["categories"].insert(0, {"id": 0, "name": "_background_", "supercategory": None})
        path.write_text(json.dumps(content))
    index = open_index(root, "train")
    assert index.classes.names == ("_background_", *NAMES[1:])
    assert (index.read(index.items[0])[1] == 0).any()
    (root / "classes.json").write_text('["car", "background"]')
    index = open_index(root, "train")
    assert {*np.unique(index.read(index.items[0])[1])} == {0, 1, 255}


def test_a_file_beside_one_folder_of_pictures(tmp_path: Path) -> None:
    for seed in range(2):
        photo(tmp_path / f"export/pictures/{seed}.png", seed)
    path = tmp_path / "export/_annotations.coco.json"
    coco_files.write(path, ["0.png", "1.png"], coco_files.polygons(HOLELESS), CLASSES)
    assert len(labels(tmp_path)) == len(labels(path)) == 2


def test_an_official_tree_is_read_by_its_instances(tmp_path: Path) -> None:
    shapes = coco_files.polygons(HOLELESS)
    for split in ("train2017", "val2017"):
        photo(tmp_path / f"coco/images/{split}/0.png", len(split))
        path = tmp_path / f"coco/annotations/instances_{split}.json"
        coco_files.write(path, ["0.png"], shapes, CLASSES)
        (path.parent / f"captions_{split}.json").write_text('{"images": [], "annotations": []}')
    assert len(open_index(tmp_path / "coco", "train")) == 1
    assert len(open_index(tmp_path / "coco", "val")) == 1


@pytest.mark.parametrize("name", ["{}_annotations.json", "my_{}_coco.json", "annotations-{}.json"])
def test_names_of_files_say_the_split_in_any_word(name: str, tmp_path: Path) -> None:
    for seed, stem in enumerate("abcd"):
        photo(tmp_path / f"data/images/{stem}.png", seed)
    for split, stems in (("train", "bcd"), ("val", "a")):
        path = tmp_path / "data" / name.format(split)
        pictures = [f"{stem}.png" for stem in stems]
        coco_files.write(path, pictures, coco_files.polygons(HOLELESS), CLASSES)
    found = [[i.name for i in open_index(tmp_path / "data", s).items] for s in ("train", "val")]
    assert found == [["b", "c", "d"], ["a"]]


def test_a_word_that_all_names_share_is_no_split(tmp_path: Path) -> None:
    for seed, name in enumerate(("test_drive_1", "test_drive_2")):
        photo(tmp_path / f"data/{seed}.png", seed)
        path = tmp_path / f"data/{name}.json"
        coco_files.write(path, [f"{seed}.png"], coco_files.polygons(HOLELESS), CLASSES)
    assert len(open_index(tmp_path / "data", "train")) == 1


def test_label_studio_without_a_split_keeps_sequences_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"drive{d}_{i:03}.png" for d in range(5) for i in range(2)]
    for seed, name in enumerate(names):
        photo(tmp_path / f"export/images/{name}", seed)
    wild = [f"../../data/upload/1/{name}" for name in names]
    coco_files.write(tmp_path / "export/result.json", wild, coco_files.polygons(HOLELESS), CLASSES)
    train, val = (open_index(tmp_path / "export", split) for split in ("train", "val"))
    drives = [{item.name[:6] for item in index.items} for index in (train, val)]
    assert (len(train), len(val)) == (8, 2) and not drives[0] & drives[1]
    said = capsys.readouterr().err
    assert said.count("converted once") == 1 and "2 of 10 pictures became val" in said
    assert "without a label are background" in said


def test_labels_of_a_photo_as_it_is_stored_are_turned_with_it(tmp_path: Path) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    path, exif = root / "valid/v.png", Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    turned = labels(root)["v"]
    require_like(np.rot90(turned), HOLELESS, 0.5)


def boxes(root: Path) -> None:
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        for row in content["annotations"]:
            row["segmentation"] = []
        path.write_text(json.dumps(content))


def cut(root: Path) -> None:
    path = root / "train/_annotations.coco.json"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "cause", "fix"),
    [(boxes, "holds boxes only", "COCO Segmentation"), (cut, "not a COCO file", "export it again")],
)
def test_what_cannot_be_read_is_one_line(
    spoil: Callable[[Path], None], cause: str, fix: str, tmp_path: Path
) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    spoil(root)
    with pytest.raises(HedgeError) as caught:
        open_index(root, "train")
    line = str(caught.value)
    assert "_annotations.coco.json: " in line and cause in line and fix in line
    assert "\n" not in line


SHAPES = {
    "size": ({"size": [3, 3], "counts": [9]}, "3x3"),
    "count": ({"size": list(SIZE), "counts": [5, 10**12]}, "do not fill"),
    "negative": ({"size": list(SIZE), "counts": [-1, SIZE[0] * SIZE[1] + 1]}, "do not fill"),
    "text": ({"size": list(SIZE), "counts": "\x01ü~"}, "not what COCO writes"),
    "endless": ({"size": list(SIZE), "counts": "o" * 500}, "not what COCO writes"),
    "far": ([[1e300, 0, 5, 5, 9, 0]], "far outside"),
    "long": ([[0, 0, 1e6, 1e6] * 500], "too long"),
    "odd": ([[0, 0, 5, 5, 9, 0, 1]], "not a list of x and y"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_that_lies_is_a_fault_of_its_picture(kind: str, tmp_path: Path) -> None:
    shape, cause = SHAPES[kind]
    root = coco_files.export(tmp_path / "data", [{"segmentation": shape}], ["car"], count=1)
    faults = survey(root, "train").faults
    assert any("Straße 0.png" in str(fault) and cause in str(fault) for fault in faults)
    assert main(Check(root)) == 2


def test_a_selection_takes_no_picture_of_another_folder(tmp_path: Path) -> None:
    for seed in range(2):
        photo(tmp_path / f"data/cam2/{seed}.png", seed)
    names = [f"cam{camera}/{seed}.png" for camera in (1, 2, 3) for seed in range(2)]
    path = tmp_path / "data/labels.json"
    coco_files.write(path, names, coco_files.polygons(HOLELESS), CLASSES)
    content = json.loads(path.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in (2, 3)]
    path.write_text(json.dumps(content))
    for label in labels(tmp_path / "data").values():
        require_like(label, HOLELESS, 0.5)
    missing = [f.detail for f in survey(tmp_path / "data", "train").faults]
    assert len(missing) == 4 and not any("cam2/" in detail for detail in missing)


@pytest.mark.parametrize(
    ("key", "kind"), [("id", str), ("id", float), ("image_id", float), ("category_id", str)]
)
def test_ids_are_the_same_as_text_and_as_numbers(
    key: str, kind: Callable[[int], object], tmp_path: Path
) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        for row in content["images" if key == "id" else "annotations"]:
            row[key] = kind(row[key])
            row |= {side: float(row[side]) for side in ("width", "height") if side in row}
        path.write_text(json.dumps(content))
    for label in labels(root).values():
        require_like(label, HOLELESS, 0.5)


def test_datumaro_is_told_from_coco(tmp_path: Path) -> None:
    path = tmp_path / "data/annotations/default.json"
    path.parent.mkdir(parents=True)
    item = {"id": "0", "annotations": [], "image": {"path": "0.jpg"}}
    path.write_text(json.dumps({"info": {}, "categories": {"label": {}}, "items": [item]}))
    with pytest.raises(HedgeError, match=r"default\.json: Datumaro's own format, not COCO"):
        open_index(tmp_path / "data", "train")


def test_annotations_of_no_picture_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    path = root / "valid/_annotations.coco.json"
    path.write_text(path.read_text().replace('"image_id": 0', '"image_id": 1001'))
    assert not labels(root, "val")["v"].any()
    assert "left out, as no picture has their image_id: 3 annotations" in capsys.readouterr().err


def test_a_picture_listed_for_each_of_its_things_has_them_all(tmp_path: Path) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES, count=1)
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        (image,) = content["images"]
        content["images"] = [image | {"id": i} for i in range(3)]
        for i, row in enumerate(content["annotations"]):
            row["image_id"] = i
        path.write_text(json.dumps(content))
    for label in labels(root).values():
        require_like(label, HOLELESS, 0.5)
    assert not survey(root, "train").faults


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = coco_files.export(tmp_path / "data", coco_files.polygons(HOLELESS), CLASSES)
    (root / "train/Straße 1.png").unlink()
    (fault,) = (f for f in survey(root, "train").faults if f.problem is Problem.ORPHAN_LABEL)
    assert "Straße 1.png" in fault.detail
    assert len(open_index(root, "train")) == 1
