"""Which stream of a container is shown, and decoded frames as upright BGR images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import ColorRange, ColorTrc, VideoReformatter

from runtime.errors import HedgeError
from runtime.images import MAX_PIXELS

_GRAY = ("gray", "ya")  # pixel formats, which FFmpeg takes for full range whatever they say
_FROM_LIMITED = np.rint(((np.arange(256) - 16) * (255 / 219)).clip(0, 255)).astype(np.uint8)
# As GPUs hand frames over, in planes. FFmpeg converts the planes as it does those of the CPU's
# decoders; from NV12 itself it takes four times as long, for colours that differ at every edge.
_PLANAR = {"nv12": "yuv420p"}
# Covers of music files, and pictures for a player's time line.
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


def main_video(container: av.container.InputContainer) -> av.VideoStream | None:
    """The video to show; None without one that FFmpeg can decode.

    Of the tracks of a file, or the variants of an HLS playlist, it is a default one, then the
    largest, then the one of the highest bit rate. The others are not read.
    """
    videos = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _NO_VIDEO
    ]
    chosen = max(videos, key=_preference, default=None)
    discard = getattr(av.stream, "Discard", None)  # PyAV 18 can
    for stream in container.streams:
        if discard is not None and stream is not chosen:
            stream.discard = discard.all
    return chosen


def _preference(stream: av.VideoStream) -> tuple[bool, int, int]:
    declared = stream.metadata.get("variant_bitrate", "")  # bits a second, of an HLS variant
    bits = int(declared) if declared.isdigit() else stream.codec_context.bit_rate or 0
    return bool(stream.disposition & Disposition.default), stream.width * stream.height, bits


def limit_size(stream: av.VideoStream, origin: str) -> None:
    """Refuse pictures beyond MAX_PIXELS, also where they grow later; before any is decoded."""
    if stream.width * stream.height > MAX_PIXELS:
        raise HedgeError(
            f"{origin}: {stream.width}×{stream.height} is more than {MAX_PIXELS / 1e6:.0f} million "
            "pixels; make it smaller"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


def bgr_image(converter: VideoReformatter, decoded: av.VideoFrame, origin: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR, upright, contiguous; FFmpeg's own memory where rows have no padding.

    Of the matrix (BT.601, 709, 2020, …) and the range that the frame says; without a word BT.601,
    as FFmpeg and OpenCV read it. Alpha is dropped. HedgeError names an ``origin`` whose colours
    cannot be told.
    """
    return _upright(stored_image(converter, decoded, origin), decoded)


def stored_image(converter: VideoReformatter, decoded: av.VideoFrame, origin: str) -> np.ndarray:
    """``bgr_image`` as it is stored, neither turned nor mirrored."""
    frame = _converted(converter, decoded, origin)
    plane = frame.planes[0]
    if plane.line_size != 3 * frame.width:
        image = np.ascontiguousarray(frame.to_ndarray())
    else:
        pixels = np.frombuffer(memoryview(plane), np.uint8, 3 * frame.width * frame.height)
        image = pixels.reshape(frame.height, frame.width, 3)
    if decoded.color_range == ColorRange.MPEG and decoded.format.name.startswith(_GRAY):
        image = cv2.LUT(image, _FROM_LIMITED)
    return image


def _converted(converter: VideoReformatter, frame: av.VideoFrame, origin: str) -> av.VideoFrame:
    if frame.color_trc == ColorTrc.SMPTE2084:
        raise HedgeError(
            f"{origin}: HDR (PQ), whose colours are dim and gray without tone mapping; convert it "
            "to SDR first"
        )
    try:
        # In one thread: more of them spend a third more CPU, which the engine misses.
        if planar := _PLANAR.get(frame.format.name):
            frame = converter.reformat(frame, format=planar, threads=1)
        return converter.reformat(frame, format="bgr24", threads=1)
    except av.FFmpegError as error:
        raise HedgeError(
            f"{origin}: {frame.format.name} with colour matrix {frame.colorspace} has no "
            "conversion; convert it first: ffmpeg -i IN -vf format=yuv420p OUT"
        ) from error


def pixel_aspect(stream: av.VideoStream, decoded: av.VideoFrame) -> Fraction:
    """Width of a pixel of the upright picture by its height; 1 where the file makes no sense."""
    aspect = stream.sample_aspect_ratio
    if aspect is None or not Fraction(1, 10) < aspect < 10:
        return Fraction(1)
    return 1 / aspect if _turned(decoded) else aspect


def is_upright(decoded: av.VideoFrame) -> bool:
    """Whether the frame is shown as it is stored: neither turned nor mirrored."""
    a, _, _, d = _matrix(decoded)
    return a > 0 and d > 0 and not _turned(decoded)


def _turned(decoded: av.VideoFrame) -> bool:
    """Whether rows become columns when the frame is shown."""
    a, b, c, d = _matrix(decoded)
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(image: np.ndarray, decoded: av.VideoFrame) -> np.ndarray:
    """``image`` turned and mirrored as the display matrix says, to the nearest quarter turn."""
    a, b, c, d = _matrix(decoded)
    if _turned(decoded):
        image, a, d = cv2.transpose(image), c, b
    if a < 0 or d < 0:
        image = cv2.flip(image, -1 if a < 0 and d < 0 else 1 if a < 0 else 0)
    return image


def _matrix(decoded: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d: a pixel at (x, y) is shown at (a·x + c·y, b·x + d·y)."""
    try:
        data = decoded.side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return 1, 0, 0, 1
    values = np.frombuffer(bytes(data), np.int32)
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def packets_of(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """What ``container`` holds of ``stream``, in order; a last one, without data, flushes."""
    with suppress(IndexError):  # how PyAV ends where another stream had begun half-way
        yield from container.demux(stream)
