"""Verification sees what is wrong in a batch alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export import verify
from export.verify import EvalFrame
from runtime.backends.base import OneAtATime
from runtime.bundle.manifest import Manifest
from runtime.segment import Segmenter


class Brightest(OneAtATime):
    """The brightest channel of each frame; mixed: of the first of its batch, for all of them."""

    def __init__(self, manifest: Manifest, mixed: bool) -> None:
        self.manifest, self.mixed = manifest, mixed
        self.backend = "mixed" if mixed else verify.PYTORCH

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        labels = batch.argmax(3).astype(np.uint8)
        return np.repeat(labels[:1], len(labels), axis=0) if self.mixed else labels

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(("batch", "agreement"), [(1, 1.0), (2, 0.6)])
def test_frames_that_a_batch_mixes_are_seen(
    batch: int, agreement: float, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """Of five frames, each all of one class, the second and the fourth get their neighbour's."""
    manifest = Manifest.load(make_bundle(tmp_path / "bundle", batch=batch))
    right, mixed = (Segmenter.of(Brightest(manifest, kind)) for kind in (False, True))
    frames = []
    for number in range(5):
        image = np.zeros((24, 32, 3), np.uint8)
        image[..., number % 3] = 200
        frames.append(EvalFrame(f"f{number}", image, np.full((24, 32), number % 3, np.uint8)))
    results = verify.compare(right, [mixed], frames)
    assert results["mixed"].agreement == pytest.approx(agreement)
    assert results[verify.PYTORCH].confusion.miou() == 1
    assert results["mixed"].confusion.counts.sum() == 5 * 24 * 32
