"""Every layout reads to the same pairs, and everything that is wrong names its file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.accuracy import label_files
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, IGNORE
from runtime.errors import HedgeError
from tests.train.datasets.layouts import (
    SIZE,
    TWO,
    ids,
    make_cityscapes,
    make_folder,
    make_list,
    picture,
    save,
)
from train.datasets import default_data, open_index, survey
from train.datasets.index import Problem

read_label = partial(label_files.read_label, class_set=CITYSCAPES)
# The licence plate has no row of its own, and a pole group no colour of its own.
DISTINCT = [row for row in CITYSCAPES_LABELS if row[0] != "polegroup"]
MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": make_folder,
    "cityscapes": make_cityscapes,
    "list": make_list,
}


@pytest.mark.parametrize("layout", MAKERS)
def test_the_layout_is_seen_and_every_item_reads(layout: str, tmp_path: Path) -> None:
    data = MAKERS[layout](tmp_path)
    for split in ("train", "val"):
        index = open_index(data, split)
        assert (index.layout, index.split) == (layout, split)
        assert [item.name for item in index.items] == sorted(item.name for item in index.items)
        for item in index.items:
            image, label = index.read(item)
            assert item.name == item.image.stem
            assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
            assert (label.shape, label.dtype) == (SIZE, np.uint8)


@pytest.mark.parametrize("layout", MAKERS)
def test_an_index_travels_to_worker_processes(layout: str, tmp_path: Path) -> None:
    index = open_index(MAKERS[layout](tmp_path), "val")
    copy = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(copy.read(copy.items[0])[1], index.read(index.items[0])[1])


@pytest.mark.parametrize("layout", MAKERS)
def test_hidden_files_are_not_seen(layout: str, tmp_path: Path) -> None:
    data = MAKERS[layout](tmp_path)
    images = next(path for path in data.rglob("*.png")).parents[0]
    (images / "._a.png").write_bytes(b"left by another system")
    (images / ".DS_Store").write_bytes(b"")
    assert not survey(data, "train").faults


@pytest.mark.parametrize("layout", MAKERS)
def test_an_empty_split_is_named(layout: str, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match=r"test.*'test'"):
        open_index(MAKERS[layout](tmp_path), "test")


@pytest.mark.parametrize("layout", MAKERS)
def test_a_truncated_file_is_named(layout: str, tmp_path: Path) -> None:
    index = open_index(MAKERS[layout](tmp_path), "train")
    item = index.items[0]
    for path in (item.label, item.image):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(HedgeError, match=path.name):
            index.read(item)


@pytest.mark.parametrize("layout", MAKERS)
def test_a_label_of_another_size_is_named(layout: str, tmp_path: Path) -> None:
    index = open_index(MAKERS[layout](tmp_path), "train")
    save(index.items[0].label, np.zeros((3, 8), np.uint8))
    with pytest.raises(HedgeError, match=rf"{index.items[0].label.name}: 8x3.*8x6"):
        index.read(index.items[0])


@pytest.mark.parametrize("layout", MAKERS)
def test_unknown_ids_are_named(layout: str, tmp_path: Path) -> None:
    index = open_index(MAKERS[layout](tmp_path), "train")
    save(index.items[0].label, ids(77))
    with pytest.raises(HedgeError, match=rf"{index.items[0].label.name}: .*77"):
        index.read(index.items[0])


def test_a_path_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="nowhere"):
        open_index(tmp_path / "nowhere", "train")
    with pytest.raises(HedgeError, match="not a data set"):
        open_index(tmp_path, "train")


def test_an_image_without_label_stops_and_a_label_without_image_does_not(tmp_path: Path) -> None:
    data = make_folder(tmp_path)
    (data / "images/train/a.png").unlink()
    assert [item.name for item in open_index(data, "train").items] == ["b"]
    assert [f.problem for f in survey(data, "train").faults] == [Problem.ORPHAN_LABEL]
    (data / "labels/train/b.png").unlink()
    with pytest.raises(HedgeError, match=r"b\.png"):
        open_index(data, "train")


def test_two_images_of_one_stem_are_named(tmp_path: Path) -> None:
    data = make_folder(tmp_path)
    save(data / "images/train/a.jpg", picture(3))
    with pytest.raises(HedgeError, match=r"a\.png.*a\.jpg"):
        open_index(data, "train")


@pytest.mark.parametrize("content", [None, b"{}", b"not json", b'{"classes": []}'])
def test_a_bad_class_list_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = make_folder(tmp_path) / "classes.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(HedgeError, match=r"classes\.json"):
        open_index(tmp_path, "train")


def test_a_folder_label_keeps_its_ids(tmp_path: Path) -> None:
    index = open_index(make_folder(tmp_path), "val")
    label = ids()
    label[0, 0] = IGNORE
    save(index.items[0].label, label)
    np.testing.assert_array_equal(index.read(index.items[0])[1], label)
    assert index.classes == TWO


@pytest.mark.parametrize(
    ("kind", "value", "train_id"),
    [
        ("labelIds", 7, 0),
        ("labelIds", 26, 13),
        ("labelIds", 33, 18),
        ("labelIds", 1, IGNORE),
        ("labelIds", 255, IGNORE),
        ("labelTrainIds", 13, 13),
        ("labelTrainIds", 255, IGNORE),
    ],
)
def test_golden_cityscapes_ids(kind: str, value: int, train_id: int, tmp_path: Path) -> None:
    index = open_index(make_cityscapes(tmp_path, kind, value), "train")
    assert index.classes == CITYSCAPES
    assert index.read(index.items[0])[1][2, 0] == train_id


@pytest.mark.parametrize(
    ("color", "train_id"),
    [
        ((128, 64, 128), 0),
        ((220, 20, 60), 11),
        ((0, 0, 142), 13),
        ((153, 153, 153), 5),
        ((119, 11, 32), 18),
        ((0, 0, 0), IGNORE),
        ((111, 74, 0), IGNORE),
    ],
)
@pytest.mark.parametrize("alpha", [(), (255,)])
def test_golden_cityscapes_colors(
    color: tuple[int, int, int], train_id: int, alpha: tuple[int, ...], tmp_path: Path
) -> None:
    pixels = np.full((*SIZE, 3 + len(alpha)), (*color, *alpha), np.uint8)
    path = save(tmp_path / "a_gtFine_color.png", pixels)
    assert set(read_label(path).ravel()) == {train_id}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.sampled_from(DISTINCT), min_size=1, max_size=40))
def test_colors_and_ids_say_the_same(
    rows: list[tuple[str, int, int, tuple[int, int, int]]], tmp_path: Path
) -> None:
    by_id = save(tmp_path / "a_labelIds.png", np.array([[row[1] for row in rows]], np.uint8))
    by_color = save(tmp_path / "a_color.png", np.array([[row[3] for row in rows]], np.uint8))
    expected = read_label(by_id)
    np.testing.assert_array_equal(read_label(by_color), expected)


def test_a_blended_color_is_named(tmp_path: Path) -> None:
    pixels = np.full((*SIZE, 3), (128, 64, 128), np.uint8)
    pixels[1, 1] = (127, 64, 128)
    path = save(tmp_path / "a_gtFine_color.png", pixels)
    with pytest.raises(HedgeError, match=r"a_gtFine_color.*\(127, 64, 128\)"):
        read_label(path)


def test_label_ids_are_preferred_to_colors(tmp_path: Path) -> None:
    data = make_cityscapes(tmp_path)
    label = open_index(data, "train").items[0].label
    save(label.with_name(label.name.replace("labelIds", "color")), picture(0))
    save(label.with_name(label.name.replace("labelIds", "labelTrainIds")), ids(1))
    assert open_index(data, "train").items[0].label == label


def test_the_default_follows_the_environment_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSCAPES_DATASET", "elsewhere")
    assert default_data() == Path("elsewhere")
    monkeypatch.delenv("CITYSCAPES_DATASET")
    (tmp_path / "data/synthetic").mkdir(parents=True)
    assert default_data() == Path("data/synthetic")
    (tmp_path / "data/cityscapes").mkdir()
    assert default_data() == Path("data/cityscapes")


@pytest.mark.parametrize(
    ("half", "variant", "ending"),
    [
        ("gtFine", "gtCoarse", "_gtFine_labelIds"),
        ("leftImg8bit", "leftImg8bit_foggy", "_leftImg8bit"),
    ],
)
def test_a_variant_of_cityscapes_is_told_how_to_become_one(
    half: str, variant: str, ending: str, tmp_path: Path
) -> None:
    (make_cityscapes(tmp_path) / half).rename(tmp_path / variant)
    with pytest.raises(HedgeError, match=rf"{variant}: a variant of .*{half}/, .*{ending}\.png"):
        open_index(tmp_path, "train")
