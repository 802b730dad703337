"""Other people's class lists, label files and names: read alike in training and by ``--labels``."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.accuracy.ground_truth import LabelFolder
from runtime.bundle.classes import CITYSCAPES, IGNORE
from runtime.errors import HedgeError
from train.__main__ import main as train
from train.checkpoint import Checkpoint
from train.config import ModelConfig, TrainConfig
from train.datasets import audit as audit_module
from train.datasets import open_index, survey
from train.datasets.audit import audit as check
from train.datasets.audit import before_training, look, split_warnings
from train.datasets.index import Problem
from train.evaluation.scoring import evaluation_index

SKY = {"name": "sky", "color": [70, 130, 180]}
CAR = {"name": "car", "color": [0, 0, 142]}
SIZE = (4, 6)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def make_data(
    root: Path, classes: object, label: np.ndarray, name: str = "a", suffix: str = ".png"
) -> Path:
    """A data set in the folder layout with one image of each split."""
    for split in ("train", "val"):
        save(root / f"images/{split}/{name}.png", np.zeros((*label.shape[:2], 3)))
        save(root / f"labels/{split}/{name}{suffix}", label)
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def read_both_ways(data: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names, and the label of the only image as training and ``--labels`` read it."""
    index = open_index(data, "train")
    (item,) = index.items
    _, trained = index.read(item)
    shown = LabelFolder(data / "labels/train", index.classes).read(item.name)
    assert shown is not None
    np.testing.assert_array_equal(trained, shown)
    return index.classes.names, trained


HALVES = np.repeat([[0], [0], [1], [1]], 6, axis=1)  # the upper half is 0


@pytest.mark.parametrize(
    ("classes", "values", "names", "expected"),
    [
        ([{**CAR, "id": 1}, {**SKY, "id": 0}], (0, 1), ("sky", "car"), (0, 1)),
        ([{**CAR, "id": 26}, {**SKY, "id": 23}], (23, 26), ("sky", "car"), (0, 1)),
        ({"classes": ["sky", "car"], "ignore": 9}, (9, 1), ("sky", "car"), (IGNORE, 1)),
        (
            {"classes": [{**SKY, "id": 1}, {**CAR, "id": 2}], "ignore": 0},
            (0, 2),
            ("sky", "car"),
            (IGNORE, 1),
        ),
        ([{**SKY, "id": 0}, {**CAR, "id": 255}], (0, 255), ("sky", "car"), (0, 1)),
        (["sky", "car"], (1, 255), ("sky", "car"), (1, IGNORE)),
    ],
)
def test_numbers_mean_what_the_class_list_says(
    classes: object,
    values: tuple[int, int],
    names: tuple[str, ...],
    expected: tuple[int, int],
    tmp_path: Path,
) -> None:
    data = make_data(tmp_path, classes, np.array(values)[HALVES])
    assert read_both_ways(data)[0] == names
    np.testing.assert_array_equal(read_both_ways(data)[1], np.array(expected)[HALVES])


def test_colors_mean_what_the_class_list_says(tmp_path: Path) -> None:
    colors = np.array([CAR["color"], SKY["color"]])
    label = read_both_ways(make_data(tmp_path, [SKY, CAR], colors[HALVES]))[1]
    np.testing.assert_array_equal(label, 1 - HALVES)


@pytest.mark.parametrize("suffix", [".PNG", ".tif", ".TIFF", ".bmp"])
def test_labels_may_be_of_any_lossless_format(suffix: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, [SKY, CAR], HALVES, suffix=suffix)
    np.testing.assert_array_equal(read_both_ways(data)[1], HALVES)
    assert not survey(data, "train").faults


def test_two_labels_of_one_image_are_named(tmp_path: Path) -> None:
    data = make_data(tmp_path, [SKY, CAR], HALVES)
    save(data / "labels/train/a.tif", HALVES)
    with pytest.raises(HedgeError, match=r"a\.tif: shares its name with a\.png"):
        open_index(data, "train")


NFC, NFD = (unicodedata.normalize(form, "Münch\u00e9n") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("image", [NFC, NFD])
@pytest.mark.parametrize("label", [NFC, NFD])
def test_names_are_the_same_in_both_unicode_forms(image: str, label: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, [SKY, CAR], HALVES, name=label)
    for path in (data / "images").rglob("*.png"):
        path.rename(path.with_name(f"{image}.png"))
    np.testing.assert_array_equal(read_both_ways(data)[1], HALVES)


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("listed", [NFC, NFD])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_finds_names_in_both_unicode_forms(
    on_disk: str, listed: str, encoding: str, tmp_path: Path
) -> None:
    save(tmp_path / on_disk / "a.png", np.zeros((*SIZE, 3)))
    save(tmp_path / on_disk / "b.png", HALVES)
    line = f"{listed}/a.png, {listed}/b.png\n"
    (tmp_path / "train.txt").write_bytes(line.encode(encoding))
    (tmp_path / "classes.json").write_text('["sky", "car"]')
    index = open_index(tmp_path, "train")
    np.testing.assert_array_equal(index.read(index.items[0])[1], HALVES)


def test_idd_by_the_label_pictures_in_the_ids_of_cityscapes(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/train/7/frame0_leftImg8bit.png", np.zeros((*SIZE, 3)))
    outlines = tmp_path / "gtFine/train/7/frame0_gtFine_polygons.json"
    outlines.parent.mkdir(parents=True)
    outlines.write_text("{}")
    with pytest.raises(HedgeError, match=r"gtFine.train: holds outlines alone; .* csTrainId"):
        open_index(tmp_path, "train")
    save(outlines.with_name("frame0_gtFine_labelcsTrainIds.png"), np.full(SIZE, 13))
    index = open_index(tmp_path, "train")
    assert (index.read(index.items[0])[1] == 13).all()


@pytest.mark.parametrize("kind", ["labelIds", "color"])
def test_cityscapes_files_in_capitals(kind: str, tmp_path: Path) -> None:
    name = "ulm/ulm_0"
    save(tmp_path / f"leftImg8bit/train/{name}_leftImg8bit.PNG", np.zeros((*SIZE, 3)))
    car = np.full(SIZE, 26) if kind == "labelIds" else np.full((*SIZE, 3), CAR["color"])
    save(tmp_path / f"gtFine/train/{name}_gtFine_{kind}.TIF", car)
    index = open_index(tmp_path, "train")
    assert (index.read(index.items[0])[1] == 13).all()
    shown = LabelFolder(tmp_path / "gtFine", CITYSCAPES).read("ulm_0_leftImg8bit")
    assert (shown == 13).all()


def test_an_upright_label_fits_a_turned_image(tmp_path: Path) -> None:
    """Labels are drawn on what viewers show; one drawn on the stored picture is told apart."""
    data = make_data(tmp_path, ["sky", "car"], HALVES)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = data / "images/train/a.png"
    Image.new("RGB", HALVES.shape).save(image, exif=exif)  # stored lying, 4 wide and 6 high
    assert read_both_ways(data)[1].shape == HALVES.shape
    save(data / "labels/train/a.png", HALVES.T)
    with pytest.raises(HedgeError, match=r"4x6, but a\.png is 6x4, turned upright"):
        index = open_index(data, "train")
        index.read(index.items[0])
    assert survey(data, "train").faults == ()


def test_a_class_list_that_is_refused_is_a_fault(tmp_path: Path) -> None:
    data = make_data(tmp_path, [{**SKY, "weight": 3}], HALVES)
    (fault,) = survey(data, "train").faults
    assert fault.problem is Problem.CLASS_LIST
    assert "`weight`" in fault.detail


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of 0 and 255, whose road is ignored."""
    return make_data(tmp_path / "masks", ["background", "road"], 255 * HALVES)


def test_masks_of_0_and_255_are_refused_before_the_first_step(masks: Path, tmp_path: Path) -> None:
    config = TrainConfig(data=masks, out=tmp_path / "runs")
    with pytest.raises(HedgeError, match=r'road; it cannot.*50% .* ignored.*"id": 255') as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").rglob("*.pt"))


def test_evaluation_and_export_warn_of_what_the_check_warns_of(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = open_index(masks, "val")
    config, model = TrainConfig(data=masks), ModelConfig("mobilenet_v2", 2)
    checkpoint = Checkpoint(config, model, index.classes, (8, 8), {}, 1, 1, 0.5)
    evaluation_index(checkpoint, None, "val")
    said = capsys.readouterr().err
    checked = [line for line in check(masks).warnings if "val" in line]
    assert len(checked) == 2
    assert all(f"{masks}: {line}" in said.replace("\n", " ") for line in checked)
    capsys.readouterr()
    evaluation_index(checkpoint, None, "val")
    assert not capsys.readouterr().err, "once is enough"


def test_a_look_ends_when_every_class_was_seen(tmp_path: Path) -> None:
    data = make_data(tmp_path, ["sky", "car"], HALVES)
    for i in range(20):
        save(data / f"images/train/{i}.png", np.zeros((*HALVES.shape, 3)))
        save(data / f"labels/train/{i}.png", HALVES)
    index = open_index(data, "train")
    assert look(index).pixels.sum() == HALVES.size
    assert list(split_warnings(look(index))) == []


def test_a_look_at_some_labels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path, ["sky", "car", "tram"], HALVES)
    save(data / "images/train/b.png", np.zeros((*HALVES.shape, 3)))
    save(data / "labels/train/b.png", 2 * HALVES)
    monkeypatch.setattr(audit_module, "_LOOKS", 1)
    (line,) = split_warnings(look(open_index(data, "train")))
    assert line.startswith("never in 1 of the labels of train: ")


def test_training_names_images_that_are_in_both_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path, ["sky", "car"], HALVES)
    train, val = open_index(data, "train"), open_index(data, "val")
    before_training(train, val, hushed=True)
    assert not capsys.readouterr().err
    before_training(train, val)
    said = capsys.readouterr().err.replace("\n", "")
    assert f"1 images of val are in train, too: {val.items[0].image}: same content" in said
    save(val.items[0].image, np.full((*HALVES.shape, 3), 9))
    before_training(train, val)
    assert not capsys.readouterr().err


def test_training_needs_a_label_to_validate_on(tmp_path: Path) -> None:
    data = make_data(tmp_path, ["sky", "car"], HALVES)
    train, val = open_index(data, "train"), open_index(data, "val")
    for item in val.items:
        save(item.label, np.full(HALVES.shape, 255))
    with pytest.raises(HedgeError, match="nothing to validate on: every pixel of val's labels"):
        before_training(train, val, hushed=True)
