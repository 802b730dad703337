"""The window of --show; a screen is not always here, so that OpenCV's part is played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import config
from runtime.errors import HedgeError
from runtime.outputs.window import Window
from runtime.video import VideoConfig, main

Make = Callable[..., Path]


class Screen:
    """What OpenCV was asked to show, and the keys that somebody presses meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pictures: list[np.ndarray] = []
        self.waits: list[int] = []
        self.open = 0
        self.keys: Iterator[int] = iter(())
        patch.setattr(cv2, "namedWindow", lambda *_: self._count(1))
        patch.setattr(cv2, "resizeWindow", lambda *_: None)
        patch.setattr(cv2, "imshow", lambda _, picture: self.pictures.append(picture.copy()))
        patch.setattr(cv2, "waitKey", self._wait)
        patch.setattr(cv2, "getWindowProperty", lambda *_: float(self.open))
        patch.setattr(cv2, "destroyAllWindows", lambda: self._count(-1))
        patch.setattr(config, "require_window", lambda: None)

    def _count(self, more: int) -> None:
        self.open += more

    def _wait(self, milliseconds: int) -> int:
        self.waits.append(milliseconds)
        return next(self.keys, -1)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


@pytest.mark.parametrize(("keys", "frames"), [((), 6), ((-1, ord("q")), 2), ((ord("x"), 27), 2)])
def test_frames_are_shown_until_somebody_leaves(
    keys: tuple[int, ...], frames: int, screen: Screen, shared_bundle: Path, tmp_path: Path,
    make_clip: Make,
) -> None:  # fmt: skip
    screen.keys = iter(keys)
    clip, report = str(make_clip(tmp_path / "a.mp4", 6)), tmp_path / "r.json"
    video = tmp_path / "o.mp4"
    assert (
        main(VideoConfig(clip, shared_bundle, "onnxruntime", show=True, json=report, out=video))
        == 0
    )
    assert json.loads(report.read_text())["frames_written"] == frames == len(screen.pictures)
    assert screen.open == 0
    with_colors = screen.pictures[0].astype(int)
    assert np.ptp(with_colors[with_colors.shape[0] // 2], axis=0).max() > 60


def test_a_photo_stays_a_while_and_gets_no_file(
    screen: Screen, shared_bundle: Path, tmp_path: Path, make_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    photos = make_images(tmp_path / "photos", 2)
    monkeypatch.chdir(tmp_path)
    assert main(VideoConfig(str(photos), shared_bundle, "onnxruntime", show=True)) == 0
    assert len(screen.waits) == 2 and min(screen.waits) >= 1000
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_its_button_closes_it(screen: Screen) -> None:
    window = Window("a", photos=False)
    window.show(np.zeros((4, 4, 3), np.uint8))
    assert not window.closed
    screen.open = 0
    window.show(np.zeros((4, 4, 3), np.uint8))
    assert window.closed
    window.show(np.zeros((4, 4, 3), np.uint8))
    assert len(screen.pictures) == 2


def test_several_sources_have_no_window(shared_bundle: Path) -> None:
    with pytest.raises(HedgeError, match="--serve, --show and --reference take one source"):
        main(VideoConfig("a.mp4", shared_bundle, more=("b.mp4",), show=True))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a screen has no variable")
def test_without_a_screen_it_is_one_line() -> None:
    plain = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "runtime.video", "a.mp4", "--show"]
    done = subprocess.run(command, env=plain, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --show: ") and done.stderr.count("\n") == 1
    assert "--serve 8000" in done.stderr
