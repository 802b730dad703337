"""``python -m benchmarks.pipeline``: what is told when it does not come to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import pipeline
from benchmarks.pipeline import Pipeline, main
from benchmarks.results import PipelineShares, Results
from benchmarks.studies.case import Case
from runtime.errors import HedgeError

CASES = ("mobilenet_v2:dlse:64x96", "mobilenet_v2:dlse:96x128")


def test_an_interrupted_run_tells_the_models_that_were_measured(
    make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = dict.fromkeys(("engine", "labels", "overlay", "naive"), 1.0)

    def measured(case: Case, video: Path, config: Pipeline) -> PipelineShares:
        if case == Case.parse(CASES[1]):
            raise KeyboardInterrupt
        return PipelineShares(str(case), 1.0, 1.0, 0.9, 2.0, 0.1, cpu)

    monkeypatch.setattr(pipeline, "_measured", measured)
    config = Pipeline(CASES, make_clip(tmp_path / "drive.mp4"), frames=2, out=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        main(config)
    results = Results.load(tmp_path / "out" / "report.json")
    assert [one.model for one in results.pipelines] == [str(Case.parse(CASES[0]))]
    assert any(note.startswith("interrupted") for note in results.notes)


def test_a_wrong_case_is_told_before_others_are_measured(
    make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_measured", lambda *_: pytest.fail("measured"))
    config = Pipeline((CASES[0], "mobilenet_v2"), make_clip(tmp_path / "drive.mp4"), out=tmp_path)
    with pytest.raises(HedgeError, match="--cases mobilenet_v2: write"):
        main(config)
