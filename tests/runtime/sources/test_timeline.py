"""Recordings of live sources: one playable file at the right times, whatever the clock does."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.errors import OutputError
from runtime.outputs import video_file
from runtime.outputs.video_file import VideoSink
from runtime.sources.timeline import Timeline

NAN, INF = float("nan"), float("inf")
SUFFIXES = [".mp4", ".mov", ".mkv"]
HOURS = 3600.0


def recorded(path: Path, times: Sequence[float | None], fps: int = 25) -> list[float]:
    """The times, in seconds, of the frames of a live recording; frame i is as bright as it says."""
    with VideoSink(path, Fraction(fps), live=True) as sink:
        for number, time_s in enumerate(times):
            sink.write(np.full((16, 16, 3), 40 + number * 37 % 160, np.uint8), time_s)
    assert sink.files == [path]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    for number, frame in enumerate(frames):
        assert abs(frame.to_ndarray(format="bgr24").mean() - (40 + number * 37 % 160)) < 8
    return [float(frame.time) for frame in frames]


# What the clock of a camera says, and where its frames belong in the file.
CLOCKS: dict[str, tuple[list[float | None], list[float]]] = {
    "a header of 25 and 100 frames a second": (
        [i / 100 for i in range(30)], [i / 100 for i in range(30)],
    ),
    "frames that bunch": (
        [7, 7.040, 7.041, 7.042, 7.080, 7.120], [0, 0.040, 0.041, 0.042, 0.080, 0.120],
    ),
    "a pause": ([0, 0.04, 900, 900.04], [0, 0.04, 900, 900.04]),
    "a burst at one time": ([0, *[1.0] * 9, 1.04], [0, *[1.0] * 9, 1.04]),
    "a burst below the unit": ([0, *(1 + i * 1e-6 for i in range(9))], [0, *[1.0] * 9]),
    "frames that overtake": ([0, 0.050, 0.045, 0.1, 0.095], [0, 0.050, 0.050, 0.1, 0.1]),
    "a wrap": ([95443.6, 95443.64, 0.03, 0.07, 0.11], [0, 0.04, 0.08, 0.12, 0.16]),
    "a clock that is set back": ([50, 50.04, 20, 20.04, 20.2], [0, 0.04, 0.08, 0.12, 0.28]),
    "a clock that is set to today": ([0, 0.04, 1.8e9, 1.8e9 + 0.04], [0, 0.04, 0.08, 0.12]),
    "a clock that stands still": ([7.0] * 20, [0.0] * 20),
    "no times": ([None] * 10, [i / 25 for i in range(10)]),
    "no time at first": ([None, NAN, 5.0, 5.04], [0, 0.04, 0.08, 0.12]),
    "no time in between": ([3, 3.04, NAN, INF, -INF, 3.2], [0, 0.04, 0.08, 0.12, 0.16, 0.2]),
    "negative times": ([-9, -8.96, -8.9], [0, 0.04, 0.1]),
    "a night": ([0, 0.04, 9 * HOURS, 9 * HOURS + 0.1], [0, 0.04, 9 * HOURS, 9 * HOURS + 0.1]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("clock", CLOCKS)
def test_no_clock_ends_a_live_recording(clock: str, suffix: str, tmp_path: Path) -> None:
    reported, expected = CLOCKS[clock]
    times = recorded(tmp_path / f"a{suffix}", reported)
    assert times == pytest.approx(expected, abs=0.02)
    assert (np.diff(times) > 0).all()


def camera(seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """Reported and right times of 25 frames a second: jitter of ±60 %, bursts, pauses and wraps.

    Frame after frame in order: one that reports an earlier time than its forerunner, within the
    jitter, is shown with it; the frame after a wrap is shown 40 ms after the one before it.
    """
    rng = np.random.default_rng(seed)
    reported, right = [0.0], [0.0]
    sent, shift = 0.0, 0.0  # by an even clock; from the camera's clock to the right time
    while right[-1] < seconds:
        chance = rng.random()
        sent += 0.04 if chance > 0.05 else rng.uniform(0, 1e-3) if chance > 0.002 else 8
        said = sent + 0.04 * rng.uniform(-0.6, 0.6)
        if rng.random() < 0.004:
            said = reported[-1] - rng.uniform(1, 1e5)
            sent, shift = said, right[-1] + 0.04 - said
        reported.append(said)
        right.append(max(right[-1], said + shift))
    return reported, right


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_long_recording_is_one_file_at_the_right_times(suffix: str, tmp_path: Path) -> None:
    reported, right = camera(60, seed=4)
    times = recorded(tmp_path / f"a{suffix}", reported)
    assert len(times) == len(right) > 1000
    assert np.abs(np.subtract(times, right)).max() < 0.02
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(30000, 1001), Fraction(5)])
def test_unknown_times_do_not_drift(fps: Fraction) -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / fps, Fraction(3600))
    places = [timeline.place(None) for _ in range(10_000)]
    assert places[-1] == round(9999 / fps * 1000)


def test_a_refusal_of_the_muxer_is_not_the_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_file, "Timeline", lambda *_: Stuck())
    with (
        pytest.raises(OutputError, match=r"a\.mp4: FFmpeg refuses.*Invalid argument") as caught,
        VideoSink(tmp_path / "a.mp4", Fraction(25), live=True) as sink,
    ):
        for _ in range(3):
            sink.write(np.zeros((16, 16, 3), np.uint8))
    assert "cannot be written" not in str(caught.value)


class Stuck:
    """A timeline that stands still, which no muxer takes."""

    def place(self, time_s: float | None) -> int:
        return 7
