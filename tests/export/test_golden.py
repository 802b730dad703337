"""Golden frames of a bundle: what is asked of engines elsewhere, and how much of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import bundle, verify
from export import golden as writing
from export.config import Export
from export.given import given
from export.task import Task
from runtime.backends import golden
from runtime.bundle.classes import IGNORE
from runtime.bundle.golden import Golden
from runtime.segment import Segmenter


class Coarse(verify.TorchEngine):
    """PyTorch, but for the upper rows of each frame, which all get one class."""

    rows = 12  # of 48

    def infer(self, batch: np.ndarray) -> np.ndarray:
        labels = super().infer(batch)
        labels[:, : self.rows] = 1
        return labels


class Coarser(Coarse):
    """Another one, which is right on fewer rows."""

    rows = 36


@pytest.fixture
def task(trained_run: Path, blocks: Path, tmp_path: Path) -> Task:
    config = Export(trained_run, fp32=True, data=blocks)
    size = (48, 64)
    target = tmp_path / "tiny"
    return Task(*given(config, None), target, size, size, tmp_path, target)


def test_what_a_coarse_engine_loses_is_asked_of_none(task: Task, tmp_path: Path) -> None:
    """Else its bound would be so low that a wrong engine held it as well."""
    manifest = task.manifest("int8")
    (tmp_path / "bundle").mkdir()
    engine = Coarse(task.deployed(), manifest)
    right = verify.TorchEngine(task.deployed(), manifest)
    pictures = writing.drawn(manifest)
    manifest = writing.add(
        task, tmp_path / "bundle", manifest, [Segmenter.of(engine)], pictures, "drawn streets"
    )
    assert manifest.golden == Golden("drawn streets", 3, {"int8": 1 - writing.MOST})
    shown, labels = golden.load(tmp_path / "bundle", manifest)
    found = golden.answers(right.infer, manifest, shown)
    unasked = labels == IGNORE
    assert unasked[:, :12].any() and not unasked[:, 12:].any()
    assert (labels == np.where(unasked, IGNORE, found)).all()
    for kind in (Coarse, verify.TorchEngine):
        assert golden.agreement(kind(task.deployed(), manifest), tmp_path / "bundle") == 1
    wrong = Coarser(task.deployed(), manifest)
    assert golden.agreement(wrong, tmp_path / "bundle") < 1 - writing.MOST


def test_frames_of_which_nothing_is_asked_prove_nothing(task: Task, tmp_path: Path) -> None:
    own = Golden("none", 1, {"fp32": 0.99})
    picture, nothing = np.zeros((1, 48, 64, 3), np.uint8), np.full((1, 48, 64), IGNORE, np.uint8)
    golden.save(tmp_path, own, picture, nothing)
    manifest = replace(task.manifest("fp32"), golden=own, files=bundle.hashes(tmp_path))
    assert golden.agreement(Coarse(task.deployed(), manifest), tmp_path) == 1
