"""The command in a process of its own: signals, a kill, exit codes and their one line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.interrupt import ENDING
from tests.equipment.processes import outputs_in, rows_of

Make = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]
LONG = 20_000  # frames of a clip that no test waits for the end of


@pytest.fixture(scope="module")
def long_clip(make_clip: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than are processed before a test has sent its signal: one clip over and over."""
    still = [np.zeros((24, 32, 3), np.uint8)] * (LONG // 100)  # no cuts: no early key frames
    clip = make_clip(tmp_path_factory.mktemp("long") / "long.h264", still)
    clip.write_bytes(clip.read_bytes() * 100)
    return clip


def wait_for_output(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a video being written holds some fragments."""
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"moof") < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.01)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_finishes_the_files_and_the_table(
    number: int,
    long_clip: Path,
    shared_bundle: Path,
    tmp_path: Path,
    start_video: Start,
    playable: Callable[[Path], int],
) -> None:
    outputs = {key: path for key, path in outputs_in(tmp_path).items() if key != "save_labels"}
    options = [part for key, path in outputs.items() for part in (f"--{key}", path)]
    process = start_video(
        long_clip, "--bundle", shared_bundle, "--backend", "onnxruntime", *options
    )
    wait_for_output(outputs["out"], process)
    process.send_signal(number)
    printed, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "p99" in printed
    assert complaint.startswith("error: interrupted")
    assert complaint.count("\n") == 1
    report = json.loads(outputs["json"].read_text())
    assert 0 < report["frames_written"] < LONG
    assert report["frames_read"] == report["frames_written"] == playable(outputs["out"])
    assert len(rows_of(outputs["metrics"])) == report["frames_written"]


def test_a_killed_process_leaves_a_playable_file(
    long_clip: Path,
    shared_bundle: Path,
    tmp_path: Path,
    start_video: Start,
    playable: Callable[[Path], int],
) -> None:
    out = tmp_path / "o.mp4"
    process = start_video(
        long_clip, "--bundle", shared_bundle, "--backend", "onnxruntime", "--out", out
    )
    wait_for_output(out, process)
    process.kill()
    process.communicate(timeout=30)
    assert playable(out) >= 3 * 10, "three fragments of a second at 10 fps or more"


def test_exit_codes_and_one_line_in_a_process_of_its_own(
    shared_bundle: Path, tmp_path: Path, make_images: Make, start_video: Start
) -> None:
    folder = make_images(tmp_path / "images", 3)
    (folder / "f1.png").write_bytes(b"broken")
    existing = tmp_path / "there.json"
    existing.write_text("old")
    bundle = ("--bundle", shared_bundle, "--backend", "onnxruntime")
    started = {
        2: start_video(tmp_path / "missing.mp4", *bundle),
        3: start_video(folder, *bundle, "--json", tmp_path / "report.json"),
        5: start_video(folder, *bundle, "--json", existing),
    }
    for code, process in started.items():
        printed, complaint = process.communicate(timeout=60)
        assert process.returncode == code, complaint
        assert "Traceback" not in complaint
        assert complaint.count("error: ") == 1
        assert ("p99" in printed) == (code == 3)
    assert existing.read_text() == "old"


@pytest.mark.parametrize("option", ["--json", "--metrics"])
def test_a_dash_is_standard_output_which_holds_json_alone(
    option: str, shared_bundle: Path, tmp_path: Path, make_clip: Make, start_video: Start
) -> None:
    clip = make_clip(tmp_path / "a.mp4", 7)
    bundle = ("--bundle", shared_bundle, "--backend", "onnxruntime")
    printed, told = start_video(clip, *bundle, option, "-").communicate(timeout=60)
    assert "p99" in told
    found = [json.loads(row) for row in printed.splitlines()] if option == "--metrics" else []
    assert len(found) == 7 or json.loads(printed)["frames_written"] == 7
    assert not Path("-").exists()
