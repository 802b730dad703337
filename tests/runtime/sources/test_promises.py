"""Counts in headers are promises: nothing is sized by them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from runtime.config import VideoConfig
from runtime.errors import IncompleteError
from runtime.video import main
from tests.equipment.videos import make_clip


def test_an_avi_that_promises_two_billion_frames_is_scored_at_once(
    shared_bundle: Path, tmp_path: Path, save_ids: Callable[[Path, np.ndarray], Path]
) -> None:
    clip = make_clip(tmp_path / "a.avi", 3, codec="ffv1", pixels="bgr0")
    data = bytearray(clip.read_bytes())
    for chunk, at in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", data, data.index(chunk) + at, 2 * 10**9)
    clip.write_bytes(data)
    save_ids(tmp_path / "labels" / "000001.png", np.zeros((24, 32)))
    report = tmp_path / "r.json"
    config = VideoConfig(
        str(clip), shared_bundle, "onnxruntime", labels=tmp_path / "labels", json=report
    )
    with suppress(IncompleteError):  # fewer came than were promised
        main(config)
    told = json.loads(report.read_text())
    assert (told["frames_read"], told["frames_scored"]) == (3, 1)
