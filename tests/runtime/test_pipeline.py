"""The pipeline: nothing dropped, nothing swallowed, no thread left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest

from runtime.pipeline import Channel, stream
from runtime.segment import Segmenter
from runtime.sources.base import Frame

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "onnxruntime", threads=1) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not {"read", "infer"} & {thread.name for thread in threading.enumerate()}


class Camera:
    """Frames whose class is their index modulo 3; may fail, and counts what was taken."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.count, self.fails_at = count, fails_at
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            for index in range(self.count):
                if index == self.fails_at:
                    raise OSError("the cable is out")
                image = np.zeros((24, 32, 3), np.uint8)
                image[..., index % 3] = 255
                self.taken += 1
                yield Frame(index, index / 10, image, str(index))
        finally:
            self.closed = True


def test_every_frame_comes_out_once_in_order(segmenter: Segmenter) -> None:
    predictions = list(stream(Camera(50), segmenter))
    assert [p.frame.index for p in predictions] == list(range(50))
    assert all((p.labels == p.frame.index % 3).all() for p in predictions)
    assert all(p.infer_ms > 0 and p.read_ms > 0 for p in predictions)


def test_a_source_and_a_bundle_may_be_named(bundle: Path, make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", 5)
    assert [p.frame.index for p in stream(str(clip), bundle)] == [0, 1, 2, 3, 4]
    with closing(stream(clip, str(bundle))) as predictions:
        assert next(predictions).labels.shape == (24, 32)


def test_a_camera_may_be_a_number(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = {"0": nullcontext(Camera(3))}
    monkeypatch.setattr("runtime.pipeline.open_source", cameras.__getitem__)
    assert [one.frame.index for one in stream(0, segmenter)] == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 4, 10])
def test_a_batch_that_is_not_full_is_not_lost(
    count: int, make_bundle: Make, tmp_path: Path
) -> None:
    with Segmenter(make_bundle(tmp_path / "four", batch=4), "onnxruntime") as four:
        predictions = list(stream(Camera(count), four))
    assert [int(p.labels[0, 0]) for p in predictions] == [i % 3 for i in range(count)]


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_failing_source_is_raised_after_what_came_before(at: int, segmenter: Segmenter) -> None:
    seen = []
    with pytest.raises(OSError, match="cable"):
        for prediction in stream(Camera(20, fails_at=at), segmenter):
            seen.append(prediction.frame.index)
    assert seen == list(range(at))


def test_a_failing_engine_is_raised(shared_bundle: Path) -> None:
    broken = Segmenter(shared_bundle, "onnxruntime")
    broken.close()
    camera = Camera(20)
    with pytest.raises(ValueError, match="is closed"):
        list(stream(camera, broken))
    assert camera.closed


def test_a_failing_caller_stops_the_threads(segmenter: Segmenter) -> None:
    camera = Camera(10**9)
    with pytest.raises(OSError, match="disk"), closing(stream(camera, segmenter)) as predictions:
        for prediction in predictions:
            if prediction.frame.index == 3:
                raise OSError("disk full")
    assert camera.closed


def test_closing_early_stops_reading(segmenter: Segmenter) -> None:
    camera = Camera(10**9)
    predictions = stream(camera, segmenter)
    assert next(predictions).frame.index == 0
    predictions.close()
    assert camera.closed


def test_a_slow_caller_does_not_fill_the_memory(segmenter: Segmenter) -> None:
    camera = Camera(10**9)
    with closing(stream(camera, segmenter)) as predictions:
        next(predictions)
        time.sleep(0.2)
        assert camera.taken <= 1 + 2 * 2 + 2, "two queues of two, and one in each thread's hand"


def test_stages_overlap(segmenter: Segmenter) -> None:
    """The caller stops at the first frame: the source goes on until the queues are full."""
    ahead = threading.Event()

    def source() -> Iterator[Frame]:
        for frame in Camera(10):
            if frame.index == 4:
                ahead.set()
            yield frame

    with closing(stream(source(), segmenter)) as predictions:
        assert next(predictions).frame.index == 0
        assert ahead.wait(20)


def test_a_channel_refuses_after_close_and_delivers_before_its_end() -> None:
    channel: Channel[int] = Channel(3)
    assert channel.put(1)
    assert channel.put(2)
    channel.end(ValueError("late"))
    items = iter(channel)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="late"):
        next(items)
    channel.close()
    assert not channel.put(3)


@pytest.mark.parametrize("leave", ["pass", "raise SystemExit(9)", "1 / 0"])
def test_a_program_that_leaves_a_stream_unfinished_ends(
    leave: str, shared_bundle: Path, make_clip: Make, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    code = f"""
from runtime import stream
predictions = stream({str(clip)!r}, {str(shared_bundle)!r})
next(predictions)
{leave}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == {"pass": 0, "raise SystemExit(9)": 9, "1 / 0": 1}[leave]
