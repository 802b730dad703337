"""From training to a stream, as commands: what each stage leaves is all the next one needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from export.__main__ import Export
from export.__main__ import main as export
from runtime.video import VideoConfig
from runtime.video import main as stream
from train.evaluate import Evaluate
from train.evaluate import main as evaluate

ROOT = Path(__file__).parents[1]


def test_the_stream_has_the_accuracy_of_the_checkpoint(
    trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    evaluate(Evaluate(trained_run, blocks, json=tmp_path / "e.json"))
    export(Export(trained_run, fp32=True, data=blocks, out=tmp_path / "bundles"))
    code = stream(
        VideoConfig(
            str(blocks / "images" / "val"),
            bundle=tmp_path / "bundles" / "tiny-fp32",
            labels=blocks / "labels" / "val",
            json=tmp_path / "r.json",
            out=tmp_path / "out.mp4",
        )
    )
    evaluated, streamed = (json.loads((tmp_path / n).read_text()) for n in ("e.json", "r.json"))
    assert code == 0 and streamed["frames_read"] == streamed["frames_written"] == 3
    assert abs(evaluated["miou"] - streamed["miou"]) < 0.001
    keys = {"frames_read", "frames_written", "frames_dropped", "fps", "latency_ms", "miou",
            "backend", "precision", "bundle"}  # fmt: skip
    assert keys <= streamed.keys()
    assert streamed["latency_ms"].keys() == {"read", "infer", "write", "total"}
    for stage in streamed["latency_ms"].values():
        assert stage.keys() == {"p50", "p95", "p99"}


def test_errors_are_one_line_with_a_code(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    for module, arguments in {"train": ("--data", missing), "export": (missing,)}.items():
        result = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 2, module
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert "nowhere" in result.stderr
