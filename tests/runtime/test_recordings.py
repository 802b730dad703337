"""Recordings and playlists from the network: all is played, this machine's files never are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source

Put = Callable[[str, bytes], str]
HEADER = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n"
END = "#EXT-X-ENDLIST\n"


def piece(path: Path, grey: int) -> bytes:
    """Two seconds of one grey as an MPEG transport stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(20):
            image = np.full((48, 64, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def put(serve: Callable[..., str]) -> Put:
    """Serve bytes under a name; its address. Bytes that are an address redirect to it."""
    pages: dict[str, bytes] = {}

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = pages.get(request.path)
        moved = body is not None and body.startswith(b"file:")
        request.send_response(404 if body is None else 302 if moved else 200)
        if moved and body is not None:
            request.send_header("Location", body.decode())
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        request.wfile.write(body or b"")

    address = serve(answer)

    def keep(name: str, body: bytes) -> str:
        pages[f"/{name}"] = body
        return f"{address}/{name}"

    return keep


def test_the_pieces_of_a_playlist_are_played(put: Put, tmp_path: Path) -> None:
    for number, grey in enumerate((60, 180)):
        put(f"{number}.ts", piece(tmp_path / "piece.ts", grey))
    pieces = "#EXTINF:2,\n0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n1.ts\n"
    with open_source(put("a.m3u8", (HEADER + pieces + END).encode())) as source:
        assert isinstance(source, LiveSource)
        for thread in threading.enumerate():
            if thread.name == "capture":
                thread.join()  # a slow engine: whatever reads ahead of it is through by now
        frames = list(source)  # it says how long it is, so it ends
        assert source.received == 40 == len(frames) + source.dropped
    assert abs(frames[-1].image.mean() - 180) < 5


def test_a_recording_from_a_phone_is_upright(
    put: Put, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16, 2] = 255
    clip = make_clip(tmp_path / "a.mp4", [image] * 40, turned=90)
    with open_source(put("a.mp4", clip.read_bytes())) as source:
        *_, frame = source
        assert isinstance(source, LiveSource)
        assert source.received == 40
    assert np.abs(frame.image.astype(int) - np.rot90(image, -1)).max() <= 2


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


@pytest.mark.parametrize("name", ["secret.m3u8", "secret.mp4"])
def test_playlists_on_the_disk_are_no_videos(name: str, secret: Path) -> None:
    """Whatever they are called: what they name is not opened."""
    playlist = secret.with_name("secret.m3u8").rename(secret.with_name(name))
    with pytest.raises(HedgeError, match="not a readable video"):
        open_source(str(playlist))
