"""Two engines on one video: where they differ, and how much each flickers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from runtime.accuracy import drift as drift_module
from runtime.accuracy.drift import Apart, Drift
from runtime.accuracy.flicker import Flicker
from runtime.errors import HedgeError
from runtime.outputs.overlay import Overlay
from runtime.segment import Prediction, Segmenter
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main

Make = Callable[..., Path]


def texture(shift: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a smooth random pattern, ``shift`` pixels further to the right."""
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(256, size=(15, 50), dtype=np.uint8), (400, size[0]))
    return np.repeat(wide[:, 100 - shift : 100 - shift + size[1], None], 3, axis=2)


def test_labels_that_move_with_the_picture_do_not_flicker() -> None:
    flicker = Flicker()
    flicker.follow(texture(0))
    flicker.follow(texture(4))
    before, after = (np.zeros((120, 160), np.uint8) for _ in range(2))
    before[:, 60:100], after[:, 64:104] = 1, 1
    moved, stayed = flicker.share(before, after), flicker.share(before, before)
    assert moved is not None
    assert stayed is not None
    assert moved < 0.005
    assert stayed == pytest.approx(8 / 156, abs=0.01)  # two edges, four pixels each


def test_noise_flickers_by_as_much_as_it_changes() -> None:
    flicker = Flicker()
    flicker.follow(texture(0))
    flicker.follow(texture(0))
    rng = np.random.default_rng(1)
    labels = rng.integers(4, size=(120, 160), dtype=np.uint8)
    assert flicker.share(labels, labels) == 0
    other = rng.integers(4, size=(120, 160), dtype=np.uint8)
    assert flicker.share(labels, other) == pytest.approx(0.75, abs=0.03)


def test_there_is_no_flow_before_the_second_frame_or_over_a_change_of_size() -> None:
    flicker = Flicker()
    labels = np.zeros((120, 160), np.uint8)
    flicker.follow(texture(0))
    assert flicker.share(labels, labels) is None
    flicker.follow(texture(0, (96, 160)))
    assert flicker.share(labels, labels) is None


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "onnxruntime", 1) as loaded:
        yield loaded


def test_the_worst_second_is_named_and_shown(segmenter: Segmenter, tmp_path: Path) -> None:
    drift = Drift(segmenter, Overlay(segmenter.manifest.classes))
    for index in range(40):  # ten frames a second; in second 2 half the picture differs
        image = np.zeros((24, 32, 3), np.uint8)
        image[..., 1] = 255
        labels = segmenter(image)
        if 20 <= index < 30:
            labels[:, :16] = 0
        drift.update(Prediction(Frame(index, index / 10, image, str(index)), labels, 1.0))
    report = drift.report()
    assert report.agreement == pytest.approx(0.875)
    assert report.worst[0] == Apart(2, pytest.approx(0.5))
    paths = drift.save(tmp_path / "worst")
    assert paths[0].name == "second_00002.png"
    assert cv2.imread(str(paths[0])).shape == (24, 96, 3)


def test_a_camera_of_days_takes_no_more_memory(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_module, "_LATEST", 100)
    drift = Drift(segmenter, Overlay(segmenter.manifest.classes))
    image = np.zeros((24, 32, 3), np.uint8)
    labels = segmenter(image)
    tracemalloc.start()
    own, held = tracemalloc.Filter(True, drift_module.__file__), []
    for index in range(1501):
        drift.update(Prediction(Frame(index, index / 10, image, str(index)), labels, 1.0))
        if index in (500, 1500):
            taken = tracemalloc.take_snapshot().filter_traces([own])
            held.append(sum(trace.size for trace in taken.traces))
    tracemalloc.stop()
    assert held[1] - held[0] < 1000 * 24, "less than a number a frame"
    assert drift.report().agreement == drift.report().agreement_p5 == 1


def test_the_command_compares_two_bundles(
    shared_bundle: Path, make_clip: Make, tmp_path: Path
) -> None:
    config = VideoConfig(
        source=str(make_clip(tmp_path / "clip.mp4", 6)), bundle=shared_bundle,
        reference=shared_bundle, backend="onnxruntime", json=tmp_path / "report.json",
        metrics=tmp_path / "rows.jsonl", worst=tmp_path / "worst",
    )  # fmt: skip
    assert main(config) == 0
    drift = msgspec.json.decode((tmp_path / "report.json").read_bytes())["drift"]
    assert drift["agreement"] == 1
    assert drift["flicker"] == drift["flicker_reference"]
    rows = [msgspec.json.decode(line) for line in (tmp_path / "rows.jsonl").open()]
    assert [row["agreement"] for row in rows] == [1] * 6
    assert list((tmp_path / "worst").glob("second_*.png"))


def test_worst_needs_a_reference(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="--reference"):
        main(VideoConfig(source="x.mp4", worst=tmp_path))
