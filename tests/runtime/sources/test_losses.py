"""Recordings that promise nothing tell what is missing in their middle; whole ones never do."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.errors import HedgeError, IncompleteError
from runtime.sources.losses.places import gap_in_transport
from runtime.sources.open import open_source
from runtime.sources.promise import broken_at
from runtime.video import VideoConfig, main
from tests.equipment.damage import holed
from tests.equipment.videos import STEADY_X265, make_timed, remuxed

RATE = Fraction(25)
COUNT, GOP = 72, 12
CODECS = {
    "h264.ts": "libx264", "hevc.ts": "libx265", "mpeg2.ts": "mpeg2video",
    "h264.flv": "libx264", "flv1.flv": "flv", "a.h264": "libx264", "a.hevc": "libx265",
}  # fmt: skip
NUMBERED = [name for name, codec in CODECS.items() if codec.startswith("libx")]
TIMED = [name for name in CODECS if name.endswith((".ts", ".flv"))]


def moving(number: int) -> np.ndarray:
    """(48, 64, 3) uint8 BGR: a block of noise that moves to the right."""
    image, x = np.full((48, 64, 3), 40, np.uint8), number * 3 % 40
    image[10:30, x : x + 20] = np.random.default_rng(number % 7).integers(0, 255, (20, 20, 3))
    return image


def clip(path: Path, codec: str, **options: object) -> Path:
    times = [number / RATE for number in range(COUNT)]
    return make_timed(path, times, codec, RATE, image=moving, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("whole")

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else clip(path, CODECS.get(name, "mpeg2video"))

    return get


def read(path: Path) -> tuple[int, str | None]:
    """Frames of a video, and its complaint; -1 of one that is refused."""
    try:
        with open_source(str(path)) as source:
            return sum(1 for _ in source), source.complaint()
    except HedgeError as error:
        return -1, str(error)


@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.parametrize("lost", [range(17, 18), range(25, 28), range(41, 42), range(30, 53)])
def test_missing_pictures_are_told(
    name: str, lost: range, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    count, complaint = read(remuxed(whole(name), tmp_path / name, lost))
    assert count < COUNT
    assert "pictures are missing, the first of them behind frame " in (complaint or "")
    place = int((complaint or "").rpartition(" ")[2])
    assert lost[0] - 8 <= place <= lost[0] + 4


def test_missing_pictures_of_mpeg2_are_told_without_times(
    whole: Callable[[str], Path], tmp_path: Path
) -> None:
    assert read(whole("a.mpg")) == (COUNT, None)
    path = remuxed(whole("a.mpg"), tmp_path / "a.mpg", range(25, 28))
    assert "pictures are missing" in (read(path)[1] or "")


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("lost", [range(24, 36), range(30, 42), range(33, 36), range(20, 50)])
def test_missing_groups_and_ends_of_groups_are_told_by_time(
    name: str, lost: range, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    assert "pictures are missing" in (read(remuxed(whole(name), tmp_path / name, lost))[1] or "")


def test_a_group_that_begins_as_the_one_before_it_is_told(
    whole: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of a raw stream without times, which is a stream without the group as well."""
    path = remuxed(whole("a.h264"), tmp_path / "a.h264", range(30, 42))
    assert "pictures are missing" in (read(path)[1] or "")


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("way", ["cut", "zeroed", "flipped"])
def test_no_frame_is_lost_in_silence(
    name: str, way: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    path = whole(name)
    assert read(path) == (COUNT, None)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data, told = path.read_bytes(), 0
    for seed in range(8):
        rng = random.Random(seed)
        # In the middle of a group: what is left without whole ends of groups is a stream as well.
        first = rng.randrange(1, COUNT // GOP - 1) * GOP + rng.randrange(1, 6)
        start, end = places[first] + 30, places[first + rng.randrange(1, 4)] + 30
        if name.endswith(".ts") and rng.random() < 0.5:
            start, end = start // 188 * 188, end // 188 * 188
        (tmp_path / name).write_bytes(holed(data, start, end, way, seed))
        count, complaint = read(tmp_path / name)
        assert complaint is not None or count >= COUNT, seed
        told += complaint is not None
    assert told or way == "flipped"


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.h264"])
def test_zeros_within_a_picture_are_told_which_decoders_pass_over(
    name: str, codec: str, tmp_path: Path
) -> None:
    """As a disk has them that lost its power; lengths and start codes around them are whole."""
    path = clip(tmp_path / name.replace("h264", {"libx265": "hevc"}.get(codec, "h264")), codec)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None]
    place, size = max((packet.size, packet.pos) for packet in packets[COUNT // 2 :])[::-1]
    data = bytearray(path.read_bytes())
    data[place + size - 300 : place + size - 100] = bytes(200)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        frames = sum(1 for _ in source)
    timed = name != "a.h264"  # else nothing tells which frame a packet became
    assert frames == COUNT and source.damaged in ((1,) if timed else (1, 2))
    assert "did not decode cleanly" in (source.complaint() or "")


@pytest.mark.parametrize("name", ["h264.ts", "a.hevc"])
def test_the_command_ends_as_incomplete(
    name: str, whole: Callable[[str], Path], shared_bundle: Path, tmp_path: Path
) -> None:
    assert main(VideoConfig(str(whole(name)), shared_bundle, "onnxruntime")) == 0
    path = remuxed(whole(name), tmp_path / name, range(26, 28))
    with pytest.raises(IncompleteError, match=r": pictures are missing, the first of them behind"):
        main(VideoConfig(str(path), shared_bundle, "onnxruntime"))


def packet_of_pictures(data: bytes, number: int) -> int:
    """The byte at which the first packet from ``number`` on that is inside of a picture begins."""
    return next(at for at in range(188 * number, len(data), 188) if data[at + 1] & 0x5F == 1)


@pytest.mark.parametrize("offset", [0, 188 * 3])
def test_zeros_at_any_place_of_a_transport_stream_are_told(
    offset: int, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    data = bytearray(whole("h264.ts").read_bytes())
    data[offset : offset + 300] = bytes(300)
    (tmp_path / "a.ts").write_bytes(data)
    assert f"it is damaged at byte {offset}," in (read(tmp_path / "a.ts")[1] or "")


def test_damage_in_a_later_part_of_a_long_transport_stream_is_told(
    whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.sources.losses.places._AT_ONCE", 7)
    data = whole("h264.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    assert read(tmp_path / "a.ts") == (COUNT, None)
    at = packet_of_pictures(data, 100)
    (tmp_path / "a.ts").write_bytes(data[:at] + data[at + 188 :])
    assert "it is damaged at byte " in (read(tmp_path / "a.ts")[1] or "")


X264 = {
    "as it comes": {"threads": "1"},
    "open groups": {"x264-params": "open-gop=1:bframes=5:b-pyramid=2:scenecut=0"},
    "no key frames": {"x264-params": "intra-refresh=1"},
    "16 in a row": {"bf": "16", "b_strategy": "0"},
    "interlaced": {"x264-params": "tff=1"},
    "scaling lists": {"x264-params": "cqm=jvt:slices=4:aud=1"},
    "live": {"tune": "zerolatency"},
}
X265 = {
    "as it comes": "",
    "closed groups": ":open-gop=0:radl=2:bframes=4",
    "in layers": ":temporal-layers=3:b-adapt=0",
    "live": ":bframes=0",
}
WHOLE = [(f"a.{kind}", "libx264", how) for how in X264 for kind in ("ts", "flv", "h264", "mkv")]
WHOLE += [(f"a.{kind}", "libx265", how) for how in X265 for kind in ("ts", "hevc", "mp4")]


@pytest.mark.parametrize(("name", "codec", "how"), WHOLE)
def test_whole_recordings_and_their_parts_are_not_accused(
    name: str, codec: str, how: str, tmp_path: Path
) -> None:
    options = X264[how] if codec == "libx264" else {"x265-params": STEADY_X265 + X265[how]}
    path = clip(tmp_path / name, codec, encoder=options)
    assert read(path) == (COUNT, None)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert len(keys) > 2
    for lost in (range(keys[1]), range(keys[-1], COUNT), range(COUNT - 9, COUNT)):
        part = remuxed(path, tmp_path / f"part{path.suffix}", lost)
        if part.suffix in (".ts", ".flv", ".h264", ".hevc"):  # the others promise more
            assert read(part)[1] is None, lost
    if path.suffix in (".ts", ".h264", ".hevc"):
        joined = tmp_path / f"joined{path.suffix}"
        joined.write_bytes(path.read_bytes() * 2)
        assert read(joined) == (2 * COUNT, None)


def test_a_cluster_of_matroska_that_is_no_chain_of_blocks_is_damage(tmp_path: Path) -> None:
    """FFmpeg passes over what it does not know in one without a word."""
    path = clip(tmp_path / "a.mkv", "libx264", encoder=X264["live"])
    assert read(path) == (COUNT, None)
    assert broken_at(path) is None
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    begin = data.index(packets[9])  # behind four bytes, a size of one byte or two, and the name
    block = next(at for at in (begin - 6, begin - 7) if data[at] == 0xA3)
    path.write_bytes(data[:block] + b"\xb3" + data[block + 1 :])
    assert broken_at(path) == block
    assert read(path)[1] is not None


@pytest.mark.parametrize("name", ["a.ts", "a.flv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("kind", ["frames left out", "one pause", "jitter"])
def test_variable_rates_are_not_accused(kind: str, codec: str, name: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    steps = {
        "frames left out": [rng.choice((1, 1, 1, 1, 1, 1, 2, 3)) for _ in range(COUNT)],
        "one pause": [53 if number == 40 else 1 for number in range(COUNT)],
        "jitter": [1 + Fraction(rng.randrange(-9, 9), 40) for _ in range(COUNT)],
    }
    times = [Fraction(time) / RATE for time in accumulate(steps[kind])]
    path = make_timed(tmp_path / name, times, codec, RATE, image=moving)
    assert read(path) == (COUNT, None)


@pytest.mark.parametrize("name", ["h264.ts", "hevc.ts", "mpeg2.ts"])
def test_a_clock_that_begins_anew_is_not_accused(name: str, tmp_path: Path) -> None:
    path = clip(tmp_path / name, CODECS[name], options={"output_ts_offset": "95442"})
    assert read(path) == (COUNT, None)


@pytest.mark.parametrize("start", [1000, 188 * 25])
def test_a_transport_stream_that_was_begun_anywhere_is_not_accused(
    start: int, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "a.ts").write_bytes(whole("h264.ts").read_bytes()[start:])
    count, complaint = read(tmp_path / "a.ts")
    assert 40 < count < COUNT
    assert complaint is None


@pytest.mark.parametrize("number", [1, 20])
def test_a_picture_of_mpeg2_without_its_head_is_told(number: int, tmp_path: Path) -> None:
    """Of a group each, so that no number tells."""
    data, at = clip(tmp_path / "whole.ts", "mpeg2video", gop=1).read_bytes(), -1
    for _ in range(number + 1):
        at = data.index(b"\0\0\1\0", at + 1)
    (tmp_path / "a.ts").write_bytes(data[:at] + b"\xff" * 4 + data[at + 4 :])
    count, complaint = read(tmp_path / "a.ts")
    assert count == COUNT - 1
    assert complaint is not None and "pictures are missing" in complaint


def test_packets_may_be_sent_twice(whole: Callable[[str], Path], tmp_path: Path) -> None:
    data = whole("mpeg2.ts").read_bytes()
    at = packet_of_pictures(data, 30)
    (tmp_path / "a.ts").write_bytes(data[: at + 188] + data[at : at + 188] + data[at + 188 :])
    assert gap_in_transport(tmp_path / "a.ts", 256) is None
    (tmp_path / "a.ts").write_bytes(data[:at] + data[at + 188 :])
    assert gap_in_transport(tmp_path / "a.ts", 256) in range(at, at + 5 * 188)
