"""The scripts of the tutorial run, line for line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from train.datasets.synthetic.generate import SyntheticConfig, generate

ROOT = Path(__file__).parents[2]


def test_the_script_trains_exports_streams_and_prints_both_numbers(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorials" / "python.md").read_text(encoding="utf-8")
    scripts = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert all(len(script.splitlines()) <= 12 for script in scripts)
    drive = tmp_path / "drive.mp4"
    generate(SyntheticConfig(tmp_path / "street", 4, 2, (64, 128), video=drive, video_frames=6))
    (tmp_path / "script.py").write_text("".join(scripts))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    numbers, names = done.stdout.splitlines()
    assert re.fullmatch(r"mIoU \d+\.\d%, p95 \d+\.\d ms a frame", numbers)
    assert names.startswith("Segmenter('dlse_hed-mobilenet_v2-fp32'") and "'road'" in names
    assert (tmp_path / "drawn.png").is_file()
    assert (tmp_path / "runs" / "dlse_hed-mobilenet_v2" / "best.pt").is_file()
    assert (tmp_path / "bundles" / "dlse_hed-mobilenet_v2-fp32" / "manifest.json").is_file()
