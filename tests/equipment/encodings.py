"""One scene in many encodings: stills by PIL, videos whose planes are computed by the standards."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pillow_heif
from PIL import ExifTags, Image

SIZE = (128, 192)
Encoder = Callable[[Path], Path]

# How a picture is stored that a viewer turns upright again, by EXIF orientation.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
# The display matrix (a, b, c, d) of an MP4 that is stored so.
MATRIX_OF = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
# Weights of red and blue in luma, and FFmpeg's number of the matrix.
MATRICES = {"601": (0.299, 0.114, 5), "709": (0.2126, 0.0722, 1), "2020": (0.2627, 0.0593, 9)}


def scene() -> np.ndarray:
    """(128, 192, 3) uint8 RGB: six blocks, in each another channel leads; no two sides alike."""
    leading = np.array([[0, 1, 2], [2, 0, 1]]).repeat(64, 0).repeat(64, 1)
    x, y = np.meshgrid(np.linspace(0, 1, SIZE[1]), np.linspace(0, 1, SIZE[0]))
    image = np.stack([40 + 60 * x, 30 + 70 * y, 60 + 40 * x * y], -1)
    image[np.arange(SIZE[0])[:, None], np.arange(SIZE[1]), leading] += 90 + 30 * x
    return image.round().astype(np.uint8)


def gray_scene() -> np.ndarray:
    """(128, 192) uint8: the scene's green."""
    return np.ascontiguousarray(scene()[..., 1])


def still(kind: str, suffix: str, turn: int = 1, **how: Any) -> Encoder:
    """The scene as PIL writes it, stored as EXIF orientation ``turn`` says."""

    def encode(folder: Path) -> Path:
        image = Image.fromarray(np.ascontiguousarray(STORED[turn](scene())))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        path = folder / f"scene{suffix}"
        image.save(path, kind, **({"exif": exif} if turn > 1 else {}), **how)
        return path

    return encode


def opencv(suffix: str) -> Encoder:
    """The scene with 16 bits a channel, which PIL does not write."""

    def encode(folder: Path) -> Path:
        path = folder / f"scene{suffix}"
        cv2.imwrite(str(path), scene()[..., ::-1].astype(np.uint16) * 257)
        return path

    return encode


def alpha(folder: Path) -> Path:
    """A PNG that fades out to the right."""
    fade = np.tile(np.linspace(255, 1, SIZE[1]).astype(np.uint8), (SIZE[0], 1))
    Image.fromarray(np.dstack([scene(), fade])).save(folder / "scene.png")
    return folder / "scene.png"


def heic(folder: Path) -> Path:
    pillow_heif.from_pillow(Image.fromarray(scene())).save(folder / "scene.heic", quality=95)
    return folder / "scene.heic"


def planes(matrix: str, full: bool, bits: int) -> list[np.ndarray]:
    """(H, W) Y, Cb and Cr of the scene, by the formulas of BT.601, BT.709 and BT.2020."""
    red_weight, blue_weight, _ = MATRICES[matrix]
    red, green, blue = np.moveaxis(scene() / 255, -1, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - luma) / 2 / (1 - blue_weight), (red - luma) / 2 / (1 - red_weight)
    step, top = 1 << (bits - 8), (1 << bits) - 1
    if full:
        values = [luma * top, cb * top + 128 * step, cr * top + 128 * step]
    else:
        values = [(16 + 219 * luma) * step, *((128 + 224 * c) * step for c in (cb, cr))]
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.rint(value).clip(0, top).astype(kind) for value in values]


def video(
    matrix: str = "709", full: bool = False, bits: int = 8, codec: str = "libx264",
    suffix: str = ".mp4", halved: bool = False, turn: int = 1,
    **options: str,
) -> Encoder:  # fmt: skip
    """Three frames of the scene; tagged, lossless unless ``options`` say otherwise.

    halved: colours at half the width and height, as nearly all cameras store them; turn: how the
    frames of an MP4 are stored, as an EXIF orientation.
    """

    def encode(folder: Path) -> Path:
        y, *colors = planes(matrix, full, bits)
        if halved:
            colors = [
                cv2.resize(c, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for c in colors
            ]
        pixels = f"yuv{420 if halved else 444}p{'10le' if bits == 10 else ''}"
        path = folder / f"scene{suffix}"
        stored = [np.ascontiguousarray(STORED[turn](plane)) for plane in (y, *colors)]
        _write(path, pixels, stored, codec, full, MATRICES[matrix][2], options or {"qp": "0"})
        if turn > 1:
            _set_matrix(path, MATRIX_OF[turn])
        return path

    return encode


def gray_video(full: bool, codec: str, pixels: str, suffix: str) -> Encoder:
    """Three frames of the gray scene without colour planes."""

    def encode(folder: Path) -> Path:
        values = gray_scene() / 255
        bits = 10 if "10" in pixels else 8
        top, step = (1 << bits) - 1, 1 << (bits - 8)
        luma = np.rint(values * top if full else (16 + 219 * values) * step)
        path = folder / f"scene{suffix}"
        stored = [luma.astype(np.uint8 if bits == 8 else np.uint16)]
        _write(path, pixels, stored, codec, full, 2, {"qp": "0"} if "264" in codec else {})
        return path

    return encode


@contextmanager
def _ordinary_turns() -> Iterator[None]:
    """SVT-AV1 makes a root's thread that calls it a real-time one, and all that it starts then:
    nothing else on the machine would get a turn before the tests."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into the track header of an MP4."""
    a, b, c, d = (value << 16 for value in matrix)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def _write(
    path: Path, pixels: str, stored: list[np.ndarray], codec: str, full: bool, matrix: int,
    options: dict[str, str],
) -> None:  # fmt: skip
    with _ordinary_turns(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = stored[0].shape
        stream.pix_fmt, stream.options = pixels, options
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        for number in range(3):
            frame = av.VideoFrame(stream.width, stream.height, pixels)
            for plane, values in zip(frame.planes, stored, strict=True):
                rows = np.zeros((len(values), plane.line_size), np.uint8)
                rows[:, : values.shape[1] * values.itemsize] = values.view(np.uint8)
                plane.update(rows.tobytes())
            frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
