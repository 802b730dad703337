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
from PIL import Image

from runtime.accuracy import label_files
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, IGNORE, ClassSet
from runtime.errors import HedgeError
from train.datasets import default_data, open_index, survey
from train.datasets.index import Problem

TWO = ClassSet(("ground", "thing"), ((10, 20, 30), (200, 100, 0)))
SIZE = (6, 8)  # height, width
read_label = partial(label_files.read_label, class_set=CITYSCAPES)
# The licence plate has no row of its own, and a pole group no colour of its own.
DISTINCT = [row for row in CITYSCAPES_LABELS if row[0] != "polegroup"]


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(value: int) -> np.ndarray:
    return np.full((*SIZE, 3), value, np.uint8)


def ids(value: int = 1) -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[2:4] = value
    return label


def make_folder(root: Path) -> Path:
    for split, names in (("train", "ba"), ("val", "c")):
        for name in names:
            save(root / f"images/{split}/{name}.png", picture(ord(name)))
            save(root / f"labels/{split}/{name}.png", ids())
    (root / "classes.json").write_bytes(TWO.to_json())
    return root


def make_cityscapes(root: Path, kind: str = "labelIds", value: int = 26) -> Path:
    for split, city in (("train", "aachen"), ("val", "ulm")):
        name = f"{city}/{city}_000000_000019"
        save(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", picture(9))
        save(root / f"gtFine/{split}/{name}_gtFine_{kind}.png", ids(value))
    return root


def make_list(root: Path) -> Path:
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        save(root / f"pictures/{name}.png", picture(ord(name)))
        save(root / f"truth/{name}.png", ids())
        save(root / f"edges/{name}.png", ids(200))
        with (root / f"{split}.txt").open("a") as file:
            file.write(f"# {split}\n\n pictures/{name}.png ,truth/{name}.png, edges/{name}.png\n")
    (root / "classes.json").write_bytes(TWO.to_json())
    return root


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


def test_a_list_gives_edges_and_finds_the_other_split(tmp_path: Path) -> None:
    make_list(tmp_path)
    for data in (tmp_path, tmp_path / "train.txt", tmp_path / "val.txt"):
        index = open_index(data, "val")
        assert [item.name for item in index.items] == ["c"]
        edges = index.read_edges(index.items[0])
        assert edges is not None
        np.testing.assert_array_equal(edges, ids(200))


def test_edges_are_optional_and_must_fit(tmp_path: Path) -> None:
    index = open_index(make_folder(tmp_path / "folder"), "train")
    assert index.read_edges(index.items[0]) is None
    listed = open_index(make_list(tmp_path / "list"), "train")
    edges = listed.items[0].edges
    assert edges is not None
    save(edges, picture(3))
    with pytest.raises(HedgeError, match=r"edges.a\.png.*RGB"):
        listed.read_edges(listed.items[0])
    save(edges, np.zeros((2, 2), np.uint8))
    with pytest.raises(HedgeError, match=r"edges.a\.png: 2x2"):
        listed.read_edges(listed.items[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pictures/a.png", "expected 'image, label"),
        ("pictures/a.png, truth/a.png, edges/a.png, more", "expected 'image, label"),
        ("pictures/a.png,, edges/a.png", "expected 'image, label"),
        ("pictures/none.png, truth/a.png", "none.png"),
        ("pictures/a.png, truth/none.png", "none.png"),
        ("pictures/c.png, truth/c.png, edges/none.png", "none.png"),
        ("pictures/a.png, truth/a.png", "listed twice"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line: str, message: str, tmp_path: Path) -> None:
    path = make_list(tmp_path) / "train.txt"
    path.write_text(f"# seven\n\npictures/a.png, truth/a.png\n{line}\n")
    with pytest.raises(HedgeError, match=rf"train\.txt:4: .*{message}"):
        open_index(tmp_path, "train")


def test_a_list_without_classes_is_cityscapes(tmp_path: Path) -> None:
    (make_list(tmp_path) / "classes.json").unlink()
    save(tmp_path / "truth/x_gtFine_labelIds.png", ids(26))
    save(tmp_path / "truth/x_gtFine_labelTrainIds.png", ids(13))
    lines = [
        f"pictures/{n}.png, truth/x_gtFine_{k}.png"
        for n, k in (("a", "labelIds"), ("b", "labelTrainIds"))
    ]
    (tmp_path / "train.txt").write_text("\ufeff" + "\n".join(lines), "utf-8")
    index = open_index(tmp_path, "train")
    assert index.classes == CITYSCAPES
    assert [index.read(item)[1][2, 0] for item in index.items] == [13, 13]


def test_equal_stems_of_a_list_get_names_of_their_own(tmp_path: Path) -> None:
    for city in ("ulm", "jena"):
        save(tmp_path / city / "0001.png", picture(4))
        save(tmp_path / city / "truth" / "0001.png", ids())
    (tmp_path / "classes.json").write_bytes(TWO.to_json())
    lines = [f"{city}/0001.png, {city}/truth/0001.png" for city in ("ulm", "jena")]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    names = [item.name for item in open_index(tmp_path, "train").items]
    assert names == ["ulm-0001", "jena-0001"]


@pytest.mark.parametrize(("name", "content"), [("train.txt", b"\xff\xfe\x00"), ("my.txt", b"a, b")])
def test_a_list_that_is_none_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HedgeError, match=name):
        open_index(tmp_path / name, "train")


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
