"""Strict reading of images and labels, and the one decision between two Cityscapes numberings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import images
from runtime.bundle.classes import CITYSCAPES, IGNORE, ClassSet
from runtime.errors import HedgeError

Save = Callable[[Path, np.ndarray], Path]


def noise(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_image_raises_and_names_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(noise()).save(path)
    images.read_rgb(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(HedgeError, match=name):
        images.read_rgb(path)


def test_a_palette_label_gives_ids_not_colors(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(bytes(range(255, -1, -1)) * 3)
    image.save(tmp_path / "a.png")
    assert images.read_ids(tmp_path / "a.png").tolist() == ids.tolist()


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_label_of_another_kind_is_refused(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(HedgeError, match="one 8-bit id a pixel"):
        images.read_ids(tmp_path / "a.png")


LABEL_IDS = np.array([[7, 11], [26, 4]])
AS_TRAIN_IDS = [[0, 2], [13, IGNORE]]


@pytest.mark.parametrize("name", ["a_gtFine_labelIds.png", "a_leftImg8bit.png"])
def test_cityscapes_label_ids_by_name_or_by_content(
    name: str, tmp_path: Path, save_ids: Save
) -> None:
    path = save_ids(tmp_path / name, LABEL_IDS)
    assert images.read_label(path, CITYSCAPES).tolist() == AS_TRAIN_IDS


def test_the_folder_decides_for_a_label_that_could_be_either(
    tmp_path: Path, save_ids: Save
) -> None:
    either = save_ids(tmp_path / "ids" / "a.png", np.array([[7, 11]]))
    save_ids(tmp_path / "ids" / "b.png", LABEL_IDS)
    assert images.read_label(either, CITYSCAPES).tolist() == [[0, 2]]
    either = save_ids(tmp_path / "train" / "a.png", np.array([[7, 11]]))
    save_ids(tmp_path / "train" / "b.png", np.array([[18, 255]]))
    assert images.read_label(either, CITYSCAPES).tolist() == [[7, 11]]


def test_train_ids_by_name_hold_no_label_ids(tmp_path: Path, save_ids: Save) -> None:
    path = save_ids(tmp_path / "a_gtFine_labelTrainIds.png", LABEL_IDS)
    with pytest.raises(HedgeError, match=r"unknown label ids \[26\]"):
        images.read_label(path, CITYSCAPES)


def test_other_class_sets_hold_training_ids(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    path = save_ids(tmp_path / "a_labelIds.png", np.array([[0, 2, IGNORE]]))
    assert images.read_label(path, classes).tolist() == [[0, 2, IGNORE]]
    with pytest.raises(HedgeError, match=r"unknown label ids \[3\]"):
        images.read_label(save_ids(tmp_path / "b.png", np.array([[3]])), classes)
