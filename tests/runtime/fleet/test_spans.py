"""Spans: where videos are cut, and that their frames are those of the whole video."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from runtime.errors import HedgeError
from runtime.fleet.plan import Packets, cuts
from runtime.fleet.shards import PIXELS, Shards, SpanRow
from runtime.fleet.video.labels import join, read_labels
from runtime.fleet.work import Bench, Job, StalledError, class_pixels, segment_span, watched
from runtime.video import VideoConfig, main
from tests.runtime.fleet.faults import wait_for
from tests.runtime.fleet.videos import one_of, planned


def serial(
    video: Path, bundle: Path, folder: Path
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Rows and labels of ``runtime.video``."""
    rows, labels = folder / "rows.jsonl", folder / "serial"
    options: dict[str, Any] = {"backend": "onnxruntime", "metrics": rows, "save_labels": labels}
    main(VideoConfig(str(video), bundle=bundle, reference=bundle, **options))
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    return found, [np.asarray(Image.open(path)) for path in sorted(labels.iterdir())]


@pytest.mark.parametrize(
    ("kind", "count"), [("mp4", 3), ("open", 3), ("mkv", 3), ("fragmented", 6), ("ts", 1)]
)
def test_the_frames_of_all_spans_are_those_of_the_video(
    kind: str, count: int, shared_bundle: Path, tmp_path: Path
) -> None:
    video = one_of(kind, tmp_path)
    spans = planned(video, 0.5)
    assert len(spans) == count
    job = Job(
        str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1,
        reference=str(shared_bundle), save_labels=True,
    )  # fmt: skip
    with Bench(job) as bench:
        rows = [segment_span(span, bench) for span in reversed(spans)]
    assert [row.complaint for row in rows] == [""] * count
    expected, images = serial(video, shared_bundle, tmp_path)
    found = [frame for span in spans for frame in job.shards.read(span.id)[0].to_pylist()]
    assert [frame["frame"] for frame in found] == [row["index"] for row in expected]
    assert [frame["time_s"] for frame in found] == pytest.approx([r["time_s"] for r in expected])
    for name in ("agreement", "flicker", "flicker_reference"):
        assert [frame[name] for frame in found] == [row[name] for row in expected]
    join([job.label_part(span.id) for span in spans], tmp_path / "labels.mkv")
    labels = list(read_labels(tmp_path / "labels.mkv"))
    assert len(labels) == len(images) == 60
    assert all(np.array_equal(*pair) for pair in zip(labels, images, strict=True))
    heads = [PIXELS + name for name in bench.segmenter.classes.names]
    assert [[frame[head] for head in heads] for frame in found] == [
        np.bincount(image.ravel(), minlength=len(heads)).tolist() for image in images
    ]


def test_a_cut_is_the_first_key_frame_after_each_minute() -> None:
    keys = np.zeros(400, bool)
    keys[[0, 50, 110, 130, 260, 399]] = True
    packets = Packets(np.arange(400), keys, Fraction(1), exact=True, zero=0)
    assert cuts(packets, 60) == [110, 260, 399]
    assert cuts(packets, 1000) == []


def test_labels_of_odd_sizes_survive(tmp_path: Path) -> None:
    from runtime.fleet.video.labels import LabelVideo

    labels = np.random.default_rng(0).integers(256, size=(3, 47, 63), dtype=np.uint8)
    with LabelVideo(tmp_path / "a.mkv", Fraction(30)) as video:
        for number, image in enumerate(labels):
            video.write(image, number / 30)
    assert np.array_equal(list(read_labels(tmp_path / "a.mkv")), labels)


@pytest.mark.parametrize("size", [(5, 7), (4097, 4096)])
def test_pixels_are_counted_exactly(size: tuple[int, int]) -> None:
    labels = np.full(size, 2, np.uint8)
    labels[0, :3] = (0, 255, 1)
    assert class_pixels(labels, 3).tolist() == [1, 1, labels.size - 3]


def test_the_first_that_writes_a_span_has_done_it(shared_bundle: Path, tmp_path: Path) -> None:
    video = one_of("mp4", tmp_path)
    job = Job(str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1)
    (span, *_) = planned(video, 0.5)
    with Bench(job) as bench:
        first = segment_span(span, bench)
        table, _ = job.shards.read(span.id)
        again = segment_span(span, bench, attempt=2)
        job.shards.write(table.slice(0, 1), again)
    assert (first.attempts, again.attempts) == (1, 1)
    assert job.shards.read(span.id)[0].num_rows == first.frames


class Watched(Shards):
    """The files of spans, written one at a time, when the engines are free for another span."""

    turn = threading.Lock()

    def write(self, table: pa.Table, row: SpanRow, picture: bytes = b"") -> None:
        with self.turn:
            super().write(table, row, picture)


class WatchedJob(Job):
    @property
    def shards(self) -> Watched:
        return Watched(self.out / "spans")


def test_a_span_begins_and_ends_while_another_is_segmented(
    shared_bundle: Path, tmp_path: Path
) -> None:
    """Its video is opened before its turn, and its file is written after it."""
    spans = planned(one_of("mp4", tmp_path), 0.5)
    poison = tmp_path / "poison.mp4"
    poison.write_bytes(b"no video" * 99)
    job = WatchedJob(str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1)
    with Bench(job) as bench, ThreadPoolExecutor(3) as pool:
        Watched.turn = bench.turn  # it is no lock that a thread may take twice
        rows = [pool.submit(segment_span, span, bench) for span in spans]
        assert [row.result(timeout=60).frames for row in rows] == [24, 24, 12]
        with bench.turn:  # taken: a video that cannot be read is told all the same
            lost = pool.submit(segment_span, replace(spans[1], video=str(poison)), bench)
            with pytest.raises(HedgeError, match=r"poison\.mp4"):
                lost.result(timeout=60)
    found = [frame["frame"] for span in spans for frame in job.shards.read(span.id)[0].to_pylist()]
    assert found == list(range(60))


class Stuck(LocalFileSystem):
    """Files whose middle, from 30 to 60 kB, nobody reads until ``free`` is set."""

    protocol = "stuck"
    free = threading.Event()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        class File(FileIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if 30_000 < self.tell() < 60_000:
                    Stuck.free.wait()
                return super().read(size)

        return File(path)


def test_a_span_that_hangs_is_given_up_and_one_that_waits_for_it_is_not(
    shared_bundle: Path, tmp_path: Path
) -> None:
    (span, other, _) = planned(one_of("mkv", tmp_path), 0.5)
    fsspec.register_implementation("stuck", Stuck, clobber=True)
    job = Job(
        str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1, silence_s=3.0
    )  # fmt: skip
    with Bench(job) as bench, ThreadPoolExecutor(2) as pool:
        try:
            hanging = pool.submit(watched, replace(span, video=f"stuck://{span.video}"), bench)
            wait_for(bench.turn.locked)
            waiting = pool.submit(watched, other, bench)
            with pytest.raises(StalledError, match=r"a\.mkv: nothing came of it for 3 s"):
                hanging.result(timeout=60)
            assert not wait([waiting], 2 * job.silence_s).done
        finally:
            Stuck.free.set()
        assert waiting.result(timeout=60).frames == 24
    assert job.shards.whole() >= {other.id}


def test_what_is_whole_is_done_and_what_is_not_is_removed(
    shared_bundle: Path, tmp_path: Path
) -> None:
    job = Job(str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1)
    spans = planned(one_of("mp4", tmp_path), 0.5)
    with Bench(job) as bench:
        for span in spans:
            segment_span(span, bench)
    cut = job.shards.path(spans[1].id)
    cut.write_bytes(cut.read_bytes()[:-100])
    (job.shards.folder / ".x.parquet.part-1").write_bytes(b"")
    assert job.shards.whole() == {span.id for span in spans} - {spans[1].id}
    assert not cut.exists()
    assert Shards(tmp_path / "nowhere").whole() == set()
