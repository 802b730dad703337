"""Cameras on this machine, by what FFmpeg calls those of each system."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import pytest

from runtime import cli
from runtime.errors import HedgeError
from runtime.sources.address import Address, camera
from runtime.sources.network import NetworkSource, open_address
from runtime.video import VideoConfig, main


def test_cameras_go_by_number_or_device() -> None:
    places = {}
    for system in ("linux", "darwin"):
        address = camera(12, system)
        assert address.shown == "camera 12"
        places[address.format] = address.target
    assert places == {"v4l2": "/dev/video12", "avfoundation": "12:none"}
    assert camera(0, "darwin").ways[0] == {"framerate": "30"}  # FFmpeg's 29.97 is refused there
    assert Address.parse("12") == camera(12)
    device = Address.parse("/dev/video3")
    assert device is not None
    assert (device.shown, device.target, device.format) == ("/dev/video3", "/dev/video3", "v4l2")


def test_a_camera_that_is_not_there_is_one_line(
    shared_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(VideoConfig, main, "video", ["97", "--bundle", str(shared_bundle)])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: camera 97: cannot be opened (No such file or directory); ")
    assert "cameras here: " in line


def test_a_camera_of_another_system_is_one_line() -> None:
    with pytest.raises(HedgeError, match=r"^camera 0: FFmpeg has no avfoundation here; cameras "):
        open_address(camera(0, "darwin"))
    with pytest.raises(HedgeError, match=r"^camera 3: there is none; cameras here: "):
        camera(3, "win32")  # where a number is a place in a list of names


class Hasty:
    """A camera that answers at once where no frame is there yet, as FFmpeg's of Macs does."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self._container, self.refusals = container, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def demux(self, stream: av.VideoStream) -> Iterator[av.Packet]:
        for packet in self._container.demux(stream):
            yield packet
            self.refusals += 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_camera_that_has_no_frame_yet_is_asked_again() -> None:
    pattern = Address("camera", "testsrc=size=64x48:rate=50,realtime", "lavfi")  # FFmpeg's own
    container = Hasty(pattern.open({}, (5.0, 5.0)))
    with NetworkSource(pattern, container, deque(pattern.ways)) as source:  # type: ignore[arg-type]
        assert len(list(islice(source, 5))) == 5
        assert source.gaps.count == 0
    assert container.refusals >= 5
