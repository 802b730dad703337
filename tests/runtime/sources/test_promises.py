"""A video that is cut or damaged says so; a whole one never does."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError, IncompleteError
from runtime.sources.open import open_source
from runtime.sources.promise import missing_bytes
from runtime.video import VideoConfig, main
from tests.equipment.videos import make_clip, make_timed, noise

RATE = Fraction(25)
TIMES = [number / RATE for number in range(60)]


def clip(path: Path, codec: str = "libx264", **options: str) -> Path:
    return make_timed(path, TIMES, codec, RATE, options, image=noise)


KEPT = {
    "an mp4 with its index in front": ("a.mp4", "libx264", {"movflags": "faststart"}),
    "an mp4 in fragments": ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "a mov in fragments": ("a.mov", "libx265", {"movflags": "frag_keyframe+empty_moov"}),
    "Matroska": ("a.mkv", "libx264", {}),
    "WebM": ("a.webm", "libvpx-vp9", {}),
    "AVI": ("a.avi", "mpeg4", {}),
    "MPEG-TS": ("a.ts", "libx264", {}),
}


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("kind", KEPT)
def test_a_cut_video_says_so(kind: str, share: float, shared_bundle: Path, tmp_path: Path) -> None:
    name, codec, options = KEPT[kind]
    path = clip(tmp_path / name, codec, **options)
    assert main(VideoConfig(str(path), shared_bundle, "onnxruntime")) == 0
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(IncompleteError, match=r"a\.\w+: "):
        main(VideoConfig(str(path), shared_bundle, "onnxruntime"))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_recording_without_its_index_is_named_as_one(
    name: str, ended: bool, tmp_path: Path
) -> None:
    """While it goes on the length of its pictures is 0, and is filled in at the end."""
    path = clip(tmp_path / name)
    data = path.read_bytes()
    place = data.index(b"mdat") - 4
    data = data[: data.index(b"moov") - 4]
    path.write_bytes(data if ended else data[:place] + bytes(4) + data[place + 4 :])
    with pytest.raises(HedgeError, match=r"a\.m..: has no index \(moov\), which a recorder writes"):
        open_source(str(path))
    path.write_bytes(data[:place])
    with pytest.raises(HedgeError, match="not a readable video"):
        open_source(str(path))


@pytest.mark.parametrize("kind", KEPT)
def test_each_missing_byte_is_counted(kind: str, tmp_path: Path) -> None:
    name, codec, options = KEPT[kind]
    path = clip(tmp_path / name, codec, **options)
    assert missing_bytes(path) == 0
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert missing_bytes(path) == 7
    if kind != "MPEG-TS":
        path.write_bytes(whole + b"something else")
        assert missing_bytes(path) == 0


@pytest.mark.parametrize("kind", ["Matroska", "WebM"])
@pytest.mark.parametrize("damage", ["no cluster", "padding beyond the end", "a part twice"])
def test_what_the_demuxer_passes_over_is_told(kind: str, damage: str, tmp_path: Path) -> None:
    name, codec, options = KEPT[kind]
    whole = clip(tmp_path / name, codec, **options | {"cluster_time_limit": "500"}).read_bytes()
    data, cluster = bytearray(whole), bytes.fromhex("1f43b675")
    first, second = data.index(cluster), data.index(cluster, data.index(cluster) + 1)
    if damage == "no cluster":
        data[second] ^= 1
    elif damage == "padding beyond the end":
        data[second : second + 5] = b"\xec\x1f\xff\xff\xfe"
    else:
        data[second + 9 : second + 9] = data[first : second + 9]
    path = tmp_path / f"damaged-{name}"
    path.write_bytes(data)
    with open_source(str(path)) as source:
        assert len(list(source)) != len(TIMES)
        assert "is damaged at byte" in (source.complaint() or "")
    path.write_bytes(whole)
    with open_source(str(path)) as source:
        assert (len(list(source)), source.complaint()) == (len(TIMES), None)


def multipart(pictures: list[bytes]) -> bytes:
    head = b"--b\r\nContent-Type: image/jpeg\r\n\r\n"
    return b"".join(head + picture + b"\r\n" for picture in pictures) + b"--b--\r\n"


@pytest.mark.parametrize("written", [b"".join, multipart])
def test_a_file_of_one_jpeg_after_another_is_a_video(
    written: Callable[[list[bytes]], bytes], tmp_path: Path
) -> None:
    """As ``ffmpeg -f mjpeg``, ``cat *.jpg`` and ``curl http://camera/video.mjpg`` write it."""
    path, pictures = tmp_path / "a.mjpg", []
    for level in (50, 150, 250):
        file = io.BytesIO()
        Image.new("L", (320, 240), level).save(file, "JPEG")
        pictures.append(file.getvalue())
    path.write_bytes(written(pictures))
    with open_source(str(path)) as source:
        assert [frame.image[9, 9, 0] for frame in source] == [50, 150, 250]
    assert (source.fps, source.complaint()) == (25, None)
    path.write_bytes(written(pictures)[:-200])
    with open_source(str(path)) as source:
        assert len(list(source)) >= 2
    assert source.complaint() == f"{path}: its last picture breaks off"


def test_sizes_that_are_left_open_promise_nothing(tmp_path: Path) -> None:
    avi = clip(tmp_path / "a.avi", "mpeg4")
    data = bytearray(avi.read_bytes())
    data[4:8] = b"\xff" * 4
    avi.write_bytes(data)
    matroska = clip(tmp_path / "a.mkv", live="1")  # as written into a pipe
    for path in (avi, matroska):
        assert missing_bytes(path) == 0
        with open_source(str(path)) as source:
            assert (len(list(source)), source.complaint()) == (60, None)


@pytest.mark.parametrize("count", [0, 1, 3, 2_000_000_000])
def test_the_count_in_an_avi_header_is_not_believed(count: int, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, count)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, count)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        assert source.names is None
        assert len(list(source)) == 60
        assert source.complaint() is None


def test_a_last_frame_that_stays_long_is_not_missing(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1), Fraction(2), Fraction(5)]
    path = make_timed(tmp_path / "a.mkv", times, rate=Fraction(1, 2))
    with open_source(str(path)) as source:
        assert [frame.time_s for frame in source] == [0, 1, 2, 5]
        assert source.complaint() is None


def test_an_avi_that_promises_two_billion_frames_is_scored_at_once(
    shared_bundle: Path, tmp_path: Path, save_ids: Callable[[Path, np.ndarray], Path]
) -> None:
    path = make_clip(tmp_path / "a.avi", 3, codec="ffv1", pixels="bgr0")
    data = bytearray(path.read_bytes())
    for chunk, at in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", data, data.index(chunk) + at, 2 * 10**9)
    path.write_bytes(data)
    save_ids(tmp_path / "labels" / "000001.png", np.zeros((24, 32)))
    report = tmp_path / "r.json"
    config = VideoConfig(
        str(path), shared_bundle, "onnxruntime", labels=tmp_path / "labels", json=report
    )
    assert main(config) == 0
    told = json.loads(report.read_text())
    assert (told["frames_read"], told["frames_scored"]) == (3, 1)
