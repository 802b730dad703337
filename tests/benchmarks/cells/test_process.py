"""Processes of cells: what crashes, hangs or prints costs its own cell and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import process as processes
from benchmarks.cells.engine import Figure, InFlight, Scene
from benchmarks.cells.process import Child, LostError
from benchmarks.cells.worker import Spec, to_json
from benchmarks.results import Accuracy, Arrival
from runtime.cli import module_command
from runtime.interrupt import raising_interrupt

PLANTED = tuple(module_command("tests.benchmarks.cells.planted"))


@pytest.fixture
def spec(
    make_bundle: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path
) -> Callable[[str], Spec]:
    """What a child loads of a tiny bundle with this name."""
    images = make_images(tmp_path / "images", 3)
    frames = tmp_path / "frames.json"
    frames.write_bytes(to_json([Scene(p.stem, p) for p in sorted(images.iterdir())]))

    def make(name: str) -> Spec:
        bundle = make_bundle(tmp_path / name)
        scratch = tmp_path / f"{name}-scratch"
        return Spec("benchmarks.cells.engine", bundle, "onnxruntime", 1, frames, scratch)

    return make


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children with the faults of ``planted.py``."""
    monkeypatch.setattr(processes, "COMMAND", PLANTED)


def test_a_child_answers_whatever_its_libraries_print(
    spec: Callable[[str], Spec], planted: None
) -> None:
    with Child(spec("noisy"), 60) as child:
        assert child.computes == "fp32"
        assert child.start_s > 0
        assert all(0 < child.measure(number) < 1000 for number in range(4))
        peak = child.peak_mb()
        assert peak is None or peak > 10
    assert child._process.returncode is not None


def test_a_crash_is_told_by_its_signal_and_last_words(
    spec: Callable[[str], Spec], planted: None
) -> None:
    with Child(spec("crash"), 60) as child:
        child.measure(0)
        with pytest.raises(LostError, match=r"killed by SIGSEGV in 'measure': .*fault ahead"):
            child.measure(2)
        with pytest.raises(LostError, match="has ended"):
            child.measure(3)
        assert child.used_s() > 0, "what it used is remembered"


def test_a_hang_is_ended(spec: Callable[[str], Spec], planted: None) -> None:
    with Child(spec("hang"), 60) as child:
        child._patience = 0.5
        start = time.monotonic()
        with pytest.raises(LostError, match=r"no answer to 'measure' for 0\.5 s"):
            child.measure(2)
        assert time.monotonic() - start < 30
        assert child._process.returncode is not None


def test_a_start_that_takes_longer_by_itself_is_waited_for(spec: Callable[[str], Spec]) -> None:
    with pytest.raises(LostError, match=r"no answer to 'start' for 0\.05 s"):
        Child(spec("short"), 0.01)
    with Child(replace(spec("long"), longer=60.0), 0.01) as child:
        assert child.computes == "fp32"


def test_what_a_cell_refuses_is_one_line(spec: Callable[[str], Spec]) -> None:
    damaged = spec("damaged")
    (damaged.bundle / "model.onnx").write_bytes(b"no model")
    with pytest.raises(LostError, match=r"model.onnx: sha256 differs") as caught:
        Child(damaged, 60)
    assert "\n" not in str(caught.value)


def test_a_process_that_ends_at_once_is_told(
    spec: Callable[[str], Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", "import sys; sys.exit(3)"))
    with pytest.raises(LostError, match="ended with exit code 3 in 'start'"):
        Child(spec("gone"), 60)


def test_a_cell_scores_and_times_arrivals(
    spec: Callable[[str], Spec], save_ids: Callable[[Path, np.ndarray], Path], tmp_path: Path,
    band_picture: Callable[..., np.ndarray],
) -> None:  # fmt: skip
    truth = save_ids(tmp_path / "truth.png", band_picture(0).argmax(2))
    wrong = save_ids(tmp_path / "wrong.png", np.full((24, 32), 2))
    mine = spec("scored")
    image = tmp_path / "images" / "f0.png"
    mine.frames.write_bytes(to_json([Scene("right", image, truth), Scene("bad", image, wrong)]))
    with Child(mine, 60) as child:
        assert child.ask("score", Figure, frame=0).value == 1
        assert (child.ask("score", Figure, frame=1).value or 0) < 0.5
        scores = child.ask("scores", Accuracy)
        assert scores.iou.keys() == {"blue", "green", "red"}
        assert 0 < scores.miou < 1 and 0 < (scores.boundary_f or 0) <= 1
        arrival = child.ask("arrival", Arrival, hz=50.0, seconds=0.4)
        assert arrival.hz == 50
        assert 0 < arrival.p50 <= arrival.p95 <= arrival.p99
        assert 0 <= arrival.dropped < 1
        asked = child.ask("in_flight", InFlight, batches=2, seconds=0.05)
        assert asked == InFlight(None, 1)
        names = child.ask("pictures", list[str], frames=[1], folder=str(tmp_path))
        assert (tmp_path / names[0]).stat().st_size > 0


def test_a_child_that_hangs_ends_with_a_parent_that_is_killed(
    spec: Callable[[str], Spec], tmp_path: Path
) -> None:
    """As after ``kill -9`` of a benchmark: nobody is left who could end the child."""
    (tmp_path / "spec.json").write_bytes(to_json(spec("hang")))
    code = f"""
import os, pathlib
from benchmarks.cells import process
from benchmarks.cells.worker import Spec, from_json
process.COMMAND = {PLANTED!r}
spec = from_json(pathlib.Path({str(tmp_path / "spec.json")!r}).read_bytes(), Spec)
child = process.Child(spec, 60)
print(child._process.pid, flush=True)
child._process.stdin.write(b'{{"do": "measure", "number": 2}}\\n')
child._process.stdin.flush()
os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    child, deadline = int(parent.stdout), time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_ctrl_c_while_it_starts_leaves_no_process(
    spec: Callable[[str], Spec], planted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *command: Any, **settings: Any) -> None:
            super().__init__(*command, **settings)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), raising_interrupt():
        Child(spec("hang"), 60)
    (process,) = started
    assert process.returncode == -signal.SIGKILL
