"""Frames a second of the bare engine and of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pipeline
from benchmarks.cells.video_stages import engine_only
from benchmarks.pipeline import Pipeline
from benchmarks.results import PipelineShares, Results
from benchmarks.studies.case import Case
from runtime.bundle.manifest import Manifest


class Counting:
    """An engine that keeps the batches it is given, and answers nothing."""

    in_flight = 1

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.batches: list[np.ndarray] = []

    def submit(self, batch: np.ndarray) -> None:
        """Keep it."""
        self.batches.append(batch.copy())

    def result(self) -> None:
        """Nothing."""


def test_an_engine_of_several_frames_is_given_as_many_at_once(
    make_bundle: Callable[..., Path], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """As the pipeline does: one frame a batch would halve the engine's frames a second."""
    bundle = make_bundle(tmp_path / "two", batch=2)
    engine = Counting(Manifest.load(bundle))
    video = make_clip(tmp_path / "c.mp4", 6)
    assert engine_only(engine, video, 5) > 0  # type: ignore[arg-type]
    assert len(engine.batches) == 3, "five frames are three batches of two"
    assert all(batch[slot].any() for batch in engine.batches for slot in range(2))


def test_a_short_video_counts_the_frames_that_it_has(
    make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_clip(tmp_path / "c.mp4")
    counts: list[int] = []

    def measured(case: Case, video: Path, config: Pipeline) -> PipelineShares:
        counts.append(config.frames)
        ways = dict.fromkeys(("engine", "labels", "overlay", "naive"), 1.0)
        return PipelineShares(str(case), 1.0, 1.0, 1.0, 1.0, 0.1, ways)

    monkeypatch.setattr(pipeline, "_measured", measured)
    config = Pipeline(("mobilenet_v2:dlse:64x96",), video, frames=90, out=tmp_path / "out")
    pipeline.main(config)
    [count] = counts
    assert 0 < count < 90
    said = Results.load(tmp_path / "out" / "report.json").data
    assert said == f"{count} frames of c.mp4, random weights"
