"""``runtime.video`` in processes of its own that are killed or asked to end."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from runtime import cli
from runtime.errors import EXIT_INTERRUPTED, OutputError
from tests.equipment.check import Check
from tests.equipment.rtsp import RtspServer, clip
from tests.equipment.videos import FPS, SIZE, playable

ROOT = Path(__file__).parents[2]
GROUP = FPS  # frames of a group of pictures, which is a second
IN_HAND = 1  # frames: the one whose results were being written
ROWS_S = 1.0  # of unflushed rows
SLACK_S = 0.2  # this machine's clock
END_S = 2.0  # from a signal to the end of the process
HANG_S = 120.0


def start_video(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start ``python -m runtime.video`` in a process of its own, from the repository's root."""
    command = [sys.executable, "-m", "runtime.video", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def outputs_in(folder: Path) -> dict[str, Path]:
    """All that the command can write, by option."""
    return {
        "out": folder / "o.mp4",
        "save_labels": folder / "labels",
        "json": folder / "report.json",
        "metrics": folder / "rows.jsonl",
    }


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of ``--metrics``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Started:
    """The command on ``source``, with all outputs in ``folder``, past its first written frame."""

    def __init__(self, fast: Path, source: str, folder: Path, *options: str) -> None:
        self.out, self.metrics, self.labels = folder / "o.mp4", folder / "rows", folder / "labels"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.process = start_video(
            source, "--bundle", fast, "--backend", "openvino", "--out", self.out,
            "--metrics", self.metrics, "--save-labels", self.labels, *options,
        )  # fmt: skip
        while not self.truth() and self.process.poll() is None:
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> float:
        """Send a signal; the seconds until the process has ended."""
        asked = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=HANG_S)
        return time.monotonic() - asked

    def whole(self) -> bool:
        """Whether the video, the rows and the label images are of the same frames."""
        return playable(self.out) == self.rows() == self.truth() > 0

    def truth(self) -> int:
        """Frames whose label image is there, each of which is whole as soon as it is there."""
        return len(list(self.labels.glob("*.png")))

    def rows(self) -> int:
        """Whole rows that are on the disk."""
        return self.metrics.read_bytes().count(b"\n") if self.metrics.exists() else 0


def killed(fast: Path, video: Path, out: Path, count: int) -> list[Check]:
    """kill -9 at random moments: what is lost of the video and of the rows."""
    plays, frames, rows, rng = 0, 0, 0, random.Random(0)
    for number in track(range(count), "kill -9", console=cli.err):
        run = Started(fast, str(video), out / str(number), "--realtime")
        time.sleep(rng.uniform(1.5, 3.5))
        run.end(signal.SIGKILL)
        truth, shown = run.truth(), playable(run.out)
        plays += shown > 0
        frames, rows = max(frames, truth - shown), max(rows, truth - run.rows())
    found = f"{plays} of {count} play; lost: {frames} frames of video, {rows / FPS:.1f} s of rows"
    bound = f"all play; ≤ 1 group of pictures ({GROUP} frames), ≤ 1 s of rows lost"
    passed = plays == count and frames <= GROUP + IN_HAND and rows <= FPS * (ROWS_S + SLACK_S)
    return [Check("kill -9", bound, found, passed)]


def terminated(fast: Path, video: Path, out: Path, count: int) -> list[Check]:
    """SIGTERM at random moments: how long until everything is written and the process has ended."""
    whole, slowest, rng = 0, 0.0, random.Random(1)
    for number in track(range(count), "SIGTERM", console=cli.err):
        run = Started(fast, str(video), out / str(number), "--realtime")
        time.sleep(rng.uniform(0.0, 3.0))
        slowest = max(slowest, run.end(signal.SIGTERM))
        whole += run.whole()
    found = f"{whole} of {count} whole, slowest {slowest:.1f} s"
    passed = whole == count and slowest <= END_S
    return [Check("SIGTERM", "all whole within 2 s", found, passed), *_stalled(fast, out)]


def _stalled(fast: Path, out: Path) -> list[Check]:
    """Ctrl-C while a camera has stopped sending."""
    with RtspServer([clip(*SIZE)], lambda _, frame: "stall" if frame > 60 else None) as server:
        run = Started(fast, server.url(), out / "stalled")
        server.wait_for("stall")
        time.sleep(0.5)
        seconds = run.end(signal.SIGINT)
    code = run.process.returncode
    found = f"{'whole' if run.whole() else 'NOT WHOLE'}, exit code {code}, {seconds:.1f} s"
    passed = run.whole() and code == EXIT_INTERRUPTED and seconds <= END_S
    return [Check("Ctrl-C in a stall", "whole within 2 s", found, passed)]


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
            isolated, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False
        )
    except FileNotFoundError:
        return [Check("disk full", bound, "not tried: no unshare on this system", None)]
    if run.returncode == 99:
        return [Check("disk full", bound, "not tried: mounting is not allowed here", None)]
    frames, lines = playable(out / "o.mp4"), run.stderr.strip().splitlines()
    passed = run.returncode == OutputError.exit_code and frames > 0 and len(lines) == 1
    found = f"exit code {run.returncode}, {len(lines)} line, {frames} frames play"
    return [Check("disk full", bound, found, passed)]
