"""The search where each set of layers is an engine to build: how many, where, and what is said.

Engines are stand-ins that answer by the layers that are kept; building one takes a GPU.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.int8 import search as module
from export.int8.search import BUILDS, Search
from export.verify import Budget, Drop, EvalFrame, FrameSet
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.bundle.classes import ClassSet

LAYERS = [f"conv{number}" for number in range(64)]
NEEDED = 40  # the layers from here on each lose more in INT8 than the budget allows
CLASSES = ClassSet(("road", "sky"), ((1, 1, 1), (2, 2, 2)))
TARGET = np.repeat(np.uint8([0, 1]), 64 * 64).reshape(2, 64, 64).swapaxes(0, 1).reshape(64, 128)


class Engines:
    """What was built, by backend; the quantizer and the segmenter of a search."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str]] = []  # backend, folder
        self.ranges: dict[str, Any] = {}
        self.model = "model"

    def layers(self) -> list[str]:
        return LAYERS

    def trial(self, folder: Path, kept: Sequence[str], backends: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kept.json").write_text(json.dumps(list(kept)))

    def segmenter(self, folder: Path, backend: str) -> Any:
        self.loaded.append((backend, folder.name))
        kept = json.loads((folder / "kept.json").read_text())
        timing = folder / "kernels.timing"
        timing.write_text(timing.read_text() + "." if timing.exists() else ".")
        labels = TARGET.copy()
        for number in range(NEEDED, len(LAYERS)):
            if LAYERS[number] not in kept:
                labels[number, : number - NEEDED + 2] ^= 1

        class Answering:
            def __call__(self, image: np.ndarray) -> np.ndarray:
                return labels

            def __enter__(self) -> Answering:
                return self

            def __exit__(self, *_: object) -> None: ...

        return Answering()


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()

    def plain(quantizer: Engines, folder: Path) -> Path:
        quantizer.trial(folder, LAYERS, ())
        return folder

    def one_ms(work: Callable[[], object]) -> float:
        work()
        return 1.0

    monkeypatch.setattr(module, "settled_ms", one_ms)
    monkeypatch.setattr(module, "Segmenter", engines.segmenter)
    monkeypatch.setattr(module, "plain", plain)
    monkeypatch.setattr(module, "installed_backends", lambda: ["tensorrt", "onnxruntime"])
    return engines


def hunt(engines: Engines, backend: str, folder: Path, points: float = 0.0) -> Search:
    def frames(limit: int | None) -> FrameSet:
        def drawn() -> Iterator[EvalFrame]:
            yield EvalFrame("one", np.zeros((64, 128, 3), np.uint8), TARGET)

        return FrameSet("data", "val", 1, drawn())

    reference = ConfusionMatrix(CLASSES)
    reference.update(TARGET, TARGET)
    budget = Budget(points, None)
    quantizer: Any = engines
    return Search(quantizer, backend, frames, reference, budget, (), folder)


def test_layers_are_ranked_in_an_engine_that_builds_nothing(
    engines: Engines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = hunt(engines, "tensorrt", tmp_path / "work").run()
    assert set(chosen.kept) >= set(LAYERS[NEEDED:]) and chosen.drop == Drop(0.0, 0.0, "road")
    built = [folder for backend, folder in engines.loaded if backend == "tensorrt"]
    ranked = [folder for backend, folder in engines.loaded if backend == "onnxruntime"]
    assert ranked == ["fp32", *["layer"] * len(LAYERS)]
    assert set(built) == {"int8", "trial"} and built.count("trial") == BUILDS
    said = " ".join(capsys.readouterr().err.split())
    assert len(re.findall(r"try \d+: lost [^;]*; [\d.]+ ms; took [\d.]+ s;", said)) == BUILDS
    assert f"try {BUILDS}:" in said


def test_a_cpu_engine_measures_all_sets_and_says_nothing(
    engines: Engines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = hunt(engines, "onnxruntime", tmp_path / "work").run()
    assert set(chosen.kept) == set(LAYERS[NEEDED:])
    assert [folder for _, folder in engines.loaded].count("trial") > BUILDS
    assert "at most" not in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["sensitivity.json"]


def test_timings_of_kernels_outlive_an_interrupted_search(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, measured = tmp_path / "work", Search._measured
    steps: list[object] = []

    def stopped(search: Search, kept: tuple[str, ...]) -> object:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(kept)
        return measured(search, kept)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Search, "_measured", stopped)
        hunt(engines, "tensorrt", folder).run()
    timing = folder / "trial" / "kernels.timing"
    assert timing.read_text() == "..."
    hunt(engines, "tensorrt", folder).run()
    assert len(timing.read_text()) == BUILDS
    assert [name for _, name in engines.loaded].count("layer") == len(LAYERS), "ranked once"
