"""Live sources: the newest frame first, back after every fault, nothing hung or told wrong."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.errors import HedgeError
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sources import network
from runtime.sources.address import Address
from runtime.sources.base import Frame, Source
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source
from runtime.sources.stdin import PipeSource
from runtime.video import VideoConfig, main
from runtime.web.hidden import redacted
from tests.equipment.check import left_open, open_files
from tests.equipment.http_server import mjpeg
from tests.equipment.rtsp import Clip, RtspServer, clip

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip(48, 64), clip(96, 128)]


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "onnxruntime", 1) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    before = open_files()
    yield
    assert not left_open(before)


def take(source: Source, count: int) -> list[Frame]:
    return [frame for frame, _ in zip(source, range(count), strict=False)]


def arrivals_after(source: LiveSource, count: int) -> int:
    """How many frames had arrived once ``count`` more had, by whatever clock this machine keeps."""
    deadline, wanted = time.monotonic() + 20, source.received + count
    while source.received < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return source.received


def test_every_arrival_is_iterated_or_dropped(clips: list[Clip]) -> None:
    with RtspServer(clips) as server, open_source(server.url()) as source:
        assert isinstance(source, LiveSource)
        indices, arrived = [], []
        for frame in source:
            arrived = arrived or [source.received]
            indices.append(frame.index)
            arrived.append(arrivals_after(source, 5))
            if len(indices) == 8:
                source.stop()
        assert source.received == len(indices) + source.dropped
    # Each was the newest when it was handed over.
    assert (np.diff(indices).cumsum() >= np.subtract(arrived[1:-1], arrived[0])).all()


def test_the_engine_gets_the_newest_frame(clips: list[Clip], segmenter: Segmenter) -> None:
    with RtspServer(clips) as server, open_source(server.url()) as source:
        assert isinstance(source, LiveSource)
        indices, arrived = [], []
        with closing(stream(source, segmenter, max_frames=6)) as predictions:
            for prediction in predictions:
                arrived = arrived or [source.received]
                indices.append(prediction.frame.index)
                arrived.append(arrivals_after(source, 5))
    assert len(indices) == 6
    # The caller is the slow part here: one frame waits in the queue and one in the engine, which
    # was the newest when the caller took the last but one. Never a backlog.
    assert (np.subtract(indices[3:], indices[0]) >= np.subtract(arrived[1:4], arrived[0])).all()


def test_a_dropped_connection_is_opened_again_and_is_a_gap(clips: list[Clip]) -> None:
    def script(connection: int, frame: int) -> str | None:
        return "drop" if connection < 2 and frame == 40 else None

    with RtspServer(clips, script) as server, open_source(server.url()) as source:
        assert isinstance(source, LiveSource)
        frames, told = [], list[str]()
        source.on_gap = told.append
        for frame in source:
            frames.append(frame)
            if len(told) == 4:
                break
        lost = "no frames (the stream ended); it is asked again until you stop"
        assert told[::2] == [lost, lost]
        assert [text[:20] for text in told[1::2]] == ["frames again, after "] * 2
        assert [gap.cause for gap in source.gaps.first] == ["the stream ended"] * 2
        assert all(0 < gap.seconds < 3 for gap in source.gaps.first)
        unseen_s = [0, source.gaps.first[0].seconds, source.gaps.seconds]
        assert sorted({frame.unseen_s for frame in frames}) == unseen_s
        times = [frame.time_s for frame in frames]
        assert times == sorted(times)
        assert all(frame.image.max() > 200 for frame in frames)  # no black frame is passed off


def test_a_stall_is_noticed_and_survived(
    clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "STALL_S", 1.0)

    def script(connection: int, frame: int) -> str | None:
        return "stall" if connection == 0 and frame == 40 else None

    with RtspServer(clips, script) as server, open_source(server.url()) as source:
        assert isinstance(source, LiveSource)
        arrivals = []
        for frame in source:
            arrivals.append(frame.arrived)
            if source.gaps.count:
                break
        assert source.gaps.first[0].cause == "nothing arrives"
        assert 1 <= source.gaps.first[0].seconds < 5
        stalled = server.wait_for("stall")
        again = next(t for what, t in server.events if what == "connect" and t > stalled)
        # What the decoder still held is no new frame.
        assert not [t for t in arrivals if stalled + network.STALL_S / 2 < t < again]


def test_frames_may_change_their_size(clips: list[Clip]) -> None:
    def script(connection: int, frame: int) -> str | None:
        return "swap" if frame == 60 else None

    with RtspServer(clips, script) as server, open_source(server.url()) as source:
        sizes = []
        for frame in source:
            sizes.append(frame.image.shape[:2])
            if len(set(sizes)) == 2:
                break
        assert sizes[0] == (48, 64)
        assert sizes[-1] == (96, 128)


def test_a_password_opens_and_is_never_shown(
    clips: list[Clip], shared_bundle: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with RtspServer(clips, login="me:geheim") as server:
        with pytest.raises(HedgeError, match="401") as caught:
            open_source(server.url("me:falsch"))
        assert "falsch" not in str(caught.value)
        report, rows = tmp_path / "report.json", tmp_path / "rows.jsonl"
        out = tmp_path / "out.mp4"
        config = VideoConfig(
            source=server.url("me:geheim"), bundle=shared_bundle, backend="onnxruntime",
            max_frames=5, json=report, metrics=rows, out=out,
        )  # fmt: skip
        assert main(config) == 0
    printed = capsys.readouterr()
    for text in (*(path.read_bytes() for path in (report, rows, out)), *map(str.encode, printed)):
        assert b"geheim" not in text
    told = msgspec.json.decode(report.read_bytes())
    assert told["source"].startswith("rtsp://***@127.0.0.1")
    assert told["frames_read"] == told["frames_written"] + told["frames_dropped"]
    assert set(told["latency_ms"]) == {"infer", "write", "age"}


def test_stop_wakes_a_source_that_waits(clips: list[Clip]) -> None:
    with (
        RtspServer(clips, lambda again, frame: "stall" if frame > 40 or again else None) as server,
        open_source(server.url()) as source,
    ):
        watcher = threading.Thread(target=take, args=(source, 10_000), daemon=True)
        watcher.start()
        server.wait_for("stall")
        source.stop()
        watcher.join(20)  # nothing would come for ever
        assert not watcher.is_alive()


@pytest.mark.parametrize("tcp", [False, "silent"])
def test_a_camera_that_speaks_udp_alone_opens(
    tcp: bool | str, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "OPEN_S", 1.5)
    monkeypatch.setattr(network, "STALL_S", 1.0)
    with RtspServer(clips, tcp=tcp) as server, open_source(server.url()) as source:
        frames = take(source, 20)
    assert len(frames) == 20
    assert all(frame.image.max() > 200 for frame in frames)
    assert source.damaged == 0


@pytest.mark.parametrize("told", [True, False])
def test_a_camera_joined_between_key_frames_comes_up(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "STALL_S", 0.8)  # less than until the next key frame, 2.4 s
    with (
        RtspServer([clip(48, 64, 75, gop=75)], first=15, told=told) as server,
        open_source(server.url()) as source,
    ):
        frames = take(source, 10)
        assert len(frames) == 10
        assert source.complaint() is None
        assert isinstance(source, LiveSource)
        assert source.gaps.count == 0
    assert all(frame.image.max() > 200 for frame in frames)


def test_a_bare_stream_joined_between_key_frames_comes_up(serve: Callable[..., str]) -> None:
    """H.264 without a container, times, or an end, as from a camera behind http://."""
    frames = clip(48, 64, 75, gop=25)

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for number in range(10, 1000):
            units = frames[number % len(frames)]
            request.wfile.write(b"".join(b"\0\0\0\1" + unit for unit in units))
            time.sleep(0.02)

    with open_source(serve(answer)) as source:
        seen = take(source, 20)
    assert len(seen) == 20
    assert all(frame.image.max() > 200 for frame in seen)
    assert source.damaged == 0


@pytest.mark.parametrize("kind", ["image/jpeg", "image/jpg", "image/jpeg; size=9"])
def test_web_cameras_are_read(kind: str, serve: Callable[..., str]) -> None:
    with open_source(serve(partial(mjpeg, kind=kind))) as source:
        frames = take(source, 5)
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 5


def test_a_file_in_real_time_keeps_its_clock_and_its_names(make_clip: Make, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 20)
    with open_source(str(path)) as whole:
        fps = float(whole.fps)
    with open_source(str(path), realtime=True) as source:
        assert isinstance(source, LiveSource)
        started = time.monotonic()
        frames = list(source)
        seconds = time.monotonic() - started
        assert source.complaint() is None
    assert seconds >= 19 / fps
    assert source.received == 20 == len(frames) + source.dropped
    assert [frame.name for frame in frames] == [f"{frame.index:06d}" for frame in frames]


def test_raw_frames_come_through_a_pipe() -> None:
    images = np.random.default_rng(0).integers(256, size=(3, 4, 6, 3), dtype=np.uint8)
    read, write = os.pipe()
    os.write(write, images.tobytes() + b"half")
    os.close(write)
    source = PipeSource((4, 6), read)
    frames = list(source)
    os.close(read)
    assert (np.stack([frame.image for frame in frames]) == images).all()
    assert source.complaint() == "standard input: 1 did not decode cleanly"


def test_the_command_reads_standard_input(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.write(write, bytes(3 * 32 * 48 * 3))
    os.close(write)
    report = tmp_path / "r.json"
    with os.fdopen(read) as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        config = VideoConfig("-", shared_bundle, "onnxruntime", raw_size=(32, 48), json=report)
        assert main(config) == 0
    told = msgspec.json.decode(report.read_bytes())
    assert (told["source"], told["frames_written"]) == ("standard input", 3)


def test_a_pipe_without_a_size_is_refused() -> None:
    with pytest.raises(HedgeError, match="--raw-size"):
        open_source("-")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:pw@host:554/a", "rtsp://***@host:554/a"),
        ("http://host/a?token=9#x", "http://host/a?***"),
        ("https://[::1]:8/a", "https://[::1]:8/a"),
        ("rtsp://me@host", "rtsp://***@host"),
    ],
)
def test_what_is_shown_of_an_address(text: str, shown: str) -> None:
    assert redacted(text) == shown
    address = Address.parse(text)
    assert address is not None
    assert address.shown == shown
    assert "pw" not in repr(address)


@pytest.mark.parametrize("text", ["concat://a", "file:///etc/passwd", "subfile://x", "rtsp://"])
def test_other_schemes_are_refused(text: str) -> None:
    with pytest.raises(HedgeError):
        Address.parse(text)
