"""Clips made on the spot, and what comes out of a video file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.outputs.video_file import VideoSink
from tests.equipment.pictures import picture

FPS = 30  # of the videos that the checks stream
SIZE = (96, 160)
# Its assembly takes an address from what it never wrote, as Valgrind tells, and crashed once.
STEADY_X265 = "log-level=none:asm=0"
_ENCODERS = {
    "libx264": {"bf": "3", "b_strategy": "0", "sc_threshold": "0"},
    "libx265": {"x265-params": STEADY_X265},
}
_X264 = {"qp": "1", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}


def make_clip(
    path: Path,
    images: Sequence[np.ndarray] | int = 5,
    fps: int = 10,
    codec: str = "libx264rgb",
    pixels: str = "bgr24",
    turned: int = 0,
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """Write (H, W, 3) uint8 BGR images with PyAV; lossless unless ``codec`` says another.

    H.264 has three B-frames in a row, as x264 writes it by default, whatever the images are.
    turned: degrees, for an mp4 of a phone that was held sideways.
    """
    if isinstance(images, int):
        images = [picture(index) for index in range(images)]
    with av.open(f"file:{path.absolute()}", "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.options = _X264 if codec.startswith("libx264") else {}
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if turned:
        _turn(path, turned)
    return path


def _turn(path: Path, degrees: int) -> None:
    """Write the display matrix of a phone held sideways into the track header of an mp4."""
    matrices = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    set_matrix(path, matrices[degrees])


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Let an mp4 show what is at (x, y) at (a·x + c·y, b·x + d·y), for ``matrix`` a, b, c, d."""
    a, b, c, d = (value << 16 for value in matrix)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def small_video(path: Path, count: int) -> Path:
    """A drifting pattern of 96×160 at 30 fps, as the product writes it."""
    if not path.exists():
        height, width = SIZE
        pattern = np.random.default_rng(0).integers(256, size=(height, 640, 3), dtype=np.uint8)
        with VideoSink(path, Fraction(FPS)) as sink:
            for number in range(count):
                start = number % (640 - width)
                sink.write(np.ascontiguousarray(pattern[:, start : start + width]))
    return path


def remuxed(video: Path, path: Path, lost: Container[int] = ()) -> Path:
    """The same pictures in another container; an mp4 has its index, and their number, in front.

    lost: numbers of packets that are left out.
    """
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(video)) as source, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number not in lost:
                packet.stream = stream
                target.mux(packet)
    return path


def decode(path: Path) -> list[np.ndarray]:
    """Every frame of a video that decodes, as (H, W, 3) uint8 BGR."""
    with av.open(f"file:{path.absolute()}") as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def playable(path: Path) -> int:
    """Frames that decode, up to the end or to where the video breaks off."""
    count = 0
    with suppress(av.FFmpegError, OSError), av.open(f"file:{path.absolute()}") as container:
        for _ in container.decode(video=0):
            count += 1
    return count


def grey(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(H, W, 3) uint8 BGR of one grey, another one for each of 20 numbers."""
    return np.full((*size, 3), 30 + number % 20 * 10, np.uint8)


def noise(number: int) -> np.ndarray:
    """(48, 64, 3) uint8 BGR that takes many bytes."""
    return np.random.default_rng(number).integers(256, size=(48, 64, 3), dtype=np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number, modulo 20, that an image was made of by ``grey``."""
    return round((float(image.mean()) - 30) / 10)


def make_timed(
    path: Path,
    times: Sequence[Fraction],
    codec: str = "libx264",
    rate: Fraction = Fraction(30),
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction = Fraction(1),
    image: Callable[[int], np.ndarray] = grey,
    gop: int = 12,
    encoder: dict[str, str] | None = None,
) -> Path:
    """Frame i is ``image(i)``, (48, 64, 3) uint8 BGR, and is shown at ``times[i]``.

    There are three B-frames in a row where the codec can, unless ``encoder`` holds its own options.
    options: of the container; gop: frames from one key frame to the next.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        unit = Fraction(1, 90_000) if any(time * rate % 1 for time in times) else 1 / rate
        stream = container.add_stream(codec, rate=rate, time_base=unit)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.codec_context.gop_size = gop
        stream.options = encoder or _ENCODERS.get(codec, {})
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(image(number), "bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time / unit), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def trimmed(video: Path, path: Path, start: Fraction, end: Fraction) -> Path:
    """A clip of ``video`` without encoding it anew: an edit list hides what is before ``start``."""
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.dts * packet.time_base < end:
                packet.pts -= int(start / packet.time_base)
                packet.dts -= int(start / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    return path
