"""Spans: where videos are cut, and that their frames are those of the whole video."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
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
from runtime.fleet.places import find_videos, local_bundle
from runtime.fleet.plan import Packets, Span, Unplanned, cuts, plan
from runtime.fleet.run import check_labels, check_scored, label_names
from runtime.fleet.shards import PIXELS, Shards, SpanRow, row_of
from runtime.fleet.video.labels import join, read_labels
from runtime.fleet.work import Bench, Job, StalledError, class_pixels, segment_span, watched
from runtime.outputs.video_file import VideoSink
from runtime.video import VideoConfig, main
from tests.equipment.videos import make_timed, noise
from tests.runtime.fleet.faults import wait_for

OPEN_GOP = {"bf": "3", "b_strategy": "0", "sc_threshold": "0", "x264-params": "open-gop=1"}
SECOND = [Fraction(i, 30) for i in range(60)]


def one_of(kind: str, folder: Path) -> Path:
    """A video of 60 frames at 30 a second, with a key frame in every twelve, or so."""
    if kind == "fragmented":
        with VideoSink(folder / "fragmented.mp4", Fraction(10)) as sink:
            for number in range(60):
                sink.write(noise(number))
        return folder / "fragmented.mp4"
    name = "open.mp4" if kind == "open" else f"a.{kind}"
    encoder = OPEN_GOP if kind == "open" else None
    return make_timed(folder / name, SECOND, image=noise, encoder=encoder)


def planned(video: Path, every_s: float) -> list[Span]:
    ((_, spans),) = plan([str(video)], every_s, "")
    assert not isinstance(spans, Unplanned)
    return spans


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


def test_a_video_that_is_none_is_named_and_the_others_are_planned(tmp_path: Path) -> None:
    poison = tmp_path / "poison.mp4"
    poison.write_bytes(b"no video" * 99)
    good = one_of("mp4", tmp_path)
    (_, bad), (_, spans) = plan([str(poison), str(good)], 60, "")
    assert isinstance(bad, Unplanned) and str(poison) in bad.why
    assert isinstance(spans, list) and len(spans) == 1


def test_a_name_that_is_no_text_is_told_and_the_others_are_planned(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    good = make_clip(tmp_path / "new\nline.mp4", 3)
    try:
        odd = make_clip(tmp_path / "a.mp4", 3).rename(tmp_path / "stra\udcdfe.mp4")
    except (OSError, UnicodeEncodeError):
        pytest.skip("no such name can be given on this file system")
    found = dict(plan([str(good), str(odd)], 60.0, "key"))
    assert isinstance(found[str(good)], list)
    unplanned = found[str(odd)]
    assert isinstance(unplanned, Unplanned) and "no text (UTF-8)" in unplanned.why
    json.dumps(unplanned.video, ensure_ascii=False).encode()


def test_a_result_depends_on_the_video_and_on_what_is_asked(tmp_path: Path) -> None:
    video = one_of("mp4", tmp_path)
    ids = [span.id for span in planned(video, 0.5)]
    ((_, others),) = plan([str(video)], 0.5, "another bundle")
    assert isinstance(others, list)
    assert ids == [span.id for span in planned(video, 0.5)]
    assert not set(ids) & {span.id for span in others}


def test_a_result_depends_on_the_labels_of_the_video_alone(tmp_path: Path) -> None:
    video, labels = str(one_of("mp4", tmp_path)), tmp_path / "labels"

    def id() -> str:
        ((_, spans),) = plan([video], 60, "", labels)
        assert isinstance(spans, list)
        return spans[0].id

    (own := labels / Path(video).stem).mkdir(parents=True)
    (label := own / "000000.png").write_bytes(b"first")
    before = id()
    (labels / "other").mkdir()
    (labels / "other" / "000000.png").write_bytes(b"of another video")
    assert id() == before
    label.write_bytes(b"corrected")
    assert id() != before


def test_videos_and_bundles_by_address(
    shared_bundle: Path, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    video = make_clip(tmp_path / "a.mp4", 7)
    address = f"file://{tmp_path}/*.mp4"
    assert find_videos([str(tmp_path / "*.mp4"), address]) == [str(video), f"file://{video}"]
    with pytest.raises(HedgeError, match="matches no file"):
        find_videos([str(tmp_path / "*.mov")])
    bundle = local_bundle(f"file://{shared_bundle}")
    assert bundle != shared_bundle and bundle == local_bundle(f"file://{shared_bundle}")
    job = Job(f"file://{shared_bundle}", tmp_path / "out", "onnxruntime", threads=1)
    ((_, spans),) = plan([f"file://{video}"], 60, "")
    assert isinstance(spans, list)
    with Bench(job) as bench:
        assert segment_span(spans[0], bench).frames == 7


@pytest.mark.parametrize("ask", [lambda address: find_videos([address]), local_bundle])
def test_an_address_that_nothing_here_opens_is_one_line_without_its_password(
    ask: Callable[[str], object],
) -> None:
    """Its file system may not be installed, as s3fs; fsspec says which it is."""
    with pytest.raises(HedgeError, match=r"^unheard://\*\*\*@place/x: .*Protocol not known"):
        ask("unheard://user:secret@place/x")


def test_labels_are_of_one_video_each(tmp_path: Path) -> None:
    labels, videos = tmp_path / "labels", ["/mon/front.mp4", "/mon/rear.mp4", "/tue/front.mkv"]
    with pytest.raises(HedgeError, match=r"labels: no such folder of labels"):
        check_labels(labels, videos)
    labels.mkdir()
    (labels / "000000.png").touch()  # as hedge video --labels has them
    with pytest.raises(HedgeError, match=r"labels of /mon/front.mp4 lie in \S+/labels/front$"):
        check_labels(labels, videos)
    (labels / "rear").mkdir()
    check_labels(labels, videos)
    (labels / "front").mkdir()
    with pytest.raises(HedgeError, match=r"front: labels of /mon/front.mp4 or of /tue/front.mkv"):
        check_labels(labels, videos)
    check_labels(labels, videos[:2])


def test_labels_of_which_none_is_of_a_frame_are_told(tmp_path: Path) -> None:
    labels, videos = tmp_path / "labels", ["/mon/front.mp4", "/mon/rear.mp4", "/mon/none.mp4"]
    spans = [Span(f"{video}{at}", video, at, None) for video in videos for at in (0, 9)]
    rows = [row_of(span, 1) for span in spans]
    for name in ("front", "rear"):
        (labels / name).mkdir(parents=True)
        (labels / name / "frame_000001.png").touch()  # as ffmpeg's frames are often called
    rows[0].confusion = [1] * 9  # a span of a video is enough
    with pytest.raises(HedgeError, match=r"/rear: no label here belongs to a frame of /mon/rear"):
        check_scored(labels, rows)
    rows[3].confusion = [1] * 9
    check_scored(labels, rows)


def test_labels_are_called_as_their_video_whichever_are_done() -> None:
    videos = ["/mon/front.mp4", "/mon/rear.mp4", "/tue/front.mp4", "/wed/front.mkv"]
    assert list(label_names(videos)) == videos
    assert list(label_names(videos).values()) == ["front", "rear", "front-2", "front-2-2"]
