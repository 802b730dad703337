"""Calibration images: real, from the right split, decoded whole, and provable afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import verify
from export.int8 import calibration
from export.int8.calibration import Scales
from runtime import files
from runtime.errors import HedgeError
from train.datasets import open_index
from train.datasets.index import evenly_spaced

MakeImages = Callable[..., Path]
SaveIds = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def folder(make_images: MakeImages, tmp_path: Path) -> Path:
    return make_images(tmp_path / "photos", 20, "f{:02}")


def test_a_rare_class_is_seen(
    make_images: MakeImages, save_ids: SaveIds, classes: object, tmp_path: Path
) -> None:
    """Forty images, of which two hold the third class: eight chosen ones hold both."""
    make_images(tmp_path / "images" / "train", 40, "f{:02}")
    for index in range(40):
        ids = np.zeros((24, 32), np.uint8)
        ids[:4] = index % 2
        ids[-1] = 2 if index in (11, 29) else 0
        save_ids(tmp_path / "labels" / "train" / f"f{index:02}.png", ids)
    (tmp_path / "classes.json").write_bytes(classes.to_json())  # type: ignore[attr-defined]
    chosen = calibration.from_split(open_index(tmp_path, "train"), 10)
    names = {path.stem for path in chosen.paths}
    assert len(names) == 10 and {"f11", "f29"} <= names
    assert chosen == calibration.from_split(open_index(tmp_path, "train"), 10)


def test_only_the_training_split_calibrates(blocks: Path) -> None:
    with pytest.raises(HedgeError, match="calibration images come from train, not val"):
        calibration.from_split(open_index(blocks, "val"), 2)


def test_few_images_warn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration.from_folder(folder, 16)
    assert not capsys.readouterr().err
    assert len(calibration.from_folder(folder, 15).paths) == 15
    assert "calibrating with 15 images only" in capsys.readouterr().err


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="no such folder"):
        calibration.from_folder(tmp_path / "gone", 8)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HedgeError, match="no images to calibrate with"):
        calibration.from_folder(tmp_path, 8)


def test_a_damaged_image_is_named(folder: Path) -> None:
    victim = folder / "f07.png"
    victim.write_bytes(victim.read_bytes()[:60])
    images = calibration.from_folder(folder, 20)
    for read in (images.check, lambda: list(images.frames((24, 32)))):
        with pytest.raises(HedgeError, match=r"f07\.png: not a readable image"):
            read()


def test_images_are_read_one_at_a_time(folder: Path) -> None:
    frames = calibration.from_folder(folder, 20).frames((48, 40))
    assert next(frames).shape == (48, 40, 3)
    (folder / "f01.png").unlink()
    with pytest.raises(HedgeError, match=r"f01\.png"):
        next(frames)


def test_frames_are_what_the_runtime_feeds(folder: Path, band_picture: Callable) -> None:
    frame = next(calibration.from_folder(folder, 20).frames((24, 32)))
    assert np.array_equal(frame, band_picture(0))  # BGR


def test_the_passport_proves_what_was_used(folder: Path) -> None:
    passport = calibration.from_folder(folder, 16).passport
    assert passport["split"] == "folder" and passport["data"] == "photos"
    assert len(passport["images"]) == 16
    for name, digest in passport["images"].items():
        assert files.sha256(folder / name) == digest


def test_names_that_are_no_text_can_be_written_down(folder: Path) -> None:
    """As of cameras and zips of before UTF-8."""
    odd = folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    (odd / "f00.png").rename(odd / os.fsdecode(b"f\xe9.png"))
    passport = calibration.from_folder(odd, 20).passport
    assert "f\\udce9.png" in passport["images"] and passport["data"] == "caf\\udce9"
    seen = verify.unlabelled(odd, 20)
    names = [frame.name for frame in seen.frames]
    msgspec.json.encode([passport, seen.data, names])


def test_images_of_one_name_are_told_apart(make_images: MakeImages, tmp_path: Path) -> None:
    """As of two cameras: neither hides the other from the check against the evaluation split."""
    for camera, count in (("left", 2), ("right", 1)):
        make_images(tmp_path / camera, count)
    paths = tuple(sorted(tmp_path.rglob("*.png")))
    images = calibration.Images("cameras", "train", paths).passport["images"]
    assert list(images) == ["left/f0.png", "left/f1.png", "right/f0.png"]


def test_evaluation_images_are_refused_under_any_name(blocks: Path, tmp_path: Path) -> None:
    evaluation = open_index(blocks, "val")
    used = calibration.from_split(open_index(blocks, "train"), 8).passport["images"]
    calibration.refuse_overlap(used, evaluation)
    copied = {"holiday.png": files.sha256(evaluation.items[1].image)}
    with pytest.raises(HedgeError, match=r"holiday\.png: .* also in the evaluation split"):
        calibration.refuse_overlap(used | copied, evaluation)


def test_scales_come_back_for_their_model_only(tmp_path: Path) -> None:
    scales = Scales("mine", {"conv1": (-1.5, 2.25)}, {"images": {}, "method": "entropy"})
    path = tmp_path / "scales.json"
    scales.save(path)
    assert Scales.load(path, "mine") == scales
    with pytest.raises(HedgeError, match="scales of another model or input size"):
        Scales.load(path, "yours")
    for damaged in (path.read_bytes()[:-9], b"", b"[]", b"\xff\xfe", b'{"": ' + b"[" * 10_000):
        path.write_bytes(damaged)
        with pytest.raises(HedgeError, match="not a table of scales"):
            Scales.load(path, "mine")
    with pytest.raises(HedgeError, match="not a table of scales"):
        Scales.load(tmp_path / "gone.json", "mine")


@given(st.integers(1, 60), st.integers(1, 60))
def test_evenly_spaced_items_span_all(length: int, count: int) -> None:
    chosen = evenly_spaced(range(length), count)
    assert len(chosen) == len(set(chosen)) == min(length, count)
    assert chosen == sorted(chosen) and chosen[0] == 0
    if count > 1:
        assert chosen[-1] == length - 1


def test_an_empty_split_is_refused(blocks: Path) -> None:
    index = replace(open_index(blocks, "train"), items=())
    with pytest.raises(HedgeError, match="no images to calibrate with"):
        calibration.from_split(index, 4)
