"""Lists of images, labels and edges: what they give, and what is wrong in them by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from tests.train.datasets.layouts import TWO, ids, make_folder, make_list, picture, save
from train.datasets import open_index
from train.datasets.audit import audit


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


def test_a_list_of_windows_names_the_same_files(tmp_path: Path) -> None:
    path = make_list(tmp_path) / "train.txt"
    wanted = open_index(tmp_path, "train").items
    path.write_text(path.read_text().replace("/", "\\"))
    assert open_index(tmp_path, "train").items == wanted


@pytest.mark.parametrize("between", [" ", "\t", "   "])
def test_pairs_parted_by_blanks_are_read_wherever_their_folder_lay(
    between: str, tmp_path: Path
) -> None:
    path = make_list(tmp_path / "my set") / "train.txt"
    wanted = [(item.image, item.label) for item in open_index(path.parent, "train").items]
    lines = (f"/data/set/pictures/{n}.png{between}/data/set/truth/{n}.png" for n in "ab")
    path.write_text("\n".join(lines))
    assert [(i.image, i.label) for i in open_index(path.parent, "train").items] == wanted
    path.write_text(path.read_text().replace("/data/set/", ""))
    assert [(i.image, i.label) for i in open_index(path.parent, "train").items] == wanted


def test_labels_txt_names_the_classes_of_a_list(tmp_path: Path) -> None:
    (make_list(tmp_path) / "classes.json").unlink()
    (tmp_path / "labels.txt").write_text("__ignore__\nsoil\ncrop\n\n")
    assert open_index(tmp_path, "train").classes.names == ("soil", "crop")
    (tmp_path / "labels.txt").write_text("soil\nsoil\n")
    with pytest.raises(HedgeError, match=r"labels\.txt: .*share a name"):
        open_index(tmp_path, "train")


def test_the_numbers_of_segnet_are_not_taken_for_those_of_cityscapes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(tmp_path / split / f"{split}.png", picture(4))
        save(tmp_path / f"{split}annot" / f"{split}.png", ids(3))
        line = f"/SegNet/CamVid/{split}/{split}.png /SegNet/CamVid/{split}annot/{split}.png"
        (tmp_path / f"{split}.txt").write_text(line)
    with pytest.raises(HedgeError, match=r'classes\.json: .*"sky".*"bicyclist"\], "ignore": 11'):
        open_index(tmp_path, "train")


def test_labels_that_are_taken_for_cityscapes_are_told(tmp_path: Path) -> None:
    (make_list(tmp_path) / "classes.json").unlink()
    assert any("read as Cityscapes'" in line for line in audit(tmp_path).warnings)
    make_list(tmp_path)
    assert not any("read as Cityscapes'" in line for line in audit(tmp_path).warnings)


@pytest.mark.parametrize(("name", "content"), [("train.txt", b"\xff\xfe\x00"), ("my.txt", b"a, b")])
def test_a_list_that_is_none_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HedgeError, match=name):
        open_index(tmp_path / name, "train")
