"""Two machines that are processes here, one of which dies while it works."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.__main__ import main
from runtime.fleet.cluster import RayPool
from runtime.fleet.config import FleetConfig
from runtime.fleet.driver import Driver, Progress
from runtime.fleet.plan import plan
from runtime.fleet.work import Job
from tests.runtime.fleet.faults import cluster, drawn, serially, shards, wait_for, wrong


def test_a_machine_dies_and_no_frame_is_lost_or_there_twice(
    shared_bundle: Path, tmp_path: Path
) -> None:
    videos = [drawn(tmp_path / f"v{number}.mp4", 20, number) for number in range(2)]
    truth, labels = serially(videos, shared_bundle)
    poison = tmp_path / "poison.mp4"
    poison.write_bytes(b"no video" * 100)
    out, report = tmp_path / "out", tmp_path / "report.json"
    with cluster(2) as made:
        done_before: list[int] = []

        def kill() -> None:
            wait_for(lambda: shards(out))
            done_before.append(len(shards(out)))
            made.worker_nodes.pop().kill_all_processes(check_alive=False, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        config = FleetConfig(
            (str(tmp_path / "*.mp4"),), out, bundle=str(shared_bundle), address=made.address,
            span=2.5, cores=1, backend="onnxruntime", save_labels=True, json=report,
        )  # fmt: skip
        with pytest.raises(IncompleteError, match=r"poison\.mp4"):
            main(config)
        killer.join()
    assert done_before[0] < 16
    assert not wrong(out, truth, labels)
    told = json.loads(report.read_text())
    assert (told["frames"], told["spans_failed"], told["videos"]) == (400, 0, 3)
    poison.unlink()
    assert main(config) == 0  # all is done, so that nobody asks for the cluster, which is gone
    told = json.loads(report.read_text())
    assert (told["frames"], told["spans_done_before"]) == (400, told["spans"])
    assert not wrong(out, truth, labels)
    page = (out / "report.html").read_text()
    assert "<polygon" in page and "data:image/webp" in page and "<script" not in page


def test_a_span_that_hangs_costs_its_worker_and_is_tried_again(
    shared_bundle: Path, tmp_path: Path
) -> None:
    """A pipe that nobody writes into takes a video's place: to open it waits for ever."""
    videos = [drawn(tmp_path / f"v{number}.mp4", 2, number) for number in range(2)]
    spans = [
        span
        for _, found in plan([f"file://{video}" for video in videos], 60, "")
        if isinstance(found, list)
        for span in found
    ]
    video = videos[0].rename(tmp_path / "kept.mp4")
    os.mkfifo(videos[0])
    job = Job(
        str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1, silence_s=5.0
    )  # fmt: skip

    def told(progress: Progress) -> None:
        if progress.warnings and videos[0].is_fifo():
            video.replace(videos[0])

    with RayPool(job, os.cpu_count() or 1, None) as pool:
        progress = Driver(pool, lambda span: job.shards.path(span.id).exists(), told).run(spans)
    ((warning),) = progress.warnings
    assert "v0.mp4: nothing came of it for 5 s" in warning
    assert (progress.done, progress.retries, progress.failures) == (2, 1, [])
    rows = [job.shards.read(span.id)[1] for span in spans]
    assert [(row.frames, row.attempts) for row in rows] == [(20, 2), (20, 1)]


def test_no_cluster_is_one_line(shared_bundle: Path, tmp_path: Path) -> None:
    video = drawn(tmp_path / "v.mp4", 1, 0)
    config = FleetConfig(
        (str(video),), tmp_path / "out", bundle=str(shared_bundle), address="127.0.0.1:1"
    )
    with pytest.raises(HedgeError, match=r"--address 127\.0\.0\.1:1: no cluster there"):
        main(config)
