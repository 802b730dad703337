"""Hardware decodes what it decodes as the CPU does; else it is one line, and the CPU's turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.reformatter import VideoReformatter

from runtime import cli
from runtime.errors import EXIT_OK, HedgeError
from runtime.sources.base import Source
from runtime.sources.decode import bgr_image
from runtime.sources.hardware import decoder
from runtime.sources.hardware.decoder import CPU, Decode, UnfitError, check_same, fitting, sample
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from tests.equipment.http_server import pages
from tests.equipment.videos import make_clip, noise

ABSENT: Decode = "vaapi" if sys.platform == "darwin" else "videotoolbox"  # no build here has it


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    images = [noise(number) for number in range(6)]
    return make_clip(tmp_path / "clip.mp4", images, codec="libx264", pixels="yuv420p")


@pytest.fixture
def unopenable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one kind of hardware is a card that no machine has."""

    def hundredth(name: str) -> HWAccel:
        return HWAccel(name, device="99", allow_software_fallback=False)

    monkeypatch.setattr(decoder, "_accel", hundredth)
    monkeypatch.setattr(decoder, "HARDWARE", ("cuda",))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card whose driver is the CPU: what FFmpeg decodes for cuda without a device."""
    monkeypatch.setattr(decoder, "_accel", lambda name: None)
    monkeypatch.setattr(decoder, "HARDWARE", ("cuda",))


def images(source: Source) -> list[np.ndarray]:
    with source:
        return [frame.image for frame in source]


def probed(path: Path) -> tuple[av.VideoStream, list[av.Packet], list[av.VideoFrame]]:
    container = av.open(str(path))
    stream = container.streams.video[0]
    return stream, *sample(container, stream, 6)


def as_nv12(frame: av.VideoFrame, brighter: int = 0) -> av.VideoFrame:
    """A planar frame as a GPU hands it over."""
    found = VideoReformatter().reformat(frame, format="nv12")
    luma = np.frombuffer(memoryview(found.planes[0]), np.uint8).astype(int) + brighter
    found.planes[0].update(luma.clip(0, 255).astype(np.uint8).tobytes())
    found.pts = frame.pts
    return found


def test_what_a_gpu_hands_over_has_the_pixels_of_the_cpu(clip: Path) -> None:
    _, _, frames = probed(clip)
    for full in (False, True):
        for frame in frames:
            frame.color_range = 2 if full else 1
            own = bgr_image(VideoReformatter(), as_nv12(frame), "the clip")
            assert np.array_equal(own, bgr_image(VideoReformatter(), frame, "the clip"))


@pytest.mark.parametrize(("brighter", "most"), [(0, 0), (1, 2)])
def test_small_differences_are_the_same(clip: Path, brighter: int, most: int) -> None:
    _, _, frames = probed(clip)
    assert check_same(frames, [as_nv12(frame, brighter) for frame in frames]) == most


def test_other_pixels_and_missing_frames_are_told(clip: Path) -> None:
    _, _, frames = probed(clip)
    with pytest.raises(UnfitError, match=r"pixels differ by \d+ of 255 levels from the CPU's"):
        check_same(frames, [as_nv12(frame, 3) for frame in frames])
    for wrong in (frames[:-1], [], [frame.reformat(width=32) for frame in frames]):
        with pytest.raises(UnfitError, match="does not give the CPU's frames"):
            check_same(frames, wrong)
    with pytest.raises(UnfitError, match="no frame to try it on"):
        check_same([], frames)


def test_a_decoder_that_fits_decodes_everything(
    clip: Path, stand_in: None, capfd: pytest.CaptureFixture[str]
) -> None:
    for decode in ("auto", "cuda"):
        source = open_source(str(clip), decode=decode)
        assert source.decoder == "cuda"
        assert np.array_equal(images(source), images(open_source(str(clip))))
    with open_source(str(clip), realtime=True, decode="cuda") as paced:
        assert paced.decoder == "cuda"
    assert capfd.readouterr().err == ""


def test_another_decoder_of_the_stream_gives_its_frames(clip: Path) -> None:
    own = decoder.Decoder("cpu", inside=False)  # as Intel's, which FFmpeg has beside its own
    stream, packets, frames = probed(clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "_accel", lambda name: None)
        read = own.packets(stream)
        got = [frame for packet in packets for frame in read(packet)]
    assert got and check_same(frames[: len(got)], got) == 0


def test_what_does_not_open_is_one_line_and_the_cpu_decodes(
    clip: Path, unopenable: None, capfd: pytest.CaptureFixture[str]
) -> None:
    source = open_source(str(clip), decode="auto")
    said = capfd.readouterr().err
    assert f"warning: {clip}: decoded on the CPU (cuda: does not open here (" in said
    assert said.count("\n") == 1 and source.decoder == "cpu"
    assert np.array_equal(images(source), images(open_source(str(clip))))


def test_what_is_named_and_does_not_open_ends_the_command(
    clip: Path, unopenable: None, shared_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = VideoConfig(str(clip), shared_bundle, "onnxruntime", decode="cuda")
    assert cli.exit_code(lambda: main(config)) == 2
    said = capfd.readouterr().err
    assert f"error: {clip}: not decoded by cuda: does not open here (" in said
    assert said.endswith("take --decode auto or cpu\n") and said.count("\n") == 1


def test_what_this_ffmpeg_does_not_know_is_told(clip: Path) -> None:
    assert ABSENT not in hwdevices_available()
    with pytest.raises(HedgeError, match=f"not decoded by {ABSENT}: not in this build of FFmpeg"):
        open_source(str(clip), decode=ABSENT)


def test_a_codec_that_hardware_does_not_know_is_told(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixels="bgr0")
    with pytest.raises(HedgeError, match="cuda: does not decode ffv1"):
        open_source(str(clip), decode="cuda")


def test_turned_pictures_are_left_to_those_who_turn_them(tmp_path: Path, stand_in: None) -> None:
    clip = make_clip(tmp_path / "clip.mp4", codec="libx264", pixels="yuv420p", turned=90)
    assert np.array_equal(
        images(open_source(str(clip), decode="cuda")), images(open_source(str(clip)))
    )
    stream, packets, frames = probed(clip)
    with pytest.raises(UnfitError, match="does not turn pictures upright"):
        fitting("qsv", stream, packets, frames)


def test_an_address_is_tried_on_a_connection_of_its_own(
    clip: Path, serve: Callable[..., str], unopenable: None, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"{serve(pages({'/clip.mp4': clip.read_bytes()}))}/clip.mp4"
    source = open_source(address, decode="auto")
    assert "decoded on the CPU" in capfd.readouterr().err
    assert np.array_equal(images(source), images(open_source(str(clip))))


def test_the_report_tells_what_decoded(clip: Path, shared_bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(VideoConfig(str(clip), shared_bundle, "onnxruntime", json=report)) == EXIT_OK
    assert json.loads(report.read_bytes())["decoder"] == CPU.name == "cpu"
