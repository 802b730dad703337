"""``python -m benchmarks.endurance``: what the streaming runtime does when the world misbehaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
from rich.progress import track
from rich.table import Table

from benchmarks.pipeline import drawn
from benchmarks.report import machine
from benchmarks.untrained import Case, bundle
from runtime import cli, files
from runtime.errors import EXIT_OK, HedgeError
from runtime.frames import Frame
from runtime.live import LiveSource
from runtime.manifest import BUNDLES
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sinks import VideoSink
from runtime.sources import open_source

MIB = 2**20
GROWTH = 10 * MIB  # of memory after warm-up that counts as a leak
AGE = 1.5  # times the inference: how old a shown frame may be
FPS = 30  # of the videos that are streamed
GROUP_S, ROWS_S = 2.0, 1.0  # what a killed process may lose: a group of pictures, unflushed rows
SLACK_S = 0.2  # the frame that is being written, and this machine's clock
HANG_S = 30.0


@dataclass(frozen=True)
class Endurance:
    """Live age, lost frames, leaks, killed and terminated runs, damaged videos: one table.

    Each line states its own bound, and the command ends with 4 when one is not met.

    Example: python -m benchmarks.endurance --frames 2000 --mutations 50
    """

    case: str = "mobilenet_v2:vanilla:96x160"
    """BACKBONE:VARIANT:HEIGHTxWIDTH of the fast network."""
    slow_case: str = "mobilenet_v2:dlse:896x1536"
    """The network of the live check, which a 30 fps source is too fast for."""
    frames: int = 10_000
    """Frames of the long run."""
    kills: int = 20
    """How often a writing process is killed; half as often it is asked to end."""
    mutations: int = 300
    """Damaged videos."""
    out: Path = BUNDLES / "endurance"
    """Folder of the bundles, of what is written, and of report.json."""


@dataclass(frozen=True)
class Check:
    """A line of the table: what was found, in words, and whether it is within its bound."""

    name: str
    bound: str
    found: str
    passed: bool


def main(config: Endurance) -> int:
    """The command."""
    if min(config.frames, config.kills, config.mutations) < 2:
        raise HedgeError("--frames, --kills and --mutations are at least 2")
    config.out.mkdir(parents=True, exist_ok=True)
    fast = bundle(Case.parse(config.case), "int8", config.out, force=False)
    slow = bundle(Case.parse(config.slow_case), "int8", config.out, force=False)
    video = small_video(config.out / "small.mp4", 300)
    checks = [
        live(slow, drawn(config.out / "street.mp4", 150)),
        *long_run(fast, video, config.frames),
        killed(fast, video, config.out / "killed", config.kills),
        terminated(fast, video, config.out / "terminated", max(1, config.kills // 2)),
        damaged(
            fast,
            [video, indexed(video, config.out / "indexed.mp4")],
            config.out / "damaged.mp4",
            config.mutations,
        ),
    ]
    table = Table("check", "bound", "found", "")
    for check in checks:
        table.add_row(check.name, check.bound, check.found, "yes" if check.passed else "NO")
    cli.out.print(table)
    report: dict[str, Any] = {"machine": machine(), "checks": checks}
    path = config.out / "report.json"
    files.write_bytes(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    cli.out.print(f"→ {path}", markup=False)
    failed = [check.name for check in checks if not check.passed]
    return cli.fail(f"not met: {', '.join(failed)}", 4) if failed else EXIT_OK


def small_video(path: Path, count: int) -> Path:
    """A drifting pattern of 96×160 at 30 fps."""
    if not path.exists():
        pattern = np.random.default_rng(0).integers(256, size=(96, 640, 3), dtype=np.uint8)
        with VideoSink(path, Fraction(30)) as sink:
            for number in range(count):
                start = number % 480
                sink.write(np.ascontiguousarray(pattern[:, start : start + 160]))
    return path


def indexed(video: Path, path: Path) -> Path:
    """The same video with its index, and the number of its frames, at the front."""
    with (
        av.open(str(video)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def live(slow: Path, video: Path) -> Check:
    """Thirty frames a second into an engine of about five."""
    with (
        Segmenter(slow, "openvino", threads=1) as segmenter,
        open_source(str(video), realtime=True) as source,
        closing(stream(source, segmenter)) as predictions,
    ):
        assert isinstance(source, LiveSource)
        segmenter.warm_up()
        ages, times = [], []
        for prediction in predictions:
            ages.append((time.monotonic() - prediction.frame.arrived) * 1e3)
            times.append(prediction.infer_ms)
        inferred, infer_ms = len(ages), float(np.median(times))
        age = float(np.percentile(ages, 95))
        exact = source.received == inferred + source.dropped
    found = (
        f"{age:.0f} ms with {infer_ms:.0f} ms a frame ({age / infer_ms:.2f}×); "
        f"{source.received} read, {inferred} inferred, {source.dropped} dropped"
    )
    bound = f"p95 age ≤ {AGE} × inference; read = inferred + dropped"
    return Check("live, 30 fps", bound, found, exact and age <= AGE * infer_ms)


def long_run(fast: Path, video: Path, count: int) -> list[Check]:
    """Files lose nothing and memory stays; the same check finds a leak that is planted."""
    with Segmenter(fast, "openvino", threads=2) as segmenter:
        done, growth = _endless(segmenter, video, count, leaking=False)
        _, leaked = _endless(segmenter, video, max(count // 10, 300), leaking=True)
    return [
        Check(f"{count} frames", "none lost", f"{count - done} lost", done == count),
        Check("memory", "≤ 10 MiB after warm-up", f"{growth / MIB:+.1f} MiB", growth <= GROWTH),
        Check("planted leak", "is found", f"{leaked / MIB:+.1f} MiB", leaked > GROWTH),
    ]


def _endless(segmenter: Segmenter, video: Path, count: int, leaking: bool) -> tuple[int, int]:
    """Frames that came out in order, and bytes of memory more than after a tenth of them."""
    with open_source(str(video)) as source:
        images = [frame.image for frame in source]
    endless = enumerate(islice(cycle(images), count))
    frames = (Frame(index, index / FPS, image, str(index)) for index, image in endless)
    kept: list[np.ndarray] = []
    warm, done = 0, 0
    answers = stream(frames, segmenter)
    for prediction in track(answers, f"{count} frames", total=count, console=cli.err):
        done += prediction.frame.index == done
        if leaking:
            kept.append(np.ones((256, 256), np.uint8))
        if done == count // 10:
            warm = resident()
    return done, resident() - warm


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def killed(fast: Path, video: Path, out: Path, count: int) -> Check:
    """kill -9 at random moments: what is lost of the video and of the rows.

    The label images, each of which is whole as soon as it is there, tell how far a run had come.
    """
    playable, video_s, rows_s, rng = 0, 0.0, 0.0, random.Random(0)
    for number in track(range(count), "kill -9", console=cli.err):
        run = Started(fast, video, out / str(number))
        time.sleep(rng.uniform(2.5, 6.0))
        run.process.kill()
        run.process.wait()
        shown, rows, truth = run.shown(), run.rows(), run.truth()
        playable += shown > 0
        video_s, rows_s = max(video_s, (truth - shown) / FPS), max(rows_s, (truth - rows) / FPS)
    found = f"{playable} of {count} play; lost: {video_s:.1f} s of video, {rows_s:.1f} s of rows"
    passed = playable == count and video_s <= GROUP_S + SLACK_S and rows_s <= ROWS_S + SLACK_S
    return Check("kill -9", "all play, ≤ 2 s of video, ≤ 1 s of rows lost", found, passed)


def terminated(fast: Path, video: Path, out: Path, count: int) -> Check:
    """SIGTERM at random moments: how long until everything is written and the process has ended."""
    whole, slowest, rng = 0, 0.0, random.Random(1)
    for number in track(range(count), "SIGTERM", console=cli.err):
        run = Started(fast, video, out / str(number))
        time.sleep(rng.uniform(1.0, 6.0))
        asked = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(HANG_S)
        slowest = max(slowest, time.monotonic() - asked)
        whole += run.shown() == run.rows() == run.truth()
    found = f"{whole} of {count} whole, slowest {slowest:.1f} s"
    return Check("SIGTERM", "all whole within 2 s", found, whole == count and slowest <= 2.0)


class Started:
    """``runtime.video`` in a process of its own, past its start, with all outputs in ``folder``."""

    def __init__(self, fast: Path, video: Path, folder: Path) -> None:
        self.out, self.metrics, self.labels = folder / "o.mp4", folder / "rows", folder / "labels"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command: list[str | Path] = [
            sys.executable, "-m", "runtime.video", video, "--realtime", "--bundle", fast,
            "--backend", "openvino", "--out", self.out, "--metrics", self.metrics,
            "--save-labels", self.labels,
        ]  # fmt: skip
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        while not self.truth() and self.process.poll() is None:
            time.sleep(0.02)

    def truth(self) -> int:
        """Frames whose label image is there."""
        return len(list(self.labels.glob("*.png")))

    def rows(self) -> int:
        """Whole rows that are on the disk."""
        return self.metrics.read_bytes().count(b"\n") if self.metrics.exists() else 0

    def shown(self) -> int:
        """Frames that a player gets out of the video."""
        if not self.out.exists() or not self.out.stat().st_size:
            return 0
        try:
            with av.open(str(self.out)) as container:
                return sum(1 for _ in container.decode(video=0))
        except av.FFmpegError:
            return 0


def damaged(fast: Path, videos: Sequence[Path], path: Path, count: int) -> Check:
    """Flipped and cut videos: an answer or one line each, no hang, no silent shortfall."""
    originals, rng = [video.read_bytes() for video in videos], random.Random(2)
    counts: Counter[str] = Counter()
    slowest, example = 0.0, ""
    with Segmenter(fast, "openvino", threads=2) as segmenter:
        for number in track(range(count), "damaged videos", console=cli.err):
            path.write_bytes(mutated(originals[number % len(originals)], rng))
            start = time.monotonic()
            try:
                counts[_outcome(path, segmenter)] += 1
            except HedgeError:
                counts["refused"] += 1
            except Exception as error:  # what a user would see as a traceback
                counts["tracebacks"] += 1
                example = f" ({type(error).__name__}: {error})"
            slowest = max(slowest, time.monotonic() - start)
    path.unlink(missing_ok=True)
    outcomes = ("refused", "reported", "whole", "silently short", "tracebacks")
    found = ", ".join(f"{counts[name]} {name}" for name in outcomes) + example
    passed = not counts["tracebacks"] and not counts["silently short"] and slowest <= HANG_S
    found += f"; slowest {slowest:.1f} s"
    return Check("damaged videos", "no traceback, no hang, nothing silent", found, passed)


def _outcome(path: Path, segmenter: Segmenter) -> str:
    with open_source(str(path)) as source:
        frames = sum(1 for _ in stream(source, segmenter))
        if source.complaint() is not None:
            return "reported"
        return "silently short" if frames < (source.expected or 0) else "whole"


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """``whole`` with 1 to 200 bytes changed, or cut, or both."""
    data = bytearray(whole)
    kind = rng.choice(("flip", "cut", "both"))
    if kind != "cut":
        for _ in range(rng.choice((1, 5, 50, 200))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if kind != "flip":
        del data[rng.randrange(1, len(data)) :]
    return bytes(data)


if __name__ == "__main__":
    cli.run(Endurance, main, "python -m benchmarks.endurance")
