"""Label images: ids of any depth and colours become training ids, or are refused by name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from runtime.accuracy import label_files
from runtime.bundle.classes import CITYSCAPES, IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.outputs.label_images import LabelSink

Save = Callable[[Path, np.ndarray], Path]


def test_a_palette_label_gives_ids_not_colors(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(bytes(range(255, -1, -1)) * 3)
    image.save(tmp_path / "a.png")
    assert label_files.read_ids(tmp_path / "a.png").tolist() == ids.tolist()


def gray_png(path: Path, ids: np.ndarray, depth: int) -> Path:
    """A gray PNG of 1, 2, 4, 8 or 16 bits a pixel, which PIL does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    bits = np.unpackbits(ids.astype(">u2").view(np.uint8).reshape(*ids.shape, 2), axis=2)
    rows = np.packbits(bits[..., 16 - depth :].reshape(len(ids), -1), axis=1)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_ids_are_the_numbers_that_are_stored(depth: int, tmp_path: Path, classes: ClassSet) -> None:
    ids = np.arange(24).reshape(4, 6) % min(3, 2**depth)
    path = gray_png(tmp_path / "a.png", ids, depth)
    assert label_files.read_ids(path).tolist() == ids.tolist()
    assert label_files.read_label(path, classes).tolist() == ids.tolist()


@pytest.mark.parametrize("name", ["a.bmp", "a.tif", "a.PNG"])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_any_lossless_file_holds_ids(name: str, mode: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    image.save(tmp_path / name)
    assert label_files.read_ids(tmp_path / name).tolist() == ids.tolist()


def test_a_palette_of_four_bits_gives_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [9, 3]], np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(bytes(range(48)))
    image.save(tmp_path / "a.png", bits=4)
    assert label_files.read_ids(tmp_path / "a.png").tolist() == ids.tolist()


def test_a_label_is_turned_by_its_own_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ids = np.array([[0, 1, 2]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "a.png", exif=exif)
    assert label_files.read_ids(tmp_path / "a.png").tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("alpha", [[], [255]])
def test_class_colors_are_ids(alpha: list[int], tmp_path: Path, classes: ClassSet) -> None:
    colors = [[*color, *alpha] for color in (*classes.colors, (0, 0, 0))]
    path = tmp_path / "a.png"
    Image.fromarray(np.array([colors], np.uint8)).save(path)
    assert label_files.read_label(path, classes).tolist() == [[0, 1, 2, IGNORE]]


def refused_label(kind: str, path: Path) -> None:
    """Write a label of the kind named, whose ids would be invented."""
    ids = np.array([[0, 1], [2, 0]], np.uint8)
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    if kind == "instances":
        gray_png(path, np.array([[0, 26003]]), 16)
    elif kind == "wide colors":
        cv2.imwrite(str(path), red.astype(np.uint16))
    elif kind == "white is zero":
        Image.fromarray(ids).save(path, "TIFF", tiffinfo={262: 0})
    elif kind == "pages":
        Image.fromarray(ids).save(path, "TIFF", save_all=True, append_images=[Image.fromarray(ids)])
    elif kind == "blended":
        red[0, 0] = 254, 0, 0
        Image.fromarray(red).save(path)
    elif kind == "palette":
        image = Image.fromarray(ids)
        image.putpalette(bytes([0, 0, 0, 255, 0, 0, 0, 0, 255]))  # black, red, blue
        image.save(path)
    else:
        image = Image.fromarray(np.repeat(ids[..., None], 3, 2) if kind == "gray colors" else ids)
        image = image.convert({"alpha": "LA", "float": "F"}.get(kind, image.mode))
        image.save(path, {"lossy": "JPEG", "float": "TIFF"}.get(kind, "PNG"))


REFUSED = {
    "instances": r"0\.\.26003.*ids of instances",
    "wide colors": "colours of 16 bits",
    "white is zero": "stores white as 0",
    "pages": "several pages",
    "blended": r"1 colours outside the class list, first \(254, 0, 0\)",
    "palette": "its palette shows other classes than its ids",
    "gray colors": r"outside the class list, first \(1, 1, 1\)",
    "alpha": "one 8-bit id a pixel, not LA",
    "float": "one 8-bit id a pixel, not F",
    "lossy": "saved without loss, as PNG, not JPEG",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_ids_is_refused(kind: str, tmp_path: Path, classes: ClassSet) -> None:
    refused_label(kind, tmp_path / "a.png")
    with pytest.raises(HedgeError, match=rf"a\.png: .*{REFUSED[kind]}") as caught:
        label_files.read_label(tmp_path / "a.png", classes)
    assert "\n" not in str(caught.value)


def test_ids_with_gaps_and_more_values_to_ignore(tmp_path: Path, save_ids: Save) -> None:
    own = ClassSet(("a", "b"), ((1, 1, 1), (2, 2, 2)), ids=(7, 255), ignored=(0, 9))
    path = save_ids(tmp_path / "a.png", np.array([[7, 255, 0, 9]]))
    assert label_files.read_label(path, own).tolist() == [[0, 1, IGNORE, IGNORE]]
    with pytest.raises(HedgeError, match=r"unknown label ids \[1\]"):
        label_files.read_label(save_ids(tmp_path / "b.png", np.array([[1]])), own)


LABEL_IDS = np.array([[7, 11], [26, 4]])
AS_TRAIN_IDS = [[0, 2], [13, IGNORE]]


@pytest.mark.parametrize("name", ["a_gtFine_labelIds.png", "a_leftImg8bit.png"])
def test_cityscapes_label_ids_by_name_or_by_content(
    name: str, tmp_path: Path, save_ids: Save
) -> None:
    path = save_ids(tmp_path / name, LABEL_IDS)
    assert label_files.read_label(path, CITYSCAPES).tolist() == AS_TRAIN_IDS


def test_the_folder_decides_for_a_label_that_could_be_either(
    tmp_path: Path, save_ids: Save
) -> None:
    either = save_ids(tmp_path / "ids" / "a.png", np.array([[7, 11]]))
    save_ids(tmp_path / "ids" / "b.png", LABEL_IDS)
    assert label_files.read_label(either, CITYSCAPES).tolist() == [[0, 2]]
    either = save_ids(tmp_path / "train" / "a.png", np.array([[7, 11]]))
    save_ids(tmp_path / "train" / "b.png", np.array([[18, 255]]))
    assert label_files.read_label(either, CITYSCAPES).tolist() == [[7, 11]]


def test_train_ids_by_name_hold_no_label_ids(tmp_path: Path, save_ids: Save) -> None:
    path = save_ids(tmp_path / "a_gtFine_labelTrainIds.png", LABEL_IDS)
    with pytest.raises(HedgeError, match=r"unknown label ids \[26\]"):
        label_files.read_label(path, CITYSCAPES)


def test_other_class_sets_hold_training_ids(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    path = save_ids(tmp_path / "a_labelIds.png", np.array([[0, 2, IGNORE]]))
    assert label_files.read_label(path, classes).tolist() == [[0, 2, IGNORE]]
    with pytest.raises(HedgeError, match=r"unknown label ids \[3\]"):
        label_files.read_label(save_ids(tmp_path / "b.png", np.array([[3]])), classes)


def test_training_ids_by_name_are_no_ids_of_the_class_list(tmp_path: Path, save_ids: Save) -> None:
    own = ClassSet(("a", "b"), ((1, 1, 1), (2, 2, 2)), ids=(1, 2), ignored=(0,))
    path = save_ids(tmp_path / "x_labelTrainIds.png", np.array([[0, 1, 255]]))
    assert label_files.read_label(path, own).tolist() == [[0, 1, IGNORE]]


def test_answers_of_a_model_are_no_labels_of_a_list_with_other_ids(tmp_path: Path) -> None:
    own = ClassSet(("a", "b"), ((9, 9, 9), (99, 99, 99)), ids=(1, 2), ignored=(0,))
    LabelSink(tmp_path, own).write("x", np.array([[0, 1], [1, 0]], np.uint8))
    with pytest.raises(HedgeError, match="its palette shows other classes"):
        label_files.read_label(tmp_path / "x.png", own)
