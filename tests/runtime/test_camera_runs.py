"""The command on a camera: stopped while nothing comes, and pictures that change their size."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from runtime.run import Run
from runtime.segment import Segmenter
from runtime.sources import network
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from tests.equipment.rtsp import RtspServer, clip

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_files_while_the_camera_is_silent(
    number: signal.Signals, shared_bundle: Path, start_video: Start,
    playable: Callable[[Path], int], tmp_path: Path,
) -> None:  # fmt: skip
    out, rows = tmp_path / "o.mp4", tmp_path / "rows"

    def never_again(connection: int, frame: int) -> str | None:
        return "stall" if frame == 60 or connection else None

    with RtspServer([clip(24, 32)], never_again) as server:
        process = start_video(
            server.url(), "--bundle", shared_bundle, "--backend", "onnxruntime", "--out", out,
            "--metrics", rows,
        )  # fmt: skip
        server.wait_for("stall")
        process.send_signal(number)
        printed, complaint = process.communicate(timeout=30)  # the stall would last for ever
    assert process.returncode == 130, complaint
    assert "gaps" in printed
    assert complaint.splitlines()[-1] == "error: interrupted; what was done is written"
    assert len(rows.read_text().splitlines()) == playable(out) > 0


def test_a_camera_that_is_away_is_a_gap_already(
    shared_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network, "STALL_S", 1.0)

    def never_again(connection: int, frame: int) -> str | None:
        return "stall" if frame == 40 or connection else None

    with (
        RtspServer([clip(24, 32)], never_again) as server,
        Segmenter(shared_bundle, "onnxruntime", threads=1) as segmenter,
        open_source(server.url()) as source,
    ):
        run = Run(source, segmenter, shared_bundle)
        run.begin()
        next(iter(source))
        server.wait_for("stall")
        deadline = time.monotonic() + 20
        while not (gaps := run.report().gaps) or not gaps.count:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert gaps.count == 1
        assert gaps.seconds == gaps.first[0].seconds > 0.5
        assert gaps.first[0].cause == "nothing arrives"
        later = run.report().gaps
        assert later is not None
        assert (later.count, later.seconds > gaps.seconds) == (1, True)
    told = capsys.readouterr().err.replace("\n", " ")
    assert told.count("no frames (nothing arrives); it is asked again until you stop") == 1
    assert "frames again" not in told


def test_pictures_of_another_size_go_on_in_another_file(
    shared_bundle: Path, tmp_path: Path
) -> None:
    clips = [clip(48, 64), clip(96, 128)]
    report = tmp_path / "r.json"
    with RtspServer(clips, lambda _, frame: "swap" if frame == 60 else None) as server:
        config = VideoConfig(
            server.url(), shared_bundle, "onnxruntime", out=tmp_path / "o.mp4", json=report,
            max_frames=90,
        )  # fmt: skip
        assert main(config) == 0
    told = json.loads(report.read_text())
    assert told["videos"] == [str(tmp_path / name) for name in ("o.mp4", "o-2.mp4")]
    counts = []
    for path, size in zip(told["videos"], [(48, 64), (96, 128)], strict=True):
        with av.open(path) as container:
            frames = list(container.decode(video=0))
        assert {(frame.height, frame.width) for frame in frames} == {size}
        counts.append(len(frames))
    assert sum(counts) == told["frames_written"] == 90


def test_a_folder_of_photos_stays_one_video(
    shared_bundle: Path, make_images: Callable[..., Path], tmp_path: Path,
    band_picture: Callable[..., object],
) -> None:  # fmt: skip
    sizes = [(24, 32), (48, 64), (24, 32)]
    folder = make_images(tmp_path / "images", [band_picture(0, size) for size in sizes])
    out, report = tmp_path / "o.mp4", tmp_path / "r.json"
    config = VideoConfig(str(folder), shared_bundle, "onnxruntime", out=out, json=report)
    assert main(config) == 0
    assert json.loads(report.read_text())["videos"] == [str(out)]
