"""Whole runs of ``python -m benchmarks`` on tiny bundles, each cell in a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks.__main__ import Benchmark, main
from benchmarks.cells import process as processes
from benchmarks.results import Results
from benchmarks.run import runner
from benchmarks.run.probes import Pace
from benchmarks.run.rounds import LEAST, Rounds
from runtime.bundle.classes import ClassSet
from runtime.cli import module_command
from runtime.errors import GateError, HedgeError

PLANTED = tuple(module_command("tests.benchmarks.cells.planted"))
SOON = 0.001  # minutes


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that take no time, and no search for the machine's ceiling (test_work has one)."""
    monkeypatch.setattr(command, "QUICK", Pace(2, arrival=0.2, busy=0.02, video=3, pipelines=1))
    monkeypatch.setattr(runner, "CEILING_S", 0.01)


@pytest.fixture
def data(tmp_path: Path, band_picture: Callable[..., np.ndarray], classes: ClassSet) -> Path:
    """A data set that the tiny bundle knows by heart, but for its third frame."""
    root = tmp_path / "data"
    for index, name in enumerate(("a", "b", "c")):
        image = band_picture(index, (48, 64))
        target = np.full((48, 64), 1) if name == "c" else image.argmax(2)
        for folder, array in (("images", image[..., ::-1]), ("labels", target)):
            (root / folder / "val").mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / folder / "val" / f"{name}.png")
    (root / "classes.json").write_bytes(classes.to_json())
    return root


def test_a_whole_run(
    hurried: None, data: Path, make_bundle: Callable[..., Path], make_clip: Callable[..., Path],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bundle, video = make_bundle(tmp_path / "tiny"), make_clip(tmp_path / "drive.mp4")
    out = tmp_path / "out"
    config = Benchmark(
        (bundle,), data, video, ("openvino", "onnxruntime"), threads=1, budget=SOON, quick=True,
        frames=3, out=out,
    )  # fmt: skip
    main(config)
    results = Results.load(out / "report.json")
    cells = {cell.name: cell for cell in results.cells}
    ours = {name for name, cell in cells.items() if cell.kind == "bundle"}
    assert ours == {"tiny openvino", "tiny onnxruntime"}
    loops = {"tiny openvino (loop)", "tiny openvino (loop + tail)"}
    assert {name for name, cell in cells.items() if cell.kind == "bare"} == loops
    for name in ours | loops:
        cell = cells[name]
        assert cell.error is None and cell.timing is not None
        assert len(cell.timing.samples) == LEAST
        assert cell.timing.low <= cell.timing.p50 <= cell.timing.high
        assert cell.start_s and cell.model_mb and cell.computes == "fp32"
        assert cell.multiply_adds is None and cell.input == (1, 24, 32)
    for name in ours:
        arrival, accuracy = cells[name].arrival, cells[name].accuracy
        assert arrival and arrival.hz == 30 and 0 <= arrival.dropped < 1
        assert accuracy and accuracy.frames == 3 and 0.3 < accuracy.miou < 1
        assert accuracy.iou.keys() == {"blue", "green", "red"}
    assert (cells["tiny openvino"].fps_in_flight or 0) > 0
    assert cells["tiny openvino"].in_flight == 2
    assert cells["tiny onnxruntime"].fps_in_flight is None
    peers = [cell for cell in results.cells if cell.kind == "peer"]
    assert peers and all("--checkpoints RUN" in (cell.error or "") for cell in peers)
    assert capsys.readouterr().err.count("not measured: ") == 1, "once, and before the rest"
    assert results.worst[0].frame == "c"
    assert [w.miou for w in results.worst] == sorted(w.miou for w in results.worst)
    (stages,) = results.stages
    assert stages.cell in ours and stages.video == "drive.mp4" and stages.fps > 0
    assert (results.threads, results.quick, results.data) == (1, True, "3 frames of data (val)")
    assert "3 frames of data (val)" in (out / "report.md").read_text()
    assert "data:image/" in (out / "report.html").read_text(), "the worst frames are in the page"


def test_a_bundle_of_other_classes_than_the_labels_is_timed_and_named(
    hurried: None, data: Path, make_bundle: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bundle, out = make_bundle(tmp_path / "tiny"), tmp_path / "out"
    listed = json.loads((data / "classes.json").read_bytes())
    listed["classes"][1]["name"] = "other"
    (data / "classes.json").write_text(json.dumps(listed))
    main(Benchmark(
        (bundle,), data, backends=("onnxruntime",), peers="none", threads=1, budget=SOON,
        quick=True, frames=3, out=out,
    ))  # fmt: skip
    results = Results.load(out / "report.json")
    [cell] = [cell for cell in results.cells if cell.kind == "bundle"]
    assert cell.timing is not None and cell.accuracy is None
    [note] = [note for note in results.notes if "tiny" in note]
    assert "mIoU not measured" in note and note.endswith("in the labels other")
    assert note in capsys.readouterr().err


def test_a_crash_and_a_hang_cost_their_cells(
    hurried: None, make_bundle: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(processes, "COMMAND", PLANTED)
    bundles = tuple(make_bundle(tmp_path / name) for name in ("crash", "fine", "hang", "stillborn"))
    main(
        Benchmark(
            bundles,
            backends=("onnxruntime",),
            peers="none",
            budget=SOON,
            quick=True,
            timeout=6,
            out=tmp_path / "out",
        )
    )
    crash, fine, hang, stillborn = Results.load(tmp_path / "out" / "report.json").cells
    assert "killed by SIGSEGV in 'measure'" in str(crash.error)
    assert "no answer to 'measure' for 6 s" in str(hang.error)
    for lost in (crash, hang):
        assert lost.timing is not None and len(lost.timing.samples) == 2
    assert fine.error is None and fine.timing and len(fine.timing.samples) == LEAST
    told = " ".join(capsys.readouterr().err.split())
    assert "hang onnxruntime: not measured, because no answer" in told
    assert "not to be started" in str(stillborn.error)
    assert told.startswith("warning: stillborn onnxruntime: not measured: ")


def test_short_memory_makes_groups_and_others_are_noticed(
    hurried: None, make_bundle: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(runner, "SPARE_MB", 1e9)
    monkeypatch.setattr(runner, "OTHERS", -100.0)
    bundles = tuple(make_bundle(tmp_path / name) for name in ("one", "two"))
    main(
        Benchmark(
            bundles,
            backends=("onnxruntime",),
            peers="none",
            budget=SOON,
            quick=True,
            out=tmp_path / "out",
        )
    )
    results = Results.load(tmp_path / "out" / "report.json")
    assert any("memory is short" in note for note in results.notes)
    assert sum("other processes took" in note for note in results.notes) == 2
    assert all(cell.timing and len(cell.timing.samples) == LEAST for cell in results.cells)


def test_others_are_noticed_in_a_run_that_is_interrupted(
    hurried: None, make_bundle: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "OTHERS", -100.0)
    monkeypatch.setattr(Rounds, "run", interrupt)
    bundles, out = (make_bundle(tmp_path / "tiny"),), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        main(Benchmark(bundles, backends=("onnxruntime",), peers="none", quick=True, out=out))
    notes = Results.load(out / "report.json").notes
    assert len([note for note in notes if note.startswith("other processes took")]) == 1


def test_a_gate_fails_after_the_report_is_written(
    hurried: None, data: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "bundles": (make_bundle(tmp_path / "tiny"),), "data": data, "peers": "none",
        "backends": ("onnxruntime",), "budget": SOON, "quick": True, "out": tmp_path / "out",
    }  # fmt: skip
    main(Benchmark(**settings))
    baseline = json.loads((tmp_path / "out" / "report.json").read_bytes())
    with pytest.raises(HedgeError, match=r"report.json: is an input as well"):
        main(Benchmark(**settings, baseline=tmp_path / "out" / "report.json"))
    same = tmp_path / "same.json"
    (tmp_path / "out" / "report.json").rename(same)
    main(Benchmark(**settings, baseline=same, fail_if="miou < 0"))
    accuracy = baseline["cells"][0]["accuracy"]
    accuracy["miou"] += 0.01
    accuracy["iou"] = {name: iou and iou + 0.01 for name, iou in accuracy["iou"].items()}
    better = tmp_path / "better.json"
    better.write_text(json.dumps(baseline))
    (tmp_path / "out" / "report.json").unlink()
    with pytest.raises(GateError, match=r"tiny onnxruntime: miou < -0.5"):
        main(Benchmark(**settings, baseline=better, fail_if="miou < -0.5"))
    assert Results.load(tmp_path / "out" / "report.json").cells


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_run_leaves_a_report_and_no_process(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle, out = make_bundle(tmp_path / "tiny"), tmp_path / "out"
    arguments = ["--bundles", bundle, "--peers", "none", "--threads", 1, "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not _cells_in(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _cells_in(tmp_path)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "error: interrupted" in errors and "Traceback" not in errors
    assert not _cells_in(tmp_path)
    assert any("interrupted" in note for note in Results.load(out / "report.json").notes)


def _cells_in(scratch: Path) -> list[str]:
    """Command lines of the cells' processes that use this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "benchmarks.cells.worker" in line and str(scratch) in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"data": Path("nowhere")}, "nowhere: no such file or folder"),
        ({"video": Path("nowhere.mp4")}, "nowhere.mp4: no such file"),
        ({"bundles": (Path("nowhere"),)}, "nowhere: no bundle here"),
        ({"baseline": Path("nowhere.json")}, "nowhere.json: no such file"),
        ({"fail_if": "speed > 3"}, "speed is not a name"),
        ({"out": Path(__file__)}, "report.json: cannot be written"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_measured(
    settings: dict[str, Any], complaint: str, shared_bundle: Path
) -> None:
    with pytest.raises(HedgeError, match=complaint):
        main(Benchmark(**{"bundles": (shared_bundle,)} | settings))


@pytest.mark.parametrize(
    "setting", [{"threads": -1}, {"budget": 0}, {"timeout": 0}, {"frames": 0}, {"backends": ("x",)}]
)
def test_senseless_settings_are_named(setting: dict[str, Any]) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(setting))}"):
        Benchmark(**setting)


def test_a_missing_run_is_named() -> None:
    with pytest.raises(HedgeError, match="nowhere: no such run"):
        Benchmark(checkpoints=(Path("nowhere"),))
