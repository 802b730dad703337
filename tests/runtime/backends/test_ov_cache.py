"""Compiled models that OpenVINO finds again at the next start."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends import ov
from runtime.backends.registry import load_engine
from runtime.bundle.cached import nothing_kept
from runtime.bundle.manifest import Manifest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the folder of its models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ov.MODELS.folder


def labels(bundle: Path, threads: int = 1) -> np.ndarray:
    """What a fresh engine answers on noise."""
    shape = Manifest.load(bundle).input.shape
    frames = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    with load_engine(bundle, "openvino", threads) as engine:
        return engine.infer(frames)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs that are read to be compiled, from now on."""
    seen: list[str] = []
    part = ov.part

    def counted(bundle: Path, *rest: Any) -> object:
        seen.append(bundle.name)
        return part(bundle, *rest)

    monkeypatch.setattr(ov, "part", counted)
    return seen


def test_a_second_start_compiles_nothing_and_answers_alike(
    bundle: Path, cache: Path, compilations: list[str]
) -> None:
    first = labels(bundle)
    assert len(compilations) == 1 and len(list(cache.iterdir())) == 1
    assert np.array_equal(labels(bundle), first)
    assert len(compilations) == 1


def test_what_is_tried_and_thrown_away_is_not_kept(
    bundle: Path, cache: Path, compilations: list[str]
) -> None:
    with nothing_kept():
        first = labels(bundle)
    assert not cache.exists()
    assert np.array_equal(labels(bundle), first)
    assert len(compilations) == 2 and len(list(cache.iterdir())) == 1


def test_a_damaged_model_is_made_anew(bundle: Path, cache: Path, compilations: list[str]) -> None:
    first = labels(bundle)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    assert np.array_equal(labels(bundle), first)
    assert len(compilations) == 2
    assert np.array_equal(labels(bundle), first)
    assert len(compilations) == 2, "and kept again"


def test_other_settings_and_other_bundles_are_other_models(
    bundle: Path, cache: Path, compilations: list[str], tmp_path: Path
) -> None:
    labels(bundle)
    labels(bundle, threads=2)
    shutil.copytree(bundle, tmp_path / "renamed")
    manifest = Manifest.load(bundle)
    manifest.__class__(**{**vars(manifest), "name": "another"}).save(tmp_path / "renamed")
    labels(tmp_path / "renamed")
    assert len(compilations) == len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_only_costs_time(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(labels(bundle), labels(bundle))
    assert len(compilations) == 2


def test_the_oldest_models_go(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    monkeypatch.setattr(ov, "MODELS", replace(ov.MODELS, most=1))
    labels(bundle)
    (old,) = cache.iterdir()
    labels(bundle, threads=2)
    assert len(list(cache.iterdir())) == 1 and not old.exists()
