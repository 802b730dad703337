"""Recordings and playlists from the network: all is played, this machine's files never are."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import HedgeError, IncompleteError
from runtime.interrupt import raising_interrupt
from runtime.sources.address import SCHEMES
from runtime.sources.base import Frame
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from tests.equipment.http_server import breaking, pages
from tests.equipment.videos import make_clip, make_timed, noise

Put = Callable[[str, bytes], str]
HEADER = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n"
END = "#EXT-X-ENDLIST\n"


def piece(path: Path, grey: int) -> bytes:
    """Two seconds of one grey as an MPEG transport stream."""
    images = [np.full((48, 64, 3), grey, np.uint8)] * 20
    return make_clip(path, images, codec="libx264", pixels="yuv420p").read_bytes()


@pytest.fixture
def put(serve: Callable[..., str]) -> Put:
    """Serve bytes under a name; its address. Bytes that are an address redirect to it."""
    bodies: dict[str, bytes] = {}
    address = serve(pages(bodies))

    def keep(name: str, body: bytes) -> str:
        bodies[f"/{name}"] = body
        return f"{address}/{name}"

    return keep


def test_the_pieces_of_a_playlist_are_played(put: Put, tmp_path: Path) -> None:
    for number, level in enumerate((60, 180)):
        put(f"{number}.ts", piece(tmp_path / "piece.ts", level))
    pieces = "#EXTINF:2,\n0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n1.ts\n"
    with open_source(put("a.m3u8", (HEADER + pieces + END).encode())) as source:
        frames = list(source)  # it says how long it is, so it ends, and waits for a slow engine
        assert source.complaint() is None
    assert [round(frame.image.mean() / 60) for frame in frames] == [1] * 20 + [3] * 20
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(40) / 10, abs=1e-4)


@pytest.mark.parametrize("ranges", [True, False])
def test_the_pieces_of_a_playlist_may_be_parts_of_one_file(
    ranges: bool, put: Put, serve: Callable[..., str], tmp_path: Path
) -> None:
    first, second = (piece(tmp_path / "piece.ts", level) for level in (60, 180))
    url = serve(breaking(first + second, 0, ranges))
    pieces = (
        f"#EXTINF:2,\n#EXT-X-BYTERANGE:{len(first)}@0\n{url}/a.ts\n#EXT-X-DISCONTINUITY\n"
        f"#EXTINF:2,\n#EXT-X-BYTERANGE:{len(second)}@{len(first)}\n{url}/a.ts\n"
    )
    with open_source(put("a.m3u8", (HEADER + pieces + END).encode())) as source:
        frames = list(source)
        assert source.complaint() is None
    assert [round(frame.image.mean() / 60) for frame in frames] == [1] * 20 + [3] * 20


def test_the_best_variant_of_a_playlist_is_played(put: Put, tmp_path: Path) -> None:
    variants = ""
    for name, (height, level, bits) in {
        "small": (48, 60, 900), "poor": (96, 100, 100), "rich": (96, 180, 500), "tiny": (24, 20, 1),
    }.items():  # fmt: skip
        images = [np.full((height, 64, 3), level, np.uint8)] * 20
        clip = make_clip(tmp_path / "a.ts", images, codec="libx264", pixels="yuv420p")
        put(f"{name}.ts", clip.read_bytes())
        put(f"{name}.m3u8", f"{HEADER}#EXTINF:2,\n{name}.ts\n{END}".encode())
        variants += f"#EXT-X-STREAM-INF:BANDWIDTH={bits}000\n{name}.m3u8\n"
    with open_source(put("a.m3u8", f"#EXTM3U\n{variants}".encode())) as source:
        frames = list(source)
    assert len(frames) == 20
    assert {frame.image.shape for frame in frames} == {(96, 64, 3)}
    assert abs(frames[-1].image.mean() - 180) < 5


def test_a_snapshot_of_a_camera_is_named(put: Put) -> None:
    snapshot = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    with pytest.raises(HedgeError, match=r"snapshot\.jpg: .*it sends a picture"):
        open_source(put("snapshot.jpg", snapshot))


def test_a_recording_from_a_phone_is_upright(put: Put, tmp_path: Path) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16, 2] = 255
    clip = make_clip(tmp_path / "a.mp4", [image] * 40, turned=90)
    with open_source(put("a.mp4", clip.read_bytes())) as source:
        frames = list(source)
    assert len(frames) == 40
    assert np.abs(frames[-1].image.astype(int) - np.rot90(image, -1)).max() <= 2


RECORDINGS = {
    "a.mp4": ("libx264", {"movflags": "faststart"}),
    "b.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": ("libx264", {}),
    "a.ts": ("libx264", {}),
    "a.flv": ("libx264", {}),
    "a.webm": ("libvpx-vp9", {}),
    "a.h264": ("libx264", {}),
}
RATE = Fraction(25)
COUNT = 60


def recording(name: str, folder: Path) -> bytes:
    codec, options = RECORDINGS[name]
    times = [number / RATE for number in range(COUNT)]
    return make_timed(folder / name, times, codec, RATE, options, image=noise).read_bytes()


@pytest.mark.parametrize("breaks", [1, 4])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_goes_on_where_its_connection_broke(
    name: str, breaks: int, tmp_path: Path, serve: Callable[..., str]
) -> None:
    body = recording(name, tmp_path)
    with open_source(str(tmp_path / name)) as source:
        whole = list(source)
    assert len(whole) == COUNT
    with open_source(f"{serve(breaking(body, breaks, ranges=True))}/{name}") as source:
        frames = list(source)
        assert source.complaint() is None
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in whole]
    assert all((a.image == b.image).all() for a, b in zip(frames, whole, strict=True))


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_that_cannot_go_on_is_incomplete(
    name: str, tmp_path: Path, serve: Callable[..., str], shared_bundle: Path
) -> None:
    body = recording(name, tmp_path)
    address = f"{serve(breaking(body, 99, ranges=False))}/{name}"
    rows = tmp_path / "rows"
    config = VideoConfig(address, shared_bundle, "onnxruntime", metrics=rows)
    with pytest.raises(IncompleteError, match=r"127\.0\.0\.1.*its connection broke off"):
        main(config)
    times = [json.loads(line)["time_s"] for line in rows.read_text().splitlines()]
    assert 10 < len(times) < 45
    assert (np.diff(times) > 0).all()


def test_a_broadcast_that_has_ended_is_not_played_again(put: Put, tmp_path: Path) -> None:
    put("0.ts", piece(tmp_path / "piece.ts", 60))
    playlist = f"{HEADER}#EXTINF:2,\n0.ts\n"
    with open_source(put("a.m3u8", playlist.encode())) as source:
        assert isinstance(source, LiveSource)
        next(iter(source))
        put("a.m3u8", (playlist + END).encode())
        deadline = time.monotonic() + 20
        while not source.gaps_so_far().count:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        received = source.received
        time.sleep(2)
        assert (source.received, source.gaps.count) == (received, 0)


@pytest.mark.parametrize("lost", ["none", "a0.ts", "a2.ts", "a4.ts"])
@pytest.mark.parametrize("kept", [-1, 0, 3])
def test_a_piece_of_a_playlist_that_does_not_come_is_told(
    lost: str, kept: int, put: Put, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """kept: a part of it, by its inverse, that comes; 0: nothing; -1: there is no such file."""
    options = {"hls_time": "0.8", "hls_list_size": "0", "hls_playlist_type": "vod"}
    playlist = make_timed(
        tmp_path / "a.m3u8", [n / RATE for n in range(5 * 20)], "libx264", RATE, options,
        image=noise, gop=20,
    )  # fmt: skip
    for path in tmp_path.iterdir():
        body = path.read_bytes()
        if path.name == lost:
            body = body[: len(body) // kept] if kept else b""
        if path.name != lost or kept >= 0:
            put(path.name, body)
    with open_source(put("a.m3u8", playlist.read_bytes())) as source:
        frames = list(source)
    assert (source.complaint() is None) == (lost == "none") == (len(frames) == 100)
    assert len(frames) >= 80
    assert "Traceback" not in capfd.readouterr().err


def test_a_recording_goes_on_after_a_stall(
    tmp_path: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEMES["http"], "rw_timeout", "400000")  # µs
    body = recording("a.mkv", tmp_path)
    with open_source(serve(breaking(body, 1, ranges=True, stall_s=4)) + "/a.mkv") as source:
        frames = list(source)
        assert (len(frames), source.complaint()) == (COUNT, None)


def test_a_recording_goes_on_when_its_server_comes_back(
    tmp_path: Path, serve: Callable[..., str]
) -> None:
    body = recording("a.mkv", tmp_path)
    with open_source(serve(breaking(body, 1, ranges=True, away_s=6)) + "/a.mkv") as source:
        frames = list(source)
        assert (len(frames), source.complaint()) == (COUNT, None)


def test_a_recording_is_played_at_its_own_rate_if_asked(put: Put, tmp_path: Path) -> None:
    clip = make_timed(tmp_path / "a.mp4", [number / RATE for number in range(10)], rate=RATE)
    with open_source(put("a.mp4", clip.read_bytes()), realtime=True) as source:
        assert isinstance(source, LiveSource)
        frames = list(source)
        assert source.received == 10 == len(frames) + source.dropped


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of this machine that would play."""
    path = tmp_path / "secret.ts"
    piece(path, 200)
    (tmp_path / "secret.m3u8").write_text(f"{HEADER}#EXTINF:2,\n{path}\n{END}")
    return path


PLAYLISTS = {
    "a file": "#EXTINF:2,\nfile://{path}\n",
    "a file without slashes": "#EXTINF:2,\nfile:{path}\n",
    "a path": "#EXTINF:2,\n{path}\n",
    "joined files": "#EXTINF:2,\nconcat:{path}|{path}\n",
    "a part of a file": "#EXTINF:2,\nsubfile,,start,0,end,0,,:{path}\n",
    "a file through http": "#EXTINF:2,\nmoved.ts\n",
    "a head of a file": '#EXT-X-MAP:URI="file://{path}"\n#EXTINF:2,\nmissing.ts\n',
    "a playlist of files": '#EXT-X-STREAM-INF:BANDWIDTH=1\nfile://{folder}/secret.m3u8\n',
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_files_of_this_machine_are_not(kind: str, secret: Path, put: Put) -> None:
    put("moved.ts", f"file://{secret}".encode())
    pieces = PLAYLISTS[kind].format(path=secret, folder=secret.parent)
    seen = frames_before_it_fails(put("a.m3u8", (HEADER + pieces + END).encode()))
    assert not seen


def frames_before_it_fails(address: str) -> list[Frame]:
    try:
        with open_source(address) as source:
            threading.Timer(1.0, source.stop).start()
            return list(source)
    except HedgeError:
        return []


@pytest.mark.parametrize(
    ("name", "told"),
    [("secret.m3u8", "a playlist, or .* give the videos"), ("secret.mp4", "not a readable video")],
)
def test_playlists_on_the_disk_are_no_videos(name: str, told: str, secret: Path) -> None:
    """Whatever they are called: what they name is not opened."""
    playlist = secret.with_name("secret.m3u8").rename(secret.with_name(name))
    with pytest.raises(HedgeError, match=told):
        open_source(str(playlist))


def dripping(request: BaseHTTPRequestHandler) -> None:
    """A playlist that goes on for ever, some bytes at a time."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(HEADER.encode())
    for _ in range(100):
        request.wfile.write(b"#EXT\n")
        time.sleep(0.1)


def dripping_headers(request: BaseHTTPRequestHandler) -> None:
    """An answer whose first header has no end, a byte at a time."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(100):
        request.wfile.write(b"a")
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [dripping, dripping_headers])
def test_a_server_that_drips_holds_nobody(
    answer: Callable[[BaseHTTPRequestHandler], None],
    serve: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.web.client._PATIENCE_S", 0.5)
    monkeypatch.setattr("runtime.sources.network.OPEN_S", 0.5)
    begun = time.monotonic()
    with pytest.raises(HedgeError):
        open_source(f"{serve(answer)}/a.m3u8")
    assert time.monotonic() - begun < 5


def test_an_interruption_while_a_playlist_is_opened_is_one(
    serve: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    """PyAV printed it, and what had come was told to be no video."""
    address = f"{serve(dripping)}/a.m3u8"
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), raising_interrupt():
        open_source(address)
    assert capfd.readouterr().err == ""
