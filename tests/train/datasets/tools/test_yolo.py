"""The splits of YOLO's data.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.datasets.tools.scenes import photo
from train.datasets import survey


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
