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

from runtime import sinks
from runtime.classes import ClassSet
from runtime.errors import HedgeError, OutputError
from runtime.sinks import LabelSink, RowSink, VideoSink, check_outputs

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
        assert (int(frames[0].colorspace), int(frames[0].color_range)) == (1, 1)  # BT.709, limited
    assert frames[29].time == pytest.approx(29 / rate, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (31, 47)])
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


def test_key_frames_come_every_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoSink(path, Fraction(5)) as sink:
        for _ in range(25):
            sink.write(plain((90, 90, 90)))
    with av.open(str(path)) as container:
        keys = [p.pts * p.time_base for p in container.demux(video=0) if p.is_keyframe]
    assert keys == [0, 2, 4]


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


def test_rows_are_readable_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_FLUSH_SECONDS", -1.0)
    path = tmp_path / "rows.jsonl"
    with RowSink(path) as rows:
        rows.write({"index": 0, "miou": None})
        assert json.loads(path.read_text()) == {"index": 0, "miou": None}
        rows.write({"index": 1, "miou": 0.5})
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_report_never_holds_nan(tmp_path: Path) -> None:
    sinks.write_report(tmp_path / "r.json", {"miou": float("nan")})
    assert json.loads((tmp_path / "r.json").read_text()) == {"miou": None}


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    check_outputs([tmp_path / "a" / "b" / "c.json"], tmp_path / "d" / "e", [], False)
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "d" / "e").is_dir()


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_overwritten(link: str, force: bool, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"precious")
    output = source if link == "same" else tmp_path / "b.mp4"
    if link == "symlink":
        output.symlink_to(source)
    elif link == "hardlink":
        output.hardlink_to(source)
    with pytest.raises(HedgeError, match="an input as well") as caught:
        check_outputs([output], None, [source], force)
    assert caught.value.exit_code == 2
    assert source.read_bytes() == b"precious"


def test_labels_are_not_saved_among_the_inputs(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    with pytest.raises(HedgeError, match="holds inputs"):
        check_outputs([], tmp_path, [image], True)


def test_what_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.png").write_text("old")
    for outputs, folder in (([tmp_path / "r.json"], None), ([], tmp_path / "labels")):
        with pytest.raises(OutputError, match="--force"):
            check_outputs(outputs, folder, [], False)
        check_outputs(outputs, folder, [], True)


@pytest.mark.parametrize("place", ["a file/x.json", "folder", "/proc/x.json"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as caught:
        check_outputs([tmp_path / place], None, [], True)
        sinks.write_report(tmp_path / place, {})  # root may write anywhere: then the system says no
    assert caught.value.exit_code == 5


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="two outputs"):
        check_outputs([tmp_path / "a", tmp_path / "b" / ".." / "a"], None, [], True)


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.txt"])
def test_unknown_video_formats_are_refused(name: str) -> None:
    with pytest.raises(HedgeError, match=r"\.mp4, \.mov, \.mkv") as caught:
        VideoSink(Path(name), Fraction(10))
    assert caught.value.exit_code == 2
