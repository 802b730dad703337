"""One scene in three dozen encodings: the same labels as the plain PNG, or a refusal by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from runtime import Segmenter
from runtime.errors import HedgeError
from runtime.sources.open import open_source
from tests.equipment.bundles import make_bundle
from tests.equipment.encodings import (
    SIZE,
    Encoder,
    alpha,
    gray_scene,
    gray_video,
    heic,
    opencv,
    scene,
    still,
    video,
)  # fmt: skip
from tests.equipment.videos import STEADY_X265

CRF = {"crf": "12"}
ENCODINGS: dict[str, Encoder] = {
    **{f"{m} {'full' if full else 'limited'}, {bits} bits": video(m, full, bits)
       for m in ("601", "709", "2020") for full in (False, True) for bits in (8, 10)},
    "601 limited, 4:2:0": video("601", halved=True),
    "709 limited, 4:2:0, lossy": video(halved=True, **CRF),
    "709 full, 4:2:0": video(full=True, halved=True),
    "2020 limited, HEVC, 10 bits":
        video("2020", bits=10, codec="libx265", **CRF, **{"x265-params": STEADY_X265}),
    "709 limited, VP9": video(codec="libvpx-vp9", suffix=".webm", lossless="1"),
    "709 full, AV1": video(codec="libsvtav1", halved=True, suffix=".mkv", crf="10", preset="10"),
    "601 full, MJPEG": video("601", True, codec="mjpeg", suffix=".avi", qmin="1", qmax="1"),
    "709 limited, FFV1": video(codec="ffv1", suffix=".mkv", level="3"),
    **{f"EXIF {turn}": still("JPEG", ".jpg", turn, quality=98, subsampling=0)
       for turn in range(1, 9)},
    **{f"display matrix as EXIF {turn}": video(turn=turn) for turn in range(2, 9)},
    "EXIF 6 in PNG": still("PNG", ".png", 6),
    "EXIF 5 in WebP": still("WEBP", ".webp", 5, lossless=True),
    "EXIF 7 in TIFF": still("TIFF", ".tif", 7),
    "EXIF 8 in AVIF": still("AVIF", ".avif", 8, quality=98),
    "JPEG of 4:2:0": still("JPEG", ".jpg", quality=90),
    "JPEG 2000": still("JPEG2000", ".jp2"),
    "BMP": still("BMP", ".bmp"),
    "PPM": still("PPM", ".ppm"),
    "TIFF, packed": still("TIFF", ".tiff", compression="tiff_lzw"),
    "WebP, lossy": still("WEBP", ".webp", quality=90),
    "AVIF": still("AVIF", ".avif", quality=90),
    "AVIF named .png": still("AVIF", ".png", quality=90),
    "PNG named .jpg": still("PNG", ".jpg"),
    "HEIC": heic,
    "alpha": alpha,
    "16 bits, PNG": opencv(".png"),
    "16 bits, TIFF": opencv(".tiff"),
}  # fmt: skip
LOSSY = ("lossy", "HEVC", "AV1", "AVIF", "JPEG", "HEIC", "4:2:0", "EXIF")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(make_bundle(tmp_path_factory.mktemp("b") / "b", SIZE), "onnxruntime")


def first_frame(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR."""
    with open_source(str(path)) as source:
        return next(iter(source)).image


def agrees(found: np.ndarray, wanted: np.ndarray, segmenter: Segmenter) -> float:
    """The share of pixels with the same labels."""
    assert found.shape == wanted.shape
    return float((segmenter(found) == segmenter(wanted)).mean())


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_labels_are_those_of_the_png(name: str, tmp_path: Path, segmenter: Segmenter) -> None:
    found = first_frame(ENCODINGS[name](tmp_path))
    plain = scene()[..., ::-1]
    assert agrees(found, plain, segmenter) >= 0.99
    off = np.abs(found.astype(int) - plain)
    assert off.mean() < (2 if any(word in name for word in LOSSY) else 0.6)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [("libx264", "gray", ".mp4"), ("ffv1", "gray", ".mkv"), ("ffv1", "gray10le", ".mkv")],
)
def test_gray_has_its_range(
    full: bool, codec: str, pixels: str, suffix: str, tmp_path: Path
) -> None:
    found = first_frame(gray_video(full, codec, pixels, suffix)(tmp_path))
    assert np.abs(found.astype(int) - gray_scene()[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("matrix", "curve", "said"),
    [(8, 1, "colour matrix 8 has no conversion"), (9, 16, r"HDR \(PQ\)")],
)
def test_colors_that_cannot_be_told_are_refused(
    matrix: int, curve: int, said: str, tmp_path: Path
) -> None:
    path = video(suffix=".mkv", codec="ffv1", level="3")(tmp_path)
    tagged = tmp_path / "tagged.mkv"
    with av.open(str(path)) as source, av.open(str(tagged), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        copy.codec_context.colorspace, copy.codec_context.color_trc = matrix, curve
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    with pytest.raises(HedgeError, match=rf"tagged\.mkv: .*{said}"):
        first_frame(tagged)


@pytest.fixture(scope="module")
def huge() -> bytes:
    """A JPEG of 0.4 MB that would take 0.7 GB."""
    file = io.BytesIO()
    Image.new("L", (15_000, 15_000)).save(file, "JPEG", quality=5)
    return file.getvalue()


def test_a_huge_picture_in_a_video_is_refused(huge: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 15_000
        stream.pix_fmt = "yuvj420p"
        packet = av.Packet(huge)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 10)
        container.mux(packet)
    with pytest.raises(HedgeError, match=r"a\.avi: 15000×15000 is more than 67 million pixels"):
        first_frame(path)


def test_a_camera_that_sends_a_huge_picture_is_refused(
    huge: bytes, serve: Callable[[Callable[[BaseHTTPRequestHandler], None]], str]
) -> None:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        request.end_headers()
        for _ in range(3):
            head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(huge)}\r\n\r\n"
            request.wfile.write(head.encode() + huge + b"\r\n")

    with pytest.raises(HedgeError, match="15000×15000 is more than 67 million pixels"):
        open_source(serve(send))


def test_a_picture_that_becomes_huge_is_damage(huge: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    small = io.BytesIO()
    Image.new("L", (32, 32), 200).save(small, "JPEG")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for number, data in enumerate((small.getvalue(), huge, small.getvalue())):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            container.mux(packet)
    with open_source(str(path)) as source:
        assert [frame.image.shape for frame in source] == [(32, 32, 3)] * 2
    assert source.damaged == 1
