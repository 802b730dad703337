"""The command from end to end: counts, accuracy, files, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.bundle.measured import Measured
from runtime.errors import HedgeError, IncompleteError, OutputError
from runtime.video import VideoConfig, main
from tests.equipment.processes import outputs_in, rows_of

Make = Callable[..., Path]
Save = Callable[[Path, np.ndarray], Path]
Decode = Callable[[Path], list[np.ndarray]]
REPORT_KEYS = {
    "frames_read", "frames_written", "frames_dropped", "fps", "latency_ms", "miou", "backend",
    "precision", "bundle",
}  # fmt: skip


@pytest.fixture
def run(shared_bundle: Path) -> Callable[..., int]:
    """Run the command in this process on the tiny bundle; its exit code."""

    def run_command(source: Path | str, **options: Any) -> int:
        options = {"bundle": shared_bundle, "backend": "onnxruntime", **options}
        return main(VideoConfig(str(source), **options))

    return run_command


def check_counts(outputs: dict[str, Path], decode: Decode, count: int) -> dict[str, Any]:
    """Read = inferred = written = rows = label images = frames of the video; the report."""
    report = json.loads(outputs["json"].read_text())
    assert (report["frames_read"], report["frames_written"]) == (count, count)
    assert report["frames_dropped"] == 0
    assert len(decode(outputs["out"])) == count
    assert len(rows_of(outputs["metrics"])) == count
    assert len(list(outputs["save_labels"].iterdir())) == count
    return report


def test_a_video_with_all_outputs(
    run: Callable[..., int],
    tmp_path: Path,
    make_clip: Make,
    band_picture: Callable[..., np.ndarray],
    decode: Decode,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = outputs_in(tmp_path)
    assert run(make_clip(tmp_path / "a.mp4", 7, fps=10), **outputs) == 0
    report = check_counts(outputs, decode, 7)
    assert report.keys() >= REPORT_KEYS
    assert report["latency_ms"].keys() == {"read", "infer", "write", "total"}
    assert all(t > 0 for stage in report["latency_ms"].values() for t in stage.values())
    assert (report["backend"], report["precision"]) == ("onnxruntime", "fp32")
    assert report["miou"] is None
    rows = rows_of(outputs["metrics"])
    assert [row["name"] for row in rows] == [f"00000{i}" for i in range(7)]
    assert rows[3]["time_s"] == pytest.approx(0.3)
    with Image.open(outputs["save_labels"] / "000002.png") as saved:
        assert (np.asarray(saved) == band_picture(2).argmax(2)).all()
    printed = capsys.readouterr()
    assert all(word in printed.out for word in ("read", "infer", "write", "total", "p99", "mIoU"))
    assert all(str(path) in printed.out for path in outputs.values())
    assert printed.err == ""


def test_accuracy_is_that_of_the_labels(
    run: Callable[..., int], tmp_path: Path, make_images: Make, save_ids: Save
) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 0] = 200  # the model says class 0 everywhere
    folder = make_images(tmp_path / "images", [image] * 3)
    half = np.zeros((24, 32))
    half[:12] = 2
    save_ids(tmp_path / "truth" / "f0.png", np.zeros((24, 32)))
    save_ids(tmp_path / "truth" / "f2.png", half)
    outputs = {"json": tmp_path / "r.json", "metrics": tmp_path / "m.jsonl"}
    assert run(folder, labels=tmp_path / "truth", **outputs) == 0
    report = json.loads(outputs["json"].read_text())
    # class 0: 1.5 frames right of 2 predicted; class 2: none right of half a frame
    assert report["miou"] == pytest.approx((0.75 + 0) / 2)
    assert report["iou"] == {"blue": 0.75, "green": None, "red": 0}
    assert report["frames_scored"] == 2
    assert report["pixel_accuracy"] == pytest.approx(0.75)
    assert report["boundary_f"] is None
    assert [row["miou"] for row in rows_of(outputs["metrics"])] == pytest.approx([1, 1, 0.375])


@pytest.mark.parametrize("white", [255, 1])
def test_masks_of_0_and_255_are_warned_of(
    white: int, run: Callable[..., int], tmp_path: Path, make_images: Make, save_ids: Save,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    half = np.zeros((24, 32))
    half[:12] = white
    half[0, 0] = 255
    save_ids(tmp_path / "truth" / "f0.png", half)
    assert run(make_images(tmp_path / "images", 1), labels=tmp_path / "truth") == 0
    said = " ".join(capsys.readouterr().err.split())
    expected = "truth: 50% of the pixels are ignored, as 255 is; a class that labels hold as 255"
    assert (expected in said) == (white == 255)


def test_boundaries_are_scored_where_asked(
    run: Callable[..., int],
    tmp_path: Path,
    make_images: Make,
    save_ids: Save,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[:, :16, 0] = image[:, 16:, 1] = 200  # the model says class 0 left, class 1 right
    folder = make_images(tmp_path / "images", [image] * 2)
    near, far = np.zeros((24, 32)), np.zeros((24, 32))
    near[:, 18:] = far[:, 26:] = 1  # boundaries 2 and 10 pixels off
    save_ids(tmp_path / "truth" / "f0.png", near)
    save_ids(tmp_path / "truth" / "f1.png", far)
    path = tmp_path / "r.json"
    assert run(folder, labels=tmp_path / "truth", json=path, boundaries=True) == 0
    report = json.loads(path.read_text())
    assert report["boundary_f"] == pytest.approx(0.5)
    assert report["boundary_f_by_class"] == {"blue": 0.5, "green": 0.5, "red": None}
    assert report["boundary_tolerance_px"] == 3
    assert "50.0% within 3 pixels" in capsys.readouterr().out


def test_boundaries_without_labels_are_refused(run: Callable[..., int], tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="give --labels"):
        run(tmp_path, boundaries=True)


def test_labels_of_a_video_go_by_frame_number(
    run: Callable[..., int],
    tmp_path: Path,
    make_clip: Make,
    save_ids: Save,
    band_picture: Callable[..., np.ndarray],
) -> None:
    for index in range(4):
        save_ids(tmp_path / "truth" / f"{index:06d}.png", band_picture(index).argmax(2))
    report = tmp_path / "r.json"
    assert run(make_clip(tmp_path / "a.mp4", 4), labels=tmp_path / "truth", json=report) == 0
    assert json.loads(report.read_text())["miou"] == 1


def test_the_bundles_own_accuracy_stands_beside_the_live_one(
    run: Callable[..., int],
    make_bundle: Make,
    make_images: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = make_bundle(tmp_path / "measured", measured=Measured(miou=0.7125))
    report = tmp_path / "r.json"
    assert run(make_images(tmp_path / "images", 1), bundle=bundle, json=report) == 0
    assert "71.2% in the bundle's manifest" in capsys.readouterr().out


@pytest.mark.parametrize("truth", ["f9.png", None])
def test_labels_of_none_of_the_frames_name_both_folders(
    truth: str | None, run: Callable[..., int], tmp_path: Path, make_images: Make, save_ids: Save
) -> None:
    (tmp_path / "truth").mkdir()
    if truth:
        save_ids(tmp_path / "truth" / truth, np.zeros((24, 32)))
    with pytest.raises(HedgeError, match=r"truth.*images"):
        run(make_images(tmp_path / "images", 2), labels=tmp_path / "truth")


def test_max_frames_is_exact_and_no_shortfall(
    run: Callable[..., int], tmp_path: Path, make_clip: Make, decode: Decode
) -> None:
    outputs = outputs_in(tmp_path)
    assert run(make_clip(tmp_path / "a.mp4", 9), max_frames=4, **outputs) == 0
    check_counts(outputs, decode, 4)


def test_without_overlay_the_video_shows_plain_class_colors(
    run: Callable[..., int], tmp_path: Path, make_images: Make, decode: Decode
) -> None:
    image = np.full((64, 64, 3), (10, 10, 120), np.uint8)  # a dark red: the class is a full one
    out = tmp_path / "o.mp4"
    assert run(make_images(tmp_path / "images", [image]), out=out, overlay=False) == 0
    assert np.abs(decode(out)[0].astype(int) - (0, 0, 255)).max() <= 6


def test_a_broken_image_is_skipped_and_everything_else_finished(
    run: Callable[..., int],
    tmp_path: Path,
    make_images: Make,
    decode: Decode,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_images(tmp_path / "images", 5)
    (folder / "f3.png").write_bytes(b"\x89PNG")
    outputs = outputs_in(tmp_path)
    with pytest.raises(IncompleteError, match="1 of the 5 frames"):
        run(folder, **outputs)
    report = check_counts(outputs, decode, 4)
    assert (report["frames_expected"], report["frames_damaged"]) == (5, 1)
    printed = capsys.readouterr()
    assert "p99" in printed.out, "the table comes before the error"
    assert "f3.png" in printed.err


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_one_flipped_bit_in_the_bundle_is_refused(
    name: str, run: Callable[..., int], bundle: Path, tmp_path: Path, make_images: Make
) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 4
    (bundle / name).write_bytes(data)
    with pytest.raises(HedgeError, match=name) as caught:
        run(make_images(tmp_path / "images", 1), bundle=bundle)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("option", ["out", "json", "metrics", "save_labels"])
def test_existing_outputs_are_kept_unless_forced(
    option: str, run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    folder = make_images(tmp_path / "images", 2)
    path = outputs_in(tmp_path)[option]
    assert run(folder, **{option: path}) == 0
    with pytest.raises(OutputError, match="--force"):
        run(folder, **{option: path})
    assert run(folder, force=True, **{option: path}) == 0


def test_inputs_are_never_outputs(
    run: Callable[..., int], bundle: Path, tmp_path: Path, make_clip: Make, make_images: Make
) -> None:
    clip = make_clip(tmp_path / "a.mp4", 2)
    before = clip.read_bytes()
    images = make_images(tmp_path / "images", 1)
    for source, options in (
        (clip, {"out": clip}),
        (clip, {"bundle": bundle, "json": bundle / "manifest.json"}),
        (images, {"save_labels": images}),
    ):
        with pytest.raises(HedgeError, match="input"):
            run(source, force=True, **options)
    assert clip.read_bytes() == before


@pytest.mark.parametrize("options", [{"threads": -1}, {"max_frames": 0}, {"out": Path("o.gif")}])
def test_options_that_mean_nothing_are_refused(
    options: dict[str, Any], run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    with pytest.raises(HedgeError):
        run(make_images(tmp_path / "images", 1), **options)


def test_a_full_disk_ends_the_run_with_its_code(
    run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    (tmp_path / "o.mkv").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        run(make_images(tmp_path / "images", 2), out=tmp_path / "o.mkv", force=True)


def test_the_newest_bundle_is_the_default(
    tmp_path: Path, make_bundle: Make, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "bundles" / "mine")
    make_images(tmp_path / "images", 1)
    monkeypatch.chdir(tmp_path)
    assert main(VideoConfig("images", json=Path("r.json"))) == 0
    assert json.loads(Path("r.json").read_text())["bundle"] == "bundles/mine"


def test_several_sources_share_the_engine_and_nothing_else(
    shared_bundle: Path, make_clip: Make, tmp_path: Path, playable: Callable[[Path], int]
) -> None:
    clips = [make_clip(tmp_path / f"clip{count}.mp4", count) for count in (6, 9)]
    config = VideoConfig(
        str(clips[0]), shared_bundle, "onnxruntime", more=(str(clips[1]),),
        out=tmp_path / "o.mp4", json=tmp_path / "r.json", metrics=tmp_path / "rows.jsonl",
        save_labels=tmp_path / "labels",
    )  # fmt: skip
    assert main(config) == 0
    for number, count in ((1, 6), (2, 9)):
        report = json.loads((tmp_path / f"r-{number}.json").read_text())
        assert report["source"] == str(clips[number - 1])
        assert report["frames_read"] == report["frames_written"] == count
        assert playable(tmp_path / f"o-{number}.mp4") == count
        assert len(rows_of(tmp_path / f"rows-{number}.jsonl")) == count
        assert len(list((tmp_path / f"labels-{number}").glob("*.png"))) == count


def test_one_of_several_sources_may_fail_alone(
    shared_bundle: Path, make_clip: Make, make_images: Make, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = make_images(tmp_path / "images", 3)
    (folder / "f1.png").write_bytes(b"broken")
    whole = make_clip(tmp_path / "clip.mp4", 6)
    config = VideoConfig(
        str(folder), shared_bundle, "onnxruntime", json=tmp_path / "r.json", more=(str(whole),)
    )
    assert main(config) == 3
    assert json.loads((tmp_path / "r-2.json").read_text())["frames_written"] == 6
    assert "images: 1 of the 3" in capsys.readouterr().err


def test_a_source_that_ends_early_is_told_at_once_and_not_behind_an_alarm(
    shared_bundle: Path, make_clip: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(make_clip(tmp_path / f"clip{count}.mp4", count)) for count in (6, 9)]
    (tmp_path / "o-1.mkv").symlink_to("/dev/full")
    config = VideoConfig(
        clips[0], shared_bundle, "onnxruntime", more=(clips[1],), out=tmp_path / "o.mkv",
        alarm=("blue > 0",), force=True,
    )  # fmt: skip
    assert main(config) == OutputError.exit_code
    told = capsys.readouterr().err
    assert f"warning: {clips[0]} has ended, the others go on: {tmp_path}/o-1.mkv: " in told
    assert f"error: {tmp_path}/o-1.mkv: " in told and "No space left" in told
    assert f"error: {clips[1]}: alarms that rang: 1" in told
