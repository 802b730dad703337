"""The checks of the streaming benchmarks find what they are there to find."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import endurance
from benchmarks.pipeline import drawn, engine_only, streamed
from runtime.engine import load_engine
from runtime.segment import Segmenter
from runtime.sources import open_source


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "openvino", 1, in_flight=2) as loaded:
        loaded.warm_up()
        yield loaded


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endurance.small_video(tmp_path_factory.mktemp("small") / "small.mp4", 40)


@pytest.mark.parametrize(("leaking", "grows"), [(False, False), (True, True)])
def test_a_leak_is_found_and_only_a_leak(
    leaking: bool, grows: bool, segmenter: Segmenter, video: Path
) -> None:
    done, growth = endurance._endless(segmenter, video, 400, leaking)
    assert done == 400
    assert (growth > endurance.GROWTH) == grows


def test_a_video_with_its_index_in_front_promises_its_frames(video: Path, tmp_path: Path) -> None:
    path = endurance.indexed(video, tmp_path / "indexed.mp4")
    with open_source(str(path)) as source:
        assert source.expected == len(list(source)) == 40
    path.write_bytes(path.read_bytes()[:-9000])
    with open_source(str(path)) as source:
        assert len(list(source)) < 40
        assert source.complaint()


def test_damaged_videos_are_counted_by_what_became_of_them(
    shared_bundle: Path, video: Path, tmp_path: Path
) -> None:
    videos = [video, endurance.indexed(video, tmp_path / "indexed.mp4")]
    check = endurance.damaged(shared_bundle, videos, tmp_path / "damaged.mp4", 12)
    assert check.passed, check.found


def test_mutations_differ_from_the_original_and_repeat() -> None:
    whole = bytes(1000)
    first = [endurance.mutated(whole, random.Random(seed)) for seed in range(20)]
    assert whole not in first
    assert first == [endurance.mutated(whole, random.Random(seed)) for seed in range(20)]


def test_the_pipeline_is_timed_on_the_frames_asked_for(
    segmenter: Segmenter, shared_bundle: Path, tmp_path: Path
) -> None:
    video = drawn(tmp_path / "street.mp4", 2)
    with load_engine(shared_bundle, "openvino", 1, in_flight=2) as engine:
        assert engine_only(engine, video, 2) > 0
    assert streamed(segmenter, video, 2, tmp_path / "overlay.mp4") > 0
    with open_source(str(tmp_path / "overlay.mp4")) as source:
        assert len(list(source)) == 2
