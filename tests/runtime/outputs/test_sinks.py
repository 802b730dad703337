"""Outputs: right colours, right counts, playable after the worst, refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, OutputError
from runtime.outputs.json_files import RowSink, write_report
from runtime.outputs.label_images import LabelSink
from runtime.outputs.shares import ShareSink
from runtime.outputs.video_file import VideoSink
from runtime.sources.base import Frame

Decode = Callable[[Path], list[np.ndarray]]


def plain(color: tuple[int, int, int], size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), color, np.uint8)


def noise(count: int, side: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
@pytest.mark.parametrize("color", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (200, 120, 40)])
def test_colors_survive_the_round_trip(
    color: tuple[int, int, int], suffix: str, tmp_path: Path, decode: Decode
) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoSink(path, Fraction(10)) as sink:
        for _ in range(3):
            sink.write(plain(color))
    images = decode(path)
    assert len(images) == 3
    for image in images:
        assert np.abs(image.astype(int) - color).max() <= 6


def test_the_file_says_how_its_colors_are_meant_and_how_fast_it_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    rate = Fraction(30000, 1001)
    with VideoSink(path, rate) as sink:
        for _ in range(30):
            sink.write(plain((9, 9, 9)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (int(frames[0].colorspace), int(frames[0].color_range)) == (5, 1)  # BT.601, limited
    assert frames[29].time == pytest.approx(29 / rate, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (31, 47), (54, 30)])
def test_odd_sizes_are_padded_with_their_rim(
    size: tuple[int, int], tmp_path: Path, decode: Decode
) -> None:
    path = tmp_path / "a.mp4"
    with VideoSink(path, Fraction(10)) as sink:
        sink.write(plain((40, 80, 160), size))
    image = decode(path)[0]
    assert image.shape[:2] == tuple(n + n % 2 for n in size)
    assert np.abs(image.astype(int) - (40, 80, 160)).max() <= 6


def test_a_change_of_size_is_scaled_and_said_once(
    tmp_path: Path, decode: Decode, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    with VideoSink(path, Fraction(10)) as sink:
        for size in ((32, 48), (16, 24), (64, 96)):
            sink.write(plain((0, 0, 255), size))
    images = decode(path)
    assert [image.shape[:2] for image in images] == [(32, 48)] * 3
    assert capsys.readouterr().err.count("change size") == 1


def frames_in(path: Path) -> list[tuple[float, tuple[int, int]]]:
    """Seconds and (height, width) of each frame."""
    with av.open(str(path)) as container:
        return [(float(f.time), (f.height, f.width)) for f in container.decode(video=0)]


def test_a_change_of_size_goes_on_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "a-3.mp4").write_bytes(b"precious")
    with VideoSink(tmp_path / "a.mp4", Fraction(10), segments=True) as sink:
        for size in [(32, 48)] * 3 + [(16, 24)] * 2 + [(32, 48)]:
            sink.write(plain((0, 0, 255), size))
    names = ["a.mp4", "a-2.mp4", "a-4.mp4"]
    assert sink.files == [tmp_path / name for name in names]
    found = [frames_in(path) for path in sink.files]
    assert [[size for _, size in frames] for frames in found] == [
        [(32, 48)] * 3, [(16, 24)] * 2, [(32, 48)],
    ]  # fmt: skip
    assert [time_s for time_s, _ in found[1]] == pytest.approx([0, 0.1])
    assert (tmp_path / "a-3.mp4").read_bytes() == b"precious"


def key_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.is_keyframe]
        return [float(p.pts * p.time_base) for p in packets]


def test_key_frames_come_every_second(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoSink(path, Fraction(5)) as sink:
        for _ in range(13):
            sink.write(plain((90, 90, 90)))
    assert key_times(path) == [0, 1, 2]


def test_key_frames_of_a_slow_engine_come_every_second_too(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoSink(path, Fraction(30), live=True) as sink:
        for number in range(13):
            sink.write(plain((90, 90, 90)), 7 + number / 4)  # a camera of 30 fps, 4 of them seen
    assert key_times(path) == [0, 1, 2, 3]


def test_what_was_written_is_not_kept_in_the_encoder(
    tmp_path: Path, playable: Callable[[Path], int]
) -> None:
    path = tmp_path / "a.mp4"
    sink = VideoSink(path, Fraction(5))
    for _ in range(11):  # two groups of pictures, and the frame that begins the third
        sink.write(plain((90, 90, 90)))
    assert playable(path) == 10
    sink.close()


def test_a_sink_that_got_no_frame_writes_no_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", Fraction(10)):
        pass
    assert not (tmp_path / "a.mp4").exists()


def test_a_full_disk_is_one_error_and_leaves_a_playable_file(
    tiny_disk: Path, playable: Callable[[Path], int]
) -> None:
    path = tiny_disk / "a.mp4"
    written = 0
    with (
        pytest.raises(OutputError, match=r"a\.mp4.*No space left"),
        VideoSink(path, Fraction(5)) as sink,
    ):
        for image in noise(200, 64):
            sink.write(image)
            written += 1
    assert written > 20
    assert playable(path) >= 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_without_space_is_one_error_for_each_sink(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.jsonl"):
        (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        _fill_video(tmp_path / "a.mkv")
    with pytest.raises(OutputError, match="No space left"), RowSink(tmp_path / "a.jsonl") as rows:
        rows.write({"index": 0})


def _fill_video(path: Path) -> None:
    with VideoSink(path, Fraction(5)) as sink:
        for image in noise(60, 64):
            sink.write(image)


def test_label_images_hold_ids_and_show_colors(tmp_path: Path, classes: ClassSet) -> None:
    labels = np.array([[0, 1, 2], [255, 0, 1]], np.uint8)
    LabelSink(tmp_path / "labels", classes).write("a", labels)
    path = tmp_path / "labels" / "a.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == labels.tolist()
        assert np.asarray(image.convert("RGB"))[0].tolist() == [list(c) for c in classes.colors]
    header = path.read_bytes()[24:26]
    assert header == bytes([8, 3]), "8 bits a pixel, palette"


def test_rows_are_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with RowSink(path) as rows:
        rows.write({"index": 0, "miou": None})
        assert json.loads(path.read_text()) == {"index": 0, "miou": None}
        rows.write({"index": 1, "miou": 0.5})
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("frames", [1, 400])
def test_shares_are_whole_rows_while_the_run_goes_on(
    frames: int, tmp_path: Path, classes: ClassSet
) -> None:
    labels = np.zeros((2, 3), np.uint8)
    with ShareSink(tmp_path / "a.csv", classes, unknown=False) as shares:
        for index in range(frames):
            shares.write(
                Frame(index, index / 30, np.zeros((2, 3, 3), np.uint8), f"{index}"), labels
            )
        text = (tmp_path / "a.csv").read_bytes().decode()  # as a killed process leaves it
    assert text.endswith(",1.000000,0.000000,0.000000\r\n")
    assert len(text.splitlines()) == 1 + frames


def test_a_report_never_holds_nan(tmp_path: Path) -> None:
    write_report(tmp_path / "r.json", {"miou": float("nan")})
    assert json.loads((tmp_path / "r.json").read_text()) == {"miou": None}


def test_names_in_reports_and_rows_are_no_html(tmp_path: Path) -> None:
    named = {"name": "<img src=x onerror=alert(1)>"}
    write_report(tmp_path / "r.json", named)
    with RowSink(tmp_path / "rows") as rows:
        rows.write(named)
    for path in (tmp_path / "r.json", tmp_path / "rows"):
        assert "<" not in path.read_text()
        assert json.loads(path.read_text()) == named


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.txt"])
def test_unknown_video_formats_are_refused(name: str) -> None:
    with pytest.raises(HedgeError, match=r"\.mp4, \.mov, \.mkv") as caught:
        VideoSink(Path(name), Fraction(10))
    assert caught.value.exit_code == 2
