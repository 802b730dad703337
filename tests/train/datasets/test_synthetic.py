"""Generated streets: the same every time, labelled exactly, and filmed as one coherent drive."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime import files
from runtime.accuracy.label_files import read_ids
from runtime.bundle import class_list
from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError, OutputError
from train.datasets import default_data, open_index
from train.datasets.synthetic import generate as command
from train.datasets.synthetic.camera import Camera, Canvas, Road, part
from train.datasets.synthetic.generate import SyntheticConfig, drive, film, generate, still
from train.datasets.synthetic.street import build
from train.datasets.synthetic.things import (
    CAR,
    CLASSES,
    POLE,
    ROAD,
    SIDEWALK,
    SKY,
    car,
    lamp,
)

SMALL = (48, 96)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SyntheticConfig:
    """A small data set that is there already."""
    made = SyntheticConfig(tmp_path_factory.mktemp("data") / "streets", 3, 2, SMALL)
    generate(made)
    return made


def tree(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): files.sha256(path) for path in paths}


def test_it_is_a_data_set_of_the_folder_layout(config: SyntheticConfig) -> None:
    for split, count in (("train", 3), ("val", 2)):
        index = open_index(config.out, split)
        assert (index.layout, len(index), index.classes) == ("folder", count, CLASSES)
        for item in index.items:
            image, label = index.read(item)
            assert image.shape == (*SMALL, 3)
            assert label.max() < len(CLASSES)


def test_names_and_colors_are_those_of_cityscapes() -> None:
    pairs = dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
    assert all(pairs[n] == c for n, c in zip(CLASSES.names, CLASSES.colors, strict=True))


def test_the_same_arguments_give_the_same_bytes(config: SyntheticConfig, tmp_path: Path) -> None:
    generate(replace(config, out=tmp_path / "again"))
    assert tree(tmp_path / "again") == tree(config.out)


def test_another_seed_gives_other_streets(config: SyntheticConfig, tmp_path: Path) -> None:
    generate(replace(config, out=tmp_path / "other", seed=1))
    own, other = tree(config.out), tree(tmp_path / "other")
    assert own.keys() == other.keys()
    assert [name for name in own if own[name] == other[name]] == ["classes.json"]


def test_no_street_is_seen_twice(config: SyntheticConfig) -> None:
    hashes = list(tree(config.out).values())
    assert len(set(hashes)) == len(hashes)


def test_every_class_occurs() -> None:
    seen: set[int] = set()
    for seed in range(6):
        seen |= set(np.unique(still(np.random.default_rng(seed), (96, 192))[1]).tolist())
    assert seen == set(range(len(CLASSES)))


def test_the_world_is_the_right_way_up() -> None:
    for seed in range(4):
        _, labels = still(np.random.default_rng(seed), SMALL)
        lower = labels[3 * SMALL[0] // 4 :]
        assert SKY not in lower
        assert (lower == ROAD).mean() > 0.2
        assert not np.isin(labels[: SMALL[0] // 4], (ROAD, SIDEWALK)).any()


WHITE = np.full(3, 250.0)


def test_a_shape_is_labelled_exactly_where_it_is_drawn() -> None:
    camera = Camera(Road(4.0, 50.0, 1.0), 0.0, 1.6, (192, 384), 326, 84)
    shapes = {
        "polygon": part([(9, -1, 0.3), (9, -1, 1.4), (9, 2.2, 1.4), (12, 2.4, 0.1)], WHITE),
        "discs": part([[(15, 3, 2)], [(15, 2, 2)]], WHITE, (0.8, 0.4)),
        "post": part([(90, 4, 0), (90, 4, 6)], WHITE, 0.05),  # far: widened to a final pixel
    }
    for name, shape in shapes.items():
        canvas = Canvas(camera, np.zeros(3), 1e9)
        canvas.draw([shape], CAR)
        np.testing.assert_array_equal(canvas.image[..., 0] > 0, canvas.labels == CAR)
        assert 20 < (canvas.labels == CAR).sum() < canvas.labels.size / 2, name
        assert (canvas.result()[1] == CAR).any(), name


def test_a_parked_car_hides_a_lamp_beside_its_far_end() -> None:
    street = build(np.random.default_rng(0), length=10, weather=0)
    parked = car(np.random.default_rng(0), 6.0, 4.15, 0.0, 1)
    camera = Camera(street.road, 0.0, 1.65, (192, 384), 326, 84)
    behind, alone = (
        replace(street, things=things).render(camera)[1]
        for things in ((parked, lamp(9.0, 5.5, False)), (parked,))
    )
    assert (behind == POLE).any() and (behind[alone == CAR] == CAR).all()


def test_a_face_that_reaches_behind_the_camera_is_cut_there() -> None:
    camera = Camera(Road(0.0, 50.0, 0.0), 0.0, 0.0, (96, 192), 163, 42)
    canvas = Canvas(camera, np.zeros(3), 1e9)
    wall = part([(-20, 3, 0), (-20, 3, 9), (40, 3, 9), (40, 3, 0)], WHITE)
    canvas.draw([wall], CAR)
    assert (canvas.labels[:, :90] != CAR).all()
    assert (canvas.labels[:80, -1] == CAR).all()
    canvas.draw([wall], SIDEWALK, s=-60)
    assert canvas.image.max() == 250 and SIDEWALK not in canvas.labels


def test_a_drive_moves_smoothly_through_one_street() -> None:
    labels = [label for _, label in drive(8, SMALL, seed=0)]
    near = [np.mean(a != b) for a, b in pairwise(labels)]
    assert 0 < max(near) < 0.12
    assert np.mean(labels[0] != labels[-1]) > max(near)


def test_a_film_has_a_label_a_frame(
    tmp_path: Path, decode: Callable[[Path], list[np.ndarray]]
) -> None:
    video = tmp_path / "drive.mp4"
    film(video, 4, SMALL, seed=3)
    labels = sorted((tmp_path / "drive_labels").glob("*.png"))
    assert [path.name for path in labels] == [f"{i:06d}.png" for i in range(4)]
    assert class_list.load(tmp_path / "drive_labels" / "classes.json") == CLASSES
    frames = decode(video)
    assert len(frames) == 4
    for frame, path, (image, truth) in zip(frames, labels, drive(4, SMALL, 3), strict=True):
        np.testing.assert_array_equal(read_ids(path), truth)
        assert np.abs(frame[..., ::-1].astype(int) - image).mean() < 8


def test_what_exists_is_not_overwritten(config: SyntheticConfig, tmp_path: Path) -> None:
    before = tree(config.out)
    with pytest.raises(OutputError, match="streets"):
        generate(config)
    (tmp_path / "d_labels").mkdir()
    with pytest.raises(OutputError, match="d_labels"):
        generate(replace(config, out=tmp_path / "new", video=tmp_path / "d.mp4"))
    assert tree(config.out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["d_labels"]


@pytest.mark.parametrize("change", [{"train": 0}, {"size": (33, 64)}, {"size": (8, 64)}])
def test_senseless_arguments_are_named(
    change: dict[str, int], config: SyntheticConfig, tmp_path: Path
) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(change))}"):
        generate(replace(config, out=tmp_path / "x", **change))
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(
    config: SyntheticConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(command, "_save", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(replace(config, out=tmp_path / "x"))
    assert not list(tmp_path.iterdir())


def test_the_default_data_set_is_generated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    monkeypatch.setattr(command.SyntheticConfig, "__init__", _small_init)
    assert len(open_index(default_data(), "val")) == 1
    assert "data/synthetic" in capsys.readouterr().err
    default_data()
    assert not capsys.readouterr().err


def _small_init(self: SyntheticConfig, out: Path) -> None:
    values = {"out": out, "train": 1, "val": 1, "size": SMALL, "seed": 0}
    for name, value in (values | {"video": None, "video_frames": 1}).items():
        object.__setattr__(self, name, value)


def test_the_first_of_many_images_is_drawn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.datasets.synthetic.generate._save", stop)
    config = SyntheticConfig(tmp_path / "data", train=1_000_000, size=(32, 32))
    tracemalloc.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            generate(config, quiet=True)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
