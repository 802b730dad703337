"""Disks that are full: a small file system of one's own, which root cannot overfill either."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from runtime.errors import OutputError
from tests.equipment.check import Check
from tests.equipment.processes import ROOT
from tests.equipment.videos import playable

_HANG_S = 120.0


def mount(folder: Path, size: str) -> bool:
    """Mount a new file system of a size such as "128k"; False without the right to."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def disk_full(fast: Path, video: Path, out: Path) -> list[Check]:
    """A file system of 512 KiB, in a name space of its own: the exit code, and what plays."""
    bound = "exit code 5, one line, what was written plays"
    shutil.rmtree(out, ignore_errors=True)
    (out / "disk").mkdir(parents=True)
    script = (
        'mount -t tmpfs -o size=512k tmpfs "$0/disk" || exit 99; '
        '"$@" --out "$0/disk/o.mp4"; code=$?; cp "$0/disk/o.mp4" "$0"; exit $code'
    )
    isolated: list[str | Path] = [
        "unshare", "--mount", "--map-root-user", "sh", "-c", script, out,
        sys.executable, "-m", "runtime.video", video, "--bundle", fast,
    ]  # fmt: skip
    try:
        run = subprocess.run(
            isolated, cwd=ROOT, capture_output=True, text=True, timeout=_HANG_S, check=False
        )
    except FileNotFoundError:
        return [Check("disk full", bound, "not tried: no unshare on this system", None)]
    if run.returncode == 99:
        return [Check("disk full", bound, "not tried: mounting is not allowed here", None)]
    frames, lines = playable(out / "o.mp4"), run.stderr.strip().splitlines()
    passed = run.returncode == OutputError.exit_code and frames > 0 and len(lines) == 1
    found = f"exit code {run.returncode}, {len(lines)} line, {frames} frames play"
    return [Check("disk full", bound, found, passed)]
