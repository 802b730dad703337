"""Streams that share an engine: gathered in batches, each answered its own, in bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.backends.base import Engine, OneAtATime
from runtime.backends.registry import installed_backends, load_engine
from runtime.backends.shared import PATIENCE, Gathered, Gathering, SharedEngine, patience, shared
from runtime.segment import Segmenter
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main
from tests.equipment.bundles import make_bundle
from tests.equipment.videos import make_clip, noise

SIZE = (48, 64)
LONG = 30.0  # seconds that no test waits for


class Watched(OneAtATime):
    """A real engine, with what it was given; ``slow``: seconds that a batch takes longer."""

    def __init__(self, engine: Engine) -> None:
        self.manifest, self.backend, self.engine = engine.manifest, engine.backend, engine
        self.batches: list[np.ndarray] = []
        self.slow, self.broken = 0.0, False

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch.copy())
        time.sleep(self.slow)
        if self.broken:
            raise RuntimeError("the device is gone")
        labels = self.engine.infer(batch)
        self.scores = self.engine.scores
        return labels

    def keep_scores(self) -> bool:
        return self.engine.keep_scores()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of four frames at once."""
    return make_bundle(tmp_path_factory.mktemp("four") / "b", SIZE, batch=4, scores=True)


@contextmanager
def watched(bundle: Path, backend: str = "onnxruntime") -> Iterator[Watched]:
    with load_engine(bundle, backend, 1) as engine:
        yield Watched(engine)


def parts(engine: Engine, streams: int, seconds: float) -> list[Gathered]:
    gathering = Gathering(engine, threading.Lock(), streams, seconds)
    return [Gathered(gathering) for _ in range(streams)]


@pytest.mark.parametrize("backend", [name for name in installed_backends() if "rt_" not in name])
@pytest.mark.parametrize("streams", [3, 7])
def test_each_stream_gets_its_own_labels_in_order(four: Path, backend: str, streams: int) -> None:
    frames = [[noise(100 * stream + i) for i in range(8)] for stream in range(streams)]
    with watched(four, backend) as engine:
        whole = Segmenter.of(engine)
        expected = [[whole(frame) for frame in own] for own in frames]
        engine.batches.clear()
        engine.slow = 0.01
        own = [Segmenter.of(part) for part in parts(engine, streams, 0.1)]
        assert {part.batch for part in own} == {1}
        with ThreadPoolExecutor(streams) as pool:
            answers = list(
                pool.map(lambda k: [own[k](frame) for frame in frames[k]], range(streams))
            )
        assert np.array_equal(answers, expected)
        assert len(engine.batches) <= 0.6 * 8 * streams  # one by one they are 8 × streams


def test_scores_are_the_streams_own(four: Path) -> None:
    frames = [noise(number) for number in range(3)]
    with watched(four) as engine:
        alone = Segmenter.of(engine, confidence=True)
        own = [Segmenter.of(part, confidence=True) for part in parts(engine, 3, 0.2)]
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda k: _sure(own[k], frames[k]), range(3)))
        for answer, frame in zip(answers, frames, strict=True):
            assert np.allclose(answer, _sure(alone, frame))


def _sure(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    confidence = segmenter.predict(Frame(0, 0.0, image, "0")).confidence
    assert confidence is not None
    return confidence


def test_waiting_is_bounded_and_a_silent_stream_holds_nobody(four: Path) -> None:
    with watched(four) as engine:
        talking, _silent = parts(engine, 2, 0.15)
        for number in range(3):
            start = time.monotonic()
            assert talking.infer(noise(number)[None]).shape == (1, *SIZE)
            assert 0.15 <= time.monotonic() - start < 5


def test_a_full_batch_and_an_ended_stream_are_not_waited_for(four: Path) -> None:
    with watched(four) as engine:
        members = parts(engine, 5, LONG)
        start = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda k: members[k].infer(noise(k)[None]), range(4)))
        assert len(engine.batches) == 1
        for member in members[1:]:
            member.close()
            member.close()
        members[0].infer(noise(9)[None])
        assert time.monotonic() - start < LONG / 2
        assert all(np.array_equal(slot, noise(9)) for slot in engine.batches[-1])


def test_a_stream_that_ends_wakes_those_who_wait_for_it(four: Path) -> None:
    with watched(four) as engine:
        waiting, ending = parts(engine, 2, LONG)
        start = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(waiting.infer, noise(0)[None])
            time.sleep(0.05)
            assert not answer.done()
            ending.close()
            answer.result(LONG / 2)
        assert time.monotonic() - start < LONG / 2


def test_an_error_reaches_all_of_a_batch_and_no_later_one(four: Path) -> None:
    with watched(four) as engine:
        members = parts(engine, 3, 1.0)
        engine.broken = True
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(member.infer, noise(0)[None]) for member in members]
            for each in asked:
                with pytest.raises(RuntimeError, match="the device is gone"):
                    each.result()
            engine.broken = False
            asked = [pool.submit(member.infer, noise(0)[None]) for member in members]
            assert all(each.result().shape == (1, *SIZE) for each in asked)


def test_waiting_pays_where_single_frames_would_keep_the_engine_busy(
    four: Path, shared_bundle: Path
) -> None:
    with watched(four) as engine:
        engine.slow = 0.02
        assert patience(engine, fps=1) == 0
        assert 0.02 * PATIENCE <= patience(engine, fps=1000) < 5
        kinds = [type(part) for part in shared(engine, [25.0, None, 25.0])]
        assert kinds == [Gathered, SharedEngine, Gathered]
        for streams in ([25.0, None], [None, None]):
            assert {type(part) for part in shared(engine, streams)} == {SharedEngine}
    with watched(shared_bundle) as engine:  # of one frame at a time
        assert {type(part) for part in shared(engine, [25.0, 25.0])} == {SharedEngine}


def test_live_sources_of_a_command_are_gathered(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    infer = Gathering._run

    def counted(self: Gathering) -> None:
        runs.append(1)
        infer(self)

    monkeypatch.setattr(Gathering, "_run", counted)
    clips = [
        make_clip(tmp_path / f"{k}.mp4", [noise(10 * k + i) for i in range(9)]) for k in (0, 1)
    ]
    options = {"more": (str(clips[1]),), "force": True, "threads": 1}
    for realtime in (False, True):
        folder = tmp_path / ("live" if realtime else "all")
        config = VideoConfig(
            str(clips[0]), four, "onnxruntime", realtime=realtime, save_labels=folder, **options
        )
        assert main(config) == 0
        assert bool(runs) == realtime
    for number in (1, 2):
        live = sorted((tmp_path / f"live-{number}").glob("*.png"))
        assert live
        for path in live:
            whole = cv2.imread(str(tmp_path / f"all-{number}" / path.name), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), whole)
