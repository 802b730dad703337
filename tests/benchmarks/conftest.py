"""What is drawn for benchmarks without data of their own: fewer frames are as good in a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.run import frames
from benchmarks.studies import untrained


@pytest.fixture(scope="session", autouse=True)
def few_frames() -> Iterator[None]:
    """Four streets each, not sixteen: drawing them took longer than what is tested with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "UNLABELLED", 4)
        patch.setattr(untrained, "CALIBRATION", 4)
        yield
