"""The splits and the names of YOLO's data.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import HedgeError
from tests.train.datasets.tools.scenes import photo
from train.datasets import open_index, survey


def days(root: Path, lines: str) -> list[int]:
    """How many pictures of three days are for training and validation by these lines."""
    for seed, day in enumerate(("mon", "tue", "wed")):
        photo(root / f"images/{day}/{seed}.jpg", seed)
        (root / f"labels/{day}").mkdir(parents=True)
        (root / f"labels/{day}/{seed}.txt").write_text("0 0 0 1 0 1 1")
    (root / "data.yaml").write_text(f"{lines}\nnames: [road]\n")
    return [len(survey(root, split).index) for split in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ("path: /their/disk\ntrain: [images/mon, images/wed]\nval: images/tue", [2, 1, 0]),
        ("train: ../images/mon/\nval: 'images\\tue'\ntest: /x/data/images/wed", [1, 1, 1]),
        ("train: images/mon\nval: images/mon\ntest: ../sun/images", [2, 1, 0]),
    ],
)
def test_folders_that_data_yaml_names_are_splits(
    lines: str, counts: list[int], tmp_path: Path
) -> None:
    assert days(tmp_path / "export", lines) == counts


def test_a_folder_in_a_named_one_may_say_another_split(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        photo(tmp_path / f"data/images/{split}/{seed}.jpg", seed)
        (tmp_path / f"data/labels/{split}").mkdir(parents=True)
        (tmp_path / f"data/labels/{split}/{seed}.txt").write_text("0 0 0 1 0 1 1")
    (tmp_path / "data/data.yaml").write_text("train: images\nval: images\nnames: [road]\n")
    assert [len(survey(tmp_path / "data", split).index) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("[0, 1]", ("0", "1")),
        ("[yes, no]", ("True", "False")),
        ("{'1': kerb, '0': road}", ("road", "kerb")),
        ("{0: 1.5, 1: null}", ("1.5", "None")),
    ],
)
def test_names_are_what_ultralytics_makes_of_them(
    names: str, wanted: tuple[str, ...], tmp_path: Path
) -> None:
    days(tmp_path / "data", "train: images/mon")
    (tmp_path / "data/data.yaml").write_text(f"names: {names}\n")
    assert open_index(tmp_path / "data", "train").classes.names == ("background", *wanted)


def test_poses_are_refused(tmp_path: Path) -> None:
    """A box and four joints are sixteen numbers, which were taken for an outline."""
    with pytest.raises(HedgeError, match=r"data\.yaml: holds poses \(kpt_shape"):
        days(tmp_path / "data", "kpt_shape: [4, 3]\nflip_idx: [0, 1, 2, 3]")


def test_names_by_words_are_refused(tmp_path: Path) -> None:
    days(tmp_path / "data", "train: images/mon")
    (tmp_path / "data/data.yaml").write_text("names: {road: 0}\n")
    with pytest.raises(HedgeError, match=r"data.yaml: 'names' needs numbers: .*'road'"):
        survey(tmp_path / "data", "train")
