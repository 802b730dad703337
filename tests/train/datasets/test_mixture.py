"""Several data sets in one training: classes by name, images as often as asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from train.__main__ import main
from train.augment import BatchSampler
from train.balance import label_counts, repeat_factors
from train.config import TrainConfig
from train.datasets import open_index
from train.datasets.mixture import Portion, mixed
from train.loop.distributed import World


@pytest.fixture
def other(blocks: Path, tmp_path: Path) -> Path:
    """Two images of other sizes; the classes of ``blocks`` in another order, and one of its own."""
    names = open_index(blocks, "train").classes.names
    classes = ClassSet((names[2], "comet", names[0]), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    root = tmp_path / "other"
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    for number in range(2):
        ids = np.full((40, 30 + number), 255, np.uint8)
        ids[:30] = np.arange(3).repeat(10)[:, None]
        Image.fromarray(np.dstack([ids] * 3)).save(root / f"images/train/{number}.png")
        Image.fromarray(ids).save(root / f"labels/train/{number}.png")
    (root / "classes.json").write_bytes(classes.to_json())
    return root


def test_classes_are_found_by_name_and_others_ignored(
    blocks: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = open_index(blocks, "train"), open_index(other, "train")
    index = mixed(first, [(second, 3.0)])
    assert index.classes == first.classes and len(index) == len(first) + 2
    assert "no such class: comet" in " ".join(capsys.readouterr().err.split())
    for item in first.items:
        assert (index.read(item)[1] == first.read(item)[1]).all()
    label = index.read(index.items[-1])[1]
    assert [set(label[row]) for row in (0, 10, 20, 30)] == [{2}, {255}, {0}, {255}]
    assert index.weights is not None
    assert index.weights.tolist() == [1.0] * len(first) + [3.0] * 2


def test_images_come_as_often_as_asked(blocks: Path, other: Path, tmp_path: Path) -> None:
    index = mixed(open_index(blocks, "train"), [(open_index(other, "train"), 4.0)], quiet=True)
    counts = label_counts(index, World(0, 1, torch.device("cpu")), tmp_path)
    repeats = repeat_factors(counts, 0, index.weights)
    sampler = BatchSampler(len(index), 2, seed=0, repeats=repeats)
    drawn = np.zeros(len(index))
    for sampler.epoch in range(300):
        drawn += np.bincount([at for batch in sampler for at, _ in batch], minlength=len(index))
    assert drawn[-2:].mean() / drawn[:-2].mean() == pytest.approx(4, rel=0.1)


def test_data_sets_without_a_common_class_are_refused(blocks: Path, other: Path) -> None:
    foreign = ClassSet(("lion", "comet", "moon"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    second = replace(open_index(other, "train"), classes=foreign)
    with pytest.raises(HedgeError, match=r"none of its classes \(lion, comet, moon"):
        mixed(open_index(blocks, "train"), [(second, 1.0)])


def test_a_portion_is_a_path_with_or_without_a_weight(tmp_path: Path) -> None:
    assert Portion.parse("a/b") == Portion(Path("a/b"), 1.0)
    assert Portion.parse("a/b:2.5") == Portion(Path("a/b"), 2.5)
    assert Portion.parse("C:/data") == Portion(Path("C:/data"), 1.0)
    for text in ("a:0", "a:-1", "a:inf", "a:nan"):
        with pytest.raises(HedgeError, match=r"--also .* a weight is a positive number"):
            Portion.parse(text)


def test_a_run_trains_on_both(
    tiny_config: Callable[..., TrainConfig], other: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    main(tiny_config(tmp_path / "runs", epochs=1, also=(f"{other}:2",), workers=2))
    assert "10 + 3 images of" in " ".join(capsys.readouterr().err.split())
