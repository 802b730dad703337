"""Decoded frames as upright BGR images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, ColorTrc, VideoReformatter

from runtime.errors import HedgeError
from runtime.images import MAX_PIXELS

_GRAY = ("gray", "ya")  # pixel formats, which FFmpeg takes for full range whatever they say
_FROM_LIMITED = np.rint(((np.arange(256) - 16) * (255 / 219)).clip(0, 255)).astype(np.uint8)
_ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


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
    frame = _converted(converter, decoded, origin)
    plane = frame.planes[0]
    if plane.line_size != 3 * frame.width:
        image = np.ascontiguousarray(frame.to_ndarray())
    else:
        pixels = np.frombuffer(memoryview(plane), np.uint8, 3 * frame.width * frame.height)
        image = pixels.reshape(frame.height, frame.width, 3)
    if decoded.color_range == ColorRange.MPEG and decoded.format.name.startswith(_GRAY):
        image = cv2.LUT(image, _FROM_LIMITED)
    turn = _ROTATIONS.get(round(decoded.rotation / 90) * 90 % 360)
    return image if turn is None else cv2.rotate(image, turn)


def _converted(converter: VideoReformatter, frame: av.VideoFrame, origin: str) -> av.VideoFrame:
    if frame.color_trc == ColorTrc.SMPTE2084:
        raise HedgeError(
            f"{origin}: HDR (PQ), whose colours are dim and gray without tone mapping; convert it "
            "to SDR first"
        )
    try:
        # In one thread: more of them spend a third more CPU, which the engine misses.
        return converter.reformat(frame, format="bgr24", threads=1)
    except av.FFmpegError as error:
        raise HedgeError(
            f"{origin}: {frame.format.name} with colour matrix {frame.colorspace} has no "
            "conversion; convert it first: ffmpeg -i IN -vf format=yuv420p OUT"
        ) from error


def packets_of(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """What ``container`` holds of ``stream``, in order."""
    with suppress(IndexError):  # how PyAV ends where another stream had begun half-way
        yield from container.demux(stream)
