"""Accuracy at the deadline: which mask is there when a frame's time is up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.accuracy.streaming import Clock
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.segment import Prediction
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main

PERIOD = 100.0  # ms between frames


def play(clock: Clock, times_ms: list[float]) -> None:
    """Frame i is all of class i % 3, and so is the answer, which takes ``times_ms[i]``."""
    for index, milliseconds in enumerate(times_ms):
        labels = np.full((2, 2), index % 3, np.uint8)
        frame = Frame(index, 0.0, np.zeros((2, 2, 3), np.uint8), str(index))
        clock.update(Prediction(frame, labels, milliseconds), labels)


@pytest.fixture
def clock(classes: ClassSet) -> Clock:
    return Clock(classes, fps=1e3 / PERIOD, deadline_ms=PERIOD)


def test_an_engine_in_time_is_as_good_as_offline(clock: Clock) -> None:
    play(clock, [99.0] * 9)
    assert clock.matrix.miou() == 1
    assert (clock.late, clock.dropped, clock.blank) == (0, 0, 0)


def test_a_late_mask_is_that_of_the_frame_before(clock: Clock) -> None:
    """150 ms each: frame 0 ends at 150, 1 waits until then and ends at 300, when 2 is old.

    At 100 nothing is there, at 200 mask 0, at 300 mask 1.
    """
    play(clock, [150.0] * 3)
    assert (clock.late, clock.dropped, clock.blank) == (3, 1, 1)
    confused = clock.matrix.counts
    assert confused[1, 0] == 4 and confused[2, 1] == 4 and np.trace(confused) == 0


def test_the_newest_frame_is_taken_and_older_ones_are_dropped(clock: Clock) -> None:
    """Frame 0 takes until 350: frames 1 and 2 are old by then, 3 arrived at 300 and is taken."""
    play(clock, [350.0, 10.0, 10.0, 10.0, 10.0])
    assert (clock.dropped, clock.late, clock.blank) == (2, 3, 3)
    assert np.trace(clock.matrix.counts) == 8, "frames 3 and 4 in time"


def test_a_long_deadline_waits_for_the_frames_own_mask(classes: ClassSet) -> None:
    clock = Clock(classes, fps=1e3 / PERIOD, deadline_ms=260.0)
    play(clock, [150.0, 90.0, 90.0])
    assert (clock.late, clock.dropped) == (0, 0) and clock.matrix.miou() == 1


def test_frames_without_a_label_pass_time_but_are_not_scored(clock: Clock) -> None:
    frame = Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8), "0")
    clock.update(Prediction(frame, np.zeros((2, 2), np.uint8), 10.0), None)
    assert clock.report().miou is None and clock.blank == 0


def test_the_command_reports_both_accuracies(
    bundle: Path, tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    images = make_images(tmp_path / "images", 4)
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in images.iterdir():
        brightest = np.asarray(Image.open(path))[..., ::-1].argmax(2).astype(np.uint8)
        Image.fromarray(brightest).save(labels / path.name)
    config = VideoConfig(
        str(images), bundle, "onnxruntime", labels=labels, fps=0.01, json=tmp_path / "r.json"
    )
    assert main(config) == 0
    report = json.loads((tmp_path / "r.json").read_bytes())
    live = report["deadline"]
    assert live["deadline_ms"] == 1e5 and live["frames_late"] == 0
    assert live["miou"] == report["miou"] == 1


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Labels of the first frames of any video of 24×32."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.zeros((24, 32), np.uint8)).save(folder / f"{index:06d}.png")
    return folder


def test_a_video_has_a_rate_of_its_own(
    shared_bundle: Path, truth: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip, report = make_clip(tmp_path / "a.mp4", 3, fps=5), tmp_path / "r.json"
    config = VideoConfig(
        str(clip), shared_bundle, "onnxruntime", labels=truth, deadline=1e5, json=report
    )
    assert main(config) == 0
    live = json.loads(report.read_bytes())["deadline"]
    assert (live["fps"], live["deadline_ms"], live["frames_late"]) == (5, 1e5, 0)


def test_images_have_none(
    shared_bundle: Path, truth: Path, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_images(tmp_path / "images", 3, name="{:06d}")
    config = VideoConfig(str(folder), shared_bundle, "onnxruntime", labels=truth, deadline=50.0)
    with pytest.raises(HedgeError, match="--fps"):
        main(config)


@pytest.mark.parametrize(
    ("change", "fix"),
    [({"fps": 30.0}, "--labels"), ({"deadline": 9.0}, "--labels"), ({"fps": 0.0}, "above 0")],
)
def test_senseless_settings_are_named(change: dict, fix: str) -> None:
    with pytest.raises(HedgeError, match=fix):
        VideoConfig("x.mp4", **change).validate()
