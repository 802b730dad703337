"""Sources: everything that decodes arrives, in order; everything else is counted or refused."""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.sources.open import open_source

Make = Callable[..., Path]
Picture = Callable[..., np.ndarray]


def frames_of(source: Path | str) -> list[Frame]:
    with open_source(str(source)) as opened:
        return list(opened)


def test_a_video_gives_every_frame_in_order(
    tmp_path: Path, make_clip: Make, band_picture: Picture
) -> None:
    with open_source(str(make_clip(tmp_path / "a.mp4", 4, fps=10))) as source:
        frames = list(source)
    assert [(f.index, f.name) for f in frames] == [(i, f"00000{i}") for i in range(4)]
    assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    for frame in frames:
        assert np.abs(frame.image.astype(int) - band_picture(frame.index)).max() <= 2
    assert (source.fps, source.expected, source.size) == (10, 4, (24, 32))
    assert (source.damaged, source.shortfall, source.complaint()) == (0, 0, None)


@pytest.mark.parametrize(
    ("size", "codec", "pixels"),
    [
        ((1, 1), "ffv1", "bgr0"),
        ((7, 5), "ffv1", "bgr0"),
        ((16, 16), "ffv1", "gray"),
        ((16, 16), "ffv1", "yuv444p10le"),
        ((16, 16), "mpeg4", "yuv420p"),
    ],
)
def test_sizes_and_pixel_formats(
    size: tuple[int, int], codec: str, pixels: str, tmp_path: Path, make_clip: Make
) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    clip = make_clip(tmp_path / "a.mkv", [image] * 3, codec=codec, pixels=pixels)
    frames = frames_of(clip)
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.shape == image.shape
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - 77).max() <= 4  # lossy codecs round


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_comes_upright(degrees: int, tmp_path: Path, make_clip: Make) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16, 2] = 255  # red in the corner at the top left
    clip = make_clip(tmp_path / "a.mp4", [image] * 2, turned=degrees)
    for frame in frames_of(clip):
        expected = np.rot90(image, -degrees // 90)  # players turn clockwise
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).max() <= 2


def test_a_change_of_size_is_passed_on(
    tmp_path: Path, make_clip: Make, band_picture: Picture
) -> None:
    parts = [
        make_clip(tmp_path / f"{size[0]}.h264", [band_picture(0, size)] * 3)
        for size in ((16, 32), (32, 16))
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [f.image.shape[:2] for f in frames_of(both)] == [(16, 32)] * 3 + [(32, 16)] * 3


def test_a_truncated_video_gives_what_is_there_and_counts_the_rest(
    tmp_path: Path, make_clip: Make
) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(10)]
    clip = make_clip(tmp_path / "a.mp4", noise, codec="mpeg4", pixels="yuv420p")
    data = clip.read_bytes()
    index = data[data.index(b"moov") - 4 :]  # the index is kept, the pictures are cut
    media = data[: data.index(b"moov") - 4]
    clip.write_bytes(_index_first(media, index, keep=len(media) // 2))
    with open_source(str(clip)) as source:
        frames = list(source)
    assert 3 <= len(frames) <= 7
    assert source.expected == 10
    assert source.shortfall == 10 - len(frames)
    assert "of the 10 frames it promises are missing" in (source.complaint() or "")


def _index_first(media: bytes, index: bytes, keep: int) -> bytes:
    """An mp4 with its index in front of its pictures, cut after ``keep`` bytes of them."""
    moved = bytearray(index)
    table = moved.index(b"stco") + 8
    count = struct.unpack_from(">I", moved, table)[0]
    for entry in range(count):
        at = table + 4 + 4 * entry
        struct.pack_into(">I", moved, at, struct.unpack_from(">I", moved, at)[0] + len(index))
    return bytes(moved) + media[:keep]


def test_damaged_packets_are_counted_and_decoding_goes_on(tmp_path: Path, make_clip: Make) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(10)]
    clip = make_clip(tmp_path / "a.mkv", noise, codec="mjpeg", pixels="yuvj420p")
    with av.open(str(clip)) as container:
        payloads = [bytes(p) for p in container.demux(video=0) if p.size]
    data = clip.read_bytes()
    for number in (3, 6):
        data = data.replace(payloads[number], b"\xa5" * len(payloads[number]))
    clip.write_bytes(data)
    with open_source(str(clip)) as source:
        frames = list(source)
    assert source.damaged == 2
    assert frames[-1].index == 9, "a lost frame must not shift the names of those behind it"
    assert "2 did not decode cleanly" in (source.complaint() or "")


def test_images_come_in_natural_order_as_bgr(
    tmp_path: Path, make_images: Make, band_picture: Picture
) -> None:
    folder = make_images(tmp_path / "images", 11)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    frames = frames_of(folder)
    assert [f.name for f in frames] == [f"f{i}" for i in range(11)]
    for frame in frames:
        assert (frame.image == band_picture(frame.index)).all()


def test_one_image_and_a_glob(tmp_path: Path, make_images: Make) -> None:
    folder = make_images(tmp_path / "images", 3)
    assert [f.name for f in frames_of(folder / "f1.png")] == ["f1"]
    assert [f.name for f in frames_of(f"{tmp_path}/**/f[02].png")] == ["f0", "f2"]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_gives_all_of_its_pictures(kind: str, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    rest = {"save_all": True, "append_images": pages[1:], "duration": [40, 40, 80]}
    pages[0].save(tmp_path / "a.png", kind, **rest)
    with open_source(str(tmp_path / "a.png")) as source:
        frames = list(source)
    assert (source.expected, source.shortfall, source.damaged) == (3, 0, 0)
    assert [f.time_s for f in frames] == pytest.approx([0, 0.04, 0.08])
    assert source.time_base == Fraction(1, 1000)
    assert [int(f.image[3, 3].argmax()) for f in frames] == [2, 1, 0]
    assert all(f.name in source.names for f in frames)
    assert f"{len(frames):06d}" not in source.names


def test_the_still_of_an_animated_png_is_not_shown(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 6), color) for color in ("white", "lime", "blue")]
    rest: dict[str, Any] = {"save_all": True, "append_images": pages[1:], "default_image": True}
    pages[0].save(tmp_path / "a.png", **rest)
    assert [int(f.image[3, 3].argmax()) for f in frames_of(tmp_path / "a.png")] == [1, 0]


def test_an_animation_among_images_is_named(tmp_path: Path, make_images: Make) -> None:
    folder = make_images(tmp_path / "images", 2)
    page = Image.new("RGB", (8, 6), "red")
    page.save(folder / "f2.png", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    with open_source(str(folder)) as source:
        assert len(list(source)) == 2
    assert (source.expected, source.damaged) == (3, 1)
    assert "f2.png: not a readable image: it holds 2 pictures" in source.faults[0]


def test_an_image_is_one_by_its_content(tmp_path: Path, make_images: Make) -> None:
    folder = make_images(tmp_path / "images", 1)
    photo = (folder / "f0.png").rename(tmp_path / "photo")
    assert [f.name for f in frames_of(photo)] == ["photo"]


def test_a_glob_of_one_video_is_that_video(tmp_path: Path, make_clip: Make) -> None:
    make_clip(tmp_path / "a.mp4", 2)
    assert len(frames_of(f"{tmp_path}/*.mp4")) == 2
    (tmp_path / "b.mp4").touch()
    with pytest.raises(HedgeError, match=r"matches 2 paths, .* or all to hedge fleet"):
        frames_of(f"{tmp_path}/*.mp4")


def test_a_folder_named_by_a_year_is_no_camera(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "2024", [np.zeros((4, 4, 3), np.uint8)] * 2)
    monkeypatch.chdir(tmp_path)
    assert len(frames_of("2024")) == 2


def test_an_undecodable_image_is_skipped_counted_and_named(
    tmp_path: Path, make_images: Make
) -> None:
    folder = make_images(tmp_path / "images", 4)
    (folder / "f2.png").write_bytes((folder / "f2.png").read_bytes()[:60])
    with open_source(str(folder)) as source:
        assert [(f.index, f.name) for f in source] == [(0, "f0"), (1, "f1"), (3, "f3")]
    assert (source.expected, source.damaged, source.shortfall) == (4, 1, 1)
    assert "f2.png" in source.faults[0]


@pytest.mark.parametrize("name", ["concat:x", "-report", "a%03d", "subfile,,x", "pipe:0"])
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_a_name_is_only_ever_a_name(
    name: str, suffix: str, tmp_path: Path, make_clip: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "plain.mp4", 2).rename(tmp_path / f"{name}{suffix}")
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(f"{name}{suffix}")) == 2


def audio_only(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))


def bad_source(kind: str, folder: Path) -> str:
    """Make an input of the kind named, and return what a user would type for it."""
    path = folder / "a.mp4"
    if kind == "zero length":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "audio only":
        audio_only(path)
    elif kind == "playlist":
        path.write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    elif kind == "broken image":
        path = folder / "a.png"
        path.write_bytes(b"\x89PNG\r\n")
    elif kind in ("empty folder", "doubled names"):
        path = folder
    if kind == "doubled names":
        for suffix in ("png", "bmp"):
            Image.new("RGB", (2, 2)).save(folder / f"twin.{suffix}")
    special = {
        "no match": f"{folder}/*.png",
        "sequence": f"{folder}/img_%04d.png",
        "camera": "rtsp://me:secret@host/1",
        "device": "/dev/null",
    }
    return special.get(kind, str(path))


BAD_SOURCES = {
    "missing": "no such file",
    "zero length": "empty",
    "text": "not a readable video",
    "audio only": "no video track",
    "playlist": "not a readable video",
    "broken image": r"a\.png: not a readable image",
    "empty folder": "no images",
    "doubled names": "twin",
    "no match": "matches nothing",
    "sequence": r"img_%04d.png: numbered files .* '.*/img_\*\.png', in quotes",
    "camera": "rtsp://",
    "device": "neither a file nor a folder",
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_bad_sources_are_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match=BAD_SOURCES[kind]) as caught:
        frames_of(bad_source(kind, tmp_path))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_matroska_file_that_is_cut_says_so(tmp_path: Path, make_clip: Make) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(20)]
    clip = make_clip(tmp_path / "a.mkv", noise, codec="mjpeg", pixels="yuvj420p")
    with open_source(str(clip)) as source:
        assert (len(list(source)), source.complaint()) == (20, None)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with open_source(str(clip)) as source:
        assert 5 < len(list(source)) < 15
        assert "of the 2.0 seconds it promises" in (source.complaint() or "")


def transport_stream(path: Path, images: list[np.ndarray], sound: bool) -> bytes:
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.height, video.width = images[0].shape[:2]
        audio = container.add_stream("mp2", rate=48_000) if sound else None
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), layout="mono")
            silence.sample_rate = 48_000
            container.mux(audio.encode(silence) + audio.encode(None))
    return path.read_bytes()


def test_a_track_that_begins_half_way_is_passed_over(tmp_path: Path, band_picture: Picture) -> None:
    images = [band_picture(index, (32, 32)) for index in range(8)]
    parts = [transport_stream(tmp_path / "part.ts", images, sound) for sound in (False, True)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    with open_source(str(tmp_path / "a.ts")) as source:
        assert len(list(source)) == 16


def test_metadata_that_is_no_text_harms_nothing(make_clip: Make, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 5)
    data = path.read_bytes()
    assert b"VideoHandler" in data
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xa2o\xffandler"))
    assert len(frames_of(path)) == 5
