"""A cluster of three machines that are processes here, and what becomes of a run when they die.

``python -m tests.runtime.fleet.faults OUT`` tries all of it and prints a line each.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

from runtime.fleet.shards import PIXELS
from runtime.fleet.video.labels import read_labels
from runtime.fleet.work import class_pixels
from runtime.outputs.video_file import VideoSink
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sources.video_file import open_video
from tests.equipment.bundles import make_bundle

ROOT = Path(__file__).parents[3]
FPS = 10
SIZE = (96, 160)
Process = subprocess.Popen[str]
Truth = dict[str, list[tuple[int, float, list[int]]]]  # by video: number, time and pixels of frames


def drawn(path: Path, seconds: int, seed: int) -> Path:
    """A drifting pattern, with a key frame every second."""
    pattern = np.random.default_rng(seed).integers(256, size=(*SIZE, 3), dtype=np.uint8)
    with VideoSink(path, Fraction(FPS)) as sink:
        for number in range(seconds * FPS):
            sink.write(np.ascontiguousarray(np.roll(pattern, 3 * number, axis=1)))
    return path


def serially(videos: list[Path], bundle: Path) -> tuple[Truth, dict[str, list[np.ndarray]]]:
    """What one process finds, a frame after the other."""
    truth: Truth = {}
    labels: dict[str, list[np.ndarray]] = {}
    with Segmenter(bundle, "onnxruntime", threads=1) as segmenter:
        count = len(segmenter.classes)
        for video in videos:
            with open_video(video) as source:
                found = list(stream(source, segmenter))
            truth[str(video)] = [
                (p.frame.index, p.frame.time_s, class_pixels(p.labels, count).tolist())
                for p in found
            ]
            labels[video.stem] = [p.labels for p in found]
    return truth, labels


@contextmanager
def cluster(machines: int) -> Iterator[Cluster]:
    """A head without cores, so that every machine that works can be killed, and the machines."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    options = {"include_dashboard": False, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    try:
        for _ in range(machines):
            made.add_node(num_cpus=1, wait=False, object_store_memory=80 << 20)
        made.wait_for_nodes(timeout=120)
        yield made
    finally:
        made.shutdown()


def start(address: str, videos: list[Path], bundle: Path, out: Path, *more: str) -> Process:
    """The command in a process of its own."""
    command = [
        sys.executable, "-m", "runtime.fleet", *map(str, videos), "--bundle", str(bundle),
        "--out", str(out), "--address", address, "--cores", "1", "--span", "5",
        "--backend", "onnxruntime", "--save-labels", "--json", str(out.with_suffix(".json")), *more,
    ]  # fmt: skip
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def shards(out: Path) -> list[Path]:
    """The spans that are done."""
    return list((out / "spans").glob("*.parquet"))


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)


def workers() -> list[psutil.Process]:
    """The processes of the fleet's workers."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith("ray::Worker"):
            found.append(process)
    return found


def wrong(out: Path, truth: Truth, labels: dict[str, list[np.ndarray]]) -> list[str]:
    """What differs from the serial run, or was left behind; nothing where all is well."""
    faults = [f"left: {path.name}" for path in out.rglob(".*part-*")]
    found: Truth = {}
    for row in pq.read_table(out / "frames.parquet").to_pylist():
        pixels = [value for name, value in row.items() if name.startswith(PIXELS)]
        found.setdefault(row["video"], []).append((row["frame"], row["time_s"], pixels))
    faults += [f"rows of {Path(v).name}" for v in truth if found.get(v) != truth[v]]
    for name, images in labels.items():
        same = list(read_labels(out / "labels" / f"{name}.mkv"))
        if len(same) != len(images) or not all(map(np.array_equal, same, images)):
            faults.append(f"labels of {name}")
    return faults


class Trial:
    """Videos, what is true of them, and a cluster that is damaged while it works on them."""

    def __init__(self, folder: Path, made: Cluster, videos: int = 6, seconds: int = 40) -> None:
        self.folder, self.cluster = folder, made
        folder.mkdir(parents=True, exist_ok=True)
        self.bundle = make_bundle(folder / "tiny")
        self.videos = [drawn(folder / f"v{n}.mp4", seconds, n) for n in range(videos)]
        self.truth, self.labels = serially(self.videos, self.bundle)

    def run(
        self, name: str, hurt: Callable[[Process], None] = lambda process: None, code: int = 0,
        extra: tuple[Path, ...] = (), after: int = 2,
    ) -> str:  # fmt: skip
        """Start, hurt it when some spans are done, and compare; one line on what came of it."""
        out = self.folder / name
        process = start(self.cluster.address, [*self.videos, *extra], self.bundle, out)
        try:
            wait_for(lambda: len(shards(out)) >= after or process.poll() is not None)
            hurt(process)
            _, told = process.communicate(timeout=240)
        finally:
            process.kill()
        faults = (
            wrong(out, self.truth, self.labels)
            if (out / "frames.parquet").exists()
            else ["no table"]
        )
        faults += (
            [] if process.returncode == code else [f"code {process.returncode}: {told[-400:]}"]
        )
        report = json.loads(out.with_suffix(".json").read_text())
        counts = ", ".join(f"{report[key]} {key}" for key in ("frames", "workers", "retries"))
        return f"{name}: {'; '.join(faults) or 'as the serial run'} ({counts})"

    def kill_worker(self, process: Process) -> None:
        """kill -9 of one worker."""
        workers()[0].kill()

    def kill_machine(self, process: Process) -> None:
        """kill -9 of a machine's processes; the longest time without a new span after it."""
        node = self.cluster.worker_nodes.pop()
        began = time.monotonic()
        node.kill_all_processes(check_alive=False, allow_graceful=False)
        seen, last, gap = len(shards(self.folder / "machine")), began, 0.0
        while process.poll() is None and seen < 48:
            now = len(shards(self.folder / "machine"))
            if now > seen:
                gap, seen, last = max(gap, time.monotonic() - last), now, time.monotonic()
            time.sleep(0.005)
        print(f"  longest time without a new span on the survivors: {gap:.2f} s", flush=True)

    def add_machine(self, process: Process) -> None:
        """Another machine joins while all others stand still, and does two spans at least."""
        before = workers()
        for worker in before:
            worker.suspend()
        done = len(shards(self.folder / "joins"))
        self.cluster.add_node(num_cpus=1, wait=False, object_store_memory=80 << 20)
        wait_for(lambda: len(shards(self.folder / "joins")) > done + 1)
        for worker in before:
            worker.resume()

    def drain_machine(self, process: Process) -> None:
        """A machine is told to leave: no span of its is handed out again as lost."""
        node = next(iter(self.cluster.worker_nodes)).node_id
        ray_command = str(Path(sys.executable).with_name("ray"))
        subprocess.run(
            [
                ray_command, "drain-node", "--address", self.cluster.address, "--node-id", node,
                "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a trial",
                "--deadline-remaining-seconds", "600",
            ],
            check=True, capture_output=True,
        )  # fmt: skip

    def kill_driver(self, process: Process) -> None:
        """kill -9 of the command, and a second start."""
        process.kill()
        process.wait()
        left = len(shards(self.folder / "driver"))
        print(f"  driver killed with {left} spans done", flush=True)

    def fill_disk(self, process: Process) -> None:
        """Let one worker write no file beyond 1 KiB any more."""
        resource.prlimit(workers()[0].pid, resource.RLIMIT_FSIZE, (1024, 1024))


def main(folder: Path) -> None:
    """Try everything."""
    with cluster(3) as made:
        trial = Trial(folder, made)
        print(
            f"{len(trial.videos)} videos, {sum(map(len, trial.truth.values()))} frames", flush=True
        )
        print(trial.run("whole"), flush=True)
        print(trial.run("worker", trial.kill_worker), flush=True)
        print(trial.run("disk", trial.fill_disk), flush=True)
        try:
            trial.run("driver", trial.kill_driver, code=-9)
        except FileNotFoundError:  # it wrote no report
            print(trial.run("driver"), flush=True)
        second = start(made.address, trial.videos, trial.bundle, trial.folder / "two")
        print(trial.run("two"), flush=True)
        print(f"  the other one: code {second.wait()}", flush=True)
        poison = folder / "poison.mp4"
        poison.write_bytes(b"no video" * 1000)
        cut = folder / "cut.mp4"
        whole = trial.videos[0].read_bytes()
        middle = len(whole) // 2
        cut.write_bytes(whole[:middle] + bytes(20_000) + whole[middle + 20_000 :])
        print(trial.run("poison", code=3, extra=(poison,)), flush=True)
        print(trial.run("damaged", code=3, extra=(cut,)), flush=True)
        print(trial.run("joins", trial.add_machine), flush=True)
        print(trial.run("drains", trial.drain_machine), flush=True)
        print(trial.run("machine", trial.kill_machine), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
