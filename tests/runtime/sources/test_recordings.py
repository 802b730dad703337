"""Recordings and playlists from the network: all is played, this machine's files never are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.sources.live import LiveSource
from runtime.sources.open import open_source
from tests.equipment.http_server import pages
from tests.equipment.videos import make_clip

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


def test_a_recording_from_a_phone_is_upright(put: Put, tmp_path: Path) -> None:
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
