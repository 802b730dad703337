"""Every frame has its own time, finite and increasing, whatever the container keeps of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.outputs.video_file import VideoSink
from runtime.sources.base import Frame, Source
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from tests.equipment.videos import grey, make_clip, make_timed, number_of, trimmed

# Whatever has B-frames is shown in another order than it is decoded in.
CODECS = {
    "a.mp4": "libx264", "a.mov": "libx264", "a.mkv": "libx264", "a.avi": "libx264",
    "a.ts": "libx264", "a.flv": "libx264", "a.h264": "libx264", "a.nut": "libx264",
    "a.webm": "libvpx-vp9", "a.hevc": "libx265", "b.mp4": "libx265", "c.avi": "mpeg4",
    "a.ivf": "libvpx-vp9", "a.asf": "mpeg4",
}  # fmt: skip
COUNT = 22


def even(count: int, rate: Fraction) -> list[Fraction]:
    return [number / rate for number in range(count)]


def read(path: Path | str) -> tuple[list[Frame], Source]:
    with open_source(str(path)) as source:
        return list(source), source


def in_file(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(5), Fraction(30000, 1001)])
@pytest.mark.parametrize("name", CODECS)
def test_whole_videos_are_whole_and_timed(name: str, rate: Fraction, tmp_path: Path) -> None:
    path = make_timed(tmp_path / name, even(COUNT, rate), CODECS[name], rate)
    frames, source = read(path)
    assert [number_of(frame.image) for frame in frames] == [i % 20 for i in range(COUNT)]
    assert [frame.time_s for frame in frames] == pytest.approx(even(COUNT, rate), abs=6e-4)
    assert source.complaint() is None
    assert source.fps == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.h264", "a.ts"])
def test_the_command_has_a_finite_time_for_every_frame(
    name: str, shared_bundle: Path, tmp_path: Path
) -> None:
    clip = make_timed(tmp_path / name, even(COUNT, Fraction(30)), CODECS[name])
    rows, out = tmp_path / "rows", tmp_path / "o.mp4"
    settings: dict[str, Any] = {"bundle": shared_bundle, "backend": "onnxruntime", "metrics": rows}
    assert main(VideoConfig(str(clip), **settings, reference=shared_bundle, out=out)) == 0
    times = [json.loads(line)["time_s"] for line in rows.read_text().splitlines()]
    assert times == pytest.approx(even(COUNT, Fraction(30)), abs=6e-4)
    assert in_file(out) == pytest.approx(even(COUNT, Fraction(30)), abs=6e-4)
    assert main(VideoConfig(str(clip), **settings, realtime=True, out=out, force=True)) == 0
    shown = [json.loads(line)["time_s"] for line in rows.read_text().splitlines()]
    assert shown
    assert in_file(out) == pytest.approx(np.subtract(shown, shown[0]), abs=6e-4)


UNEVEN = [Fraction(n, 1000) for n in (0, 10, 45, 50, 400, 1400, 1433, 1500, 5000, 5001, 5700)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.nut"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_variable_rate_is_written_as_it_is(
    name: str, suffix: str, shared_bundle: Path, tmp_path: Path
) -> None:
    clip, out = make_timed(tmp_path / name, UNEVEN), tmp_path / f"o{suffix}"
    assert main(VideoConfig(str(clip), shared_bundle, "onnxruntime", out=out)) == 0
    assert in_file(out) == pytest.approx(UNEVEN, abs=1e-6 if suffix != ".mkv" else 6e-4)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(50), Fraction(60000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_times_are_exact_from_the_decoder_to_the_muxer(
    rate: Fraction, suffix: str, shared_bundle: Path, tmp_path: Path
) -> None:
    clip = make_timed(tmp_path / f"a{suffix}", even(30, rate), rate=rate)
    out = tmp_path / "o.mp4"
    assert main(VideoConfig(str(clip), shared_bundle, "onnxruntime", out=out)) == 0
    source = in_file(clip)
    assert in_file(out) == [time - source[0] for time in source]


@pytest.mark.parametrize("rate", [15, 30, 60])
@pytest.mark.parametrize("name", ["a.h264", "a.hevc"])
def test_a_raw_stream_is_written_at_its_own_rate(
    name: str, rate: int, shared_bundle: Path, tmp_path: Path
) -> None:
    clip = make_timed(tmp_path / name, even(COUNT, Fraction(rate)), CODECS[name], Fraction(rate))
    out = tmp_path / "o.mp4"
    assert main(VideoConfig(str(clip), shared_bundle, "onnxruntime", out=out)) == 0
    assert in_file(out) == even(COUNT, Fraction(rate))


def test_joined_broadcasts_go_on(tmp_path: Path) -> None:
    part = make_timed(tmp_path / "part.ts", even(10, Fraction(25)), rate=Fraction(25))
    both = tmp_path / "both.ts"
    both.write_bytes(part.read_bytes() * 2)
    frames, source = read(both)
    assert [frame.time_s for frame in frames] == pytest.approx(even(20, Fraction(25)), abs=0.02)
    assert source.complaint() is None


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_trimmed_clip_is_whole(codec: str, shared_bundle: Path, tmp_path: Path) -> None:
    clip = make_timed(tmp_path / "a.mp4", even(60, Fraction(30)), codec)
    cut = trimmed(clip, tmp_path / "b.mp4", Fraction(5, 10), Fraction(99))
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 60, "which includes the hidden ones"
    frames, source = read(cut)
    assert [number_of(frame.image) for frame in frames] == [i % 20 for i in range(15, 60)]
    assert (source.expected, source.complaint()) == (45, None)
    assert [frame.time_s for frame in frames] == pytest.approx(even(45, Fraction(30)), abs=1e-4)
    report = tmp_path / "r.json"
    assert main(VideoConfig(str(cut), shared_bundle, "onnxruntime", json=report)) == 0
    assert json.loads(report.read_text())["frames_expected"] == 45


def avi(images: list[bytes | None], rate: int) -> bytes:
    """A motion JPEG AVI; None repeats the frame before, as an empty chunk."""
    chunks, index = b"movi", b""
    for image in images:
        data = image or b""
        index += b"00dc" + struct.pack("<III", 16 if data else 0, len(chunks), len(data))
        chunks += b"00dc" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    count = len(images)
    head = struct.pack("<14I", 10**6 // rate, 0, 0, 16, count, 0, 1, 0, 64, 48, 0, 0, 0, 0)
    strh = b"vidsMJPG" + struct.pack("<11I4H", 0, 0, 0, 1, rate, 0, count, 0, 0, 0, 0, 0, 0, 64, 48)
    strf = struct.pack("<IiiHH4s5I", 40, 64, 48, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    strl = b"strl" + riff(b"strh", strh[:56]) + riff(b"strf", strf)
    header = b"hdrl" + riff(b"avih", head) + riff(b"LIST", strl)
    body = riff(b"LIST", header) + riff(b"LIST", chunks) + riff(b"idx1", index)
    return riff(b"RIFF", b"AVI " + body)


def riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data


def jpeg(number: int) -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuvj420p"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(grey(number), "bgr24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


@pytest.mark.parametrize("empty", [{2, 3, 6}, {8, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}])
def test_frames_that_an_avi_repeats_are_not_missing(empty: set[int], tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(avi([None if i in empty else jpeg(i) for i in range(10)], 10))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 10, "which no reader can keep"
    frames, source = read(path)
    shown = [i for i in range(10) if i not in empty]
    assert [number_of(frame.image) for frame in frames] == shown
    assert [frame.time_s for frame in frames] == pytest.approx([i / 10 for i in shown])
    assert source.complaint() is None


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_a_broadcast_that_begins_between_key_frames_comes_up(
    codec: str, tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    whole = make_timed(tmp_path / "a.ts", even(40, Fraction(25)), codec, Fraction(25))
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    path = tmp_path / "b.ts"
    path.write_bytes(whole.read_bytes()[packets[3].pos :])
    frames, source = read(path)
    numbers = [number_of(frame.image) for frame in frames]
    assert len(frames) >= 40 - next(key for key in keys if key > 3)
    assert numbers[-1] == 39 % 20
    assert source.complaint() is None, source.faults


def test_the_aspect_of_pixels_is_kept(shared_bundle: Path, tmp_path: Path) -> None:
    aspect = Fraction(16, 11)  # PAL, wide
    for name in ("a.mp4", "a.mkv", "a.ts"):
        clip = make_timed(tmp_path / name, even(5, Fraction(25)), pixel_aspect=aspect)
        for suffix in (".mp4", ".mov", ".mkv"):
            out = tmp_path / f"{name}{suffix}"
            assert main(VideoConfig(str(clip), shared_bundle, "onnxruntime", out=out)) == 0
            with av.open(str(out)) as container:
                assert container.streams.video[0].sample_aspect_ratio == aspect


def test_the_aspect_of_pixels_turns_with_the_picture(tmp_path: Path) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    clip = make_clip(tmp_path / "a.mp4", [image] * 2, turned=90, pixel_aspect=Fraction(4, 3))
    frames, _ = read(clip)
    assert frames[0].image.shape == (32, 16, 3)
    assert frames[0].pixel_aspect == Fraction(3, 4)


def test_times_without_end_are_finite(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mkv", Fraction(25), time_base=Fraction(1, 10**9)) as sink:
        for time_s in (0.0, 1e-9, 7.0):
            sink.write(grey(0), time_s)
    assert in_file(tmp_path / "a.mkv") == pytest.approx([0, 0.001, 7])


@pytest.mark.parametrize("rate", [(1, 0), (10**9, 1), (1, 10**9)])
def test_a_rate_that_makes_no_sense_is_not_taken(rate: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    data = bytearray(avi([jpeg(number) for number in range(5)], 10))
    struct.pack_into("<II", data, data.index(b"strh") + 8 + 20, rate[1], rate[0])
    path.write_bytes(data)
    frames, source = read(path)
    assert len(frames) == 5
    assert 0 < source.fps <= 1000
    assert np.isfinite([frame.time_s for frame in frames]).all()
