"""Two machines that are processes here, one of which dies while it works."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.__main__ import main
from runtime.fleet.config import FleetConfig
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


def test_no_cluster_is_one_line(shared_bundle: Path, tmp_path: Path) -> None:
    video = drawn(tmp_path / "v.mp4", 1, 0)
    config = FleetConfig(
        (str(video),), tmp_path / "out", bundle=str(shared_bundle), address="127.0.0.1:1"
    )
    with pytest.raises(HedgeError, match=r"--address 127\.0\.0\.1:1: no cluster there"):
        main(config)
