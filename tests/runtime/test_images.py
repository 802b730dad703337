"""Every encoding of a picture is the same picture, upright, or refused in one line."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageCms

from runtime import images
from runtime.errors import HedgeError


def noise(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_image_raises_and_names_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(noise()).save(path)
    images.read_rgb(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(HedgeError, match=name):
        images.read_rgb(path)


WIDTH, HEIGHT = 96, 64


def scene() -> np.ndarray:
    """(64, 96, 3) uint8 RGB of which no two sides are alike: red grows to the right, green down."""
    x, y = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return np.stack([x, y, np.where(x < 64, 230, 40)], -1).round().astype(np.uint8)


def off(found: np.ndarray, wanted: np.ndarray) -> int:
    """The largest difference of two images of one shape."""
    assert (found.shape, found.dtype) == (wanted.shape, np.uint8)
    return int(np.abs(found.astype(int) - wanted).max())


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


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


def test_a_png_in_which_a_bit_is_flipped_never_shows_other_pixels(tmp_path: Path) -> None:
    """The last bytes of the pixels: the decoder is done before it comes to their checksum."""
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(4, size=(24, 32), dtype=np.uint8)).save(path)
    whole, pixels = path.read_bytes(), images.read_rgb(path)
    end = whole.index(b"IEND") - 8
    for at in range(end - 12, end):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(HedgeError, match=r"a\.png: not a readable image"):
            images.read_rgb(path)
        assert images.read_size(path) == (24, 32)
    path.write_bytes(whole)
    assert (images.read_rgb(path) == pixels).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_picture_comes_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](scene())))
    how = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    stored.save(path, exif=tagged(orientation), **how)
    found = images.read_rgb(path)
    assert off(found, scene()) <= (4 if suffix == "jpg" else 0)
    assert images.read_size(path) == found.shape[:2]
    if suffix != "tif":  # OpenCV 5.0 fails on those
        opencv = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert off(found, opencv) <= (4 if suffix == "jpg" else 0)


RAMP = np.linspace(0, 65535, 256 * 64).round().reshape(64, 256).astype(np.uint16)
GRAY = np.rint(RAMP / 257).astype(np.uint8)


def deep(kind: str, path: Path) -> None:
    """Write the ramp with more than 8 bits a value."""
    if kind == "pgm":
        path.write_bytes(b"P5 256 64 65535\n" + RAMP.astype(">u2").tobytes())
    elif kind == "pgm of 10 bits":
        path.write_bytes(b"P5 256 64 1023\n" + (RAMP // 64).astype(">u2").tobytes())
    elif kind == "white is zero":
        Image.fromarray(65535 - RAMP).save(path, "TIFF", tiffinfo={262: 0})
    elif kind.startswith("color"):
        suffix = kind.split()[1]
        cv2.imwrite(str(path.with_suffix(suffix)), np.repeat(RAMP[..., None], 3, 2))
        path.with_suffix(suffix).rename(path)
    elif kind == "big endian":
        Image.frombytes("I;16B", (256, 64), RAMP.astype(">u2").tobytes()).save(path, "TIFF")
    else:
        values = {"int32": RAMP.astype(np.int32), "float": RAMP.astype(np.float32) / 65535}
        Image.fromarray(values.get(kind, RAMP)).save(path, "PNG" if kind == "png" else "TIFF")


@pytest.mark.parametrize(
    "kind",
    [
        "png", "tiff", "big endian", "white is zero", "int32", "float", "pgm", "pgm of 10 bits",
        "color .png", "color .tiff",
    ],
)  # fmt: skip
def test_more_than_eight_bits_are_scaled(kind: str, tmp_path: Path) -> None:
    deep(kind, tmp_path / "a.png")
    found = images.read_rgb(tmp_path / "a.png")
    rounding = 1 if "color" in kind or "10 bits" in kind else 0
    assert off(found, np.repeat(GRAY[..., None], 3, 2)) <= rounding
    assert abs(found.mean() - 127.5) < 0.6


def test_32_bits_that_hold_8(tmp_path: Path) -> None:
    Image.fromarray(GRAY.astype(np.int32)).save(tmp_path / "a.tif")
    assert off(images.read_rgb(tmp_path / "a.tif")[..., 0], GRAY) == 0


MODES = {  # that PIL writes in each format
    "PNG": "1 L LA P RGB RGBA",
    "TIFF": "1 L LA P PA RGB RGBA CMYK YCbCr",
    "JPEG": "1 L RGB CMYK YCbCr",
    "WEBP": "1 L LA P PA RGB RGBA CMYK YCbCr",
    "AVIF": "1 L LA P PA RGB RGBA CMYK YCbCr",
    "GIF": "1 L LA P RGB",
    "BMP": "1 L P RGB RGBA",
    "JPEG2000": "L LA RGB RGBA CMYK YCbCr",
}


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]
)
def test_every_mode_of_every_format_shows_the_picture(kind: str, mode: str, tmp_path: Path) -> None:
    """White above black, transparent to the left, except in a GIF, which keeps no such colours."""
    if (kind, mode) == ("TIFF", "YCbCr") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow 12, the last for Python 3.10, asks such files for four bytes a pixel")
    image = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    image[:32, :, :3] = 255
    image[..., 3] = np.linspace(0, 255, WIDTH)
    path = tmp_path / "a"
    base = Image.fromarray(image)
    if mode == "PA":
        stored = base.convert("RGB").convert("P").convert("PA")
    else:
        stored = base if mode == "RGBA" else base.convert("RGB").convert(mode)
    stored.save(path, kind)
    tolerance = 3 if kind in ("JPEG", "WEBP", "AVIF") else 0
    assert off(images.read_rgb(path), image[..., :3]) <= tolerance


def test_a_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    """A picture stored as Lab-like primaries: red and blue have changed places."""
    swapped = ImageCms.ImageCmsProfile(io.BytesIO(_profile_with_red_and_blue_swapped()))
    Image.fromarray(scene()[..., ::-1]).save(tmp_path / "a.png", icc_profile=swapped.tobytes())
    Image.fromarray(scene()).save(tmp_path / "b.png", icc_profile=b"not a profile")
    assert off(images.read_rgb(tmp_path / "a.png"), scene()) <= 3
    assert off(images.read_rgb(tmp_path / "b.png"), scene()) == 0


def _profile_with_red_and_blue_swapped() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        data.replace(b"rXYZ", b"_XYZ").replace(b"bXYZ", b"rXYZ").replace(b"_XYZ", b"bXYZ")
    ).replace("sRGB".encode("utf-16-be"), "BRGs".encode("utf-16-be"))


def bad_image(kind: str, path: Path) -> None:
    """Write an image of the kind named, of which some reader would show something wrong."""
    pages = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    rest: dict[str, Any] = {"save_all": True, "append_images": pages[1:]}
    if kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        pages[0].save(path, kind, **rest)
    elif kind == "12 bits in 16":
        Image.fromarray(RAMP // 16).save(path)
    elif kind == "12 bits in 16 of colours":
        cv2.imwrite(str(path), cv2.merge([RAMP // 16] * 3 + [np.full_like(RAMP, 65535)]))
    elif kind == "colours of 16 bits":  # PIL makes black of the brightest
        path.write_bytes(cv2.imencode(".jp2", cv2.merge([RAMP] * 3))[1].tobytes())
    elif kind in ("float of 0..255", "NaN", "negative"):
        factor = {"float of 0..255": 255.0, "NaN": np.nan, "negative": -0.5}[kind]
        Image.fromarray((RAMP / 65535 * factor).astype(np.float32)).save(path, "TIFF")
    elif kind == "int32":
        Image.fromarray(RAMP.astype(np.int32) * 1000).save(path, "TIFF")
    elif kind == "raw":
        Image.fromarray(GRAY).save(path, "TIFF", tiffinfo={254: 1})
    elif kind in ("large", "bomb"):
        side = 9_000 if kind == "large" else 15_000
        Image.new("1", (side, side)).save(path)
    elif kind == "claims":
        path.write_bytes(b"P6 4000000000 4000000000 255\n")
    else:
        path.write_bytes({"text": b"hello " * 20, "video": b"\0\0\0\x20ftypisom" + bytes(50)}[kind])


BAD = {
    "GIF": "3 pictures", "WEBP": "3 pictures", "PNG": "3 pictures", "AVIF": "3 pictures",
    "TIFF": "several pages", "12 bits in 16": "brightest value is 4095 of 65535",
    "12 bits in 16 of colours": "brightest value is below 4096 of 65535",
    "colours of 16 bits": "JPEG 2000 in colour with more than 8 bits",
    "float of 0..255": "from 0 to 255", "NaN": "from nan", "negative": "from -0.5",
    "int32": "from 0 to 65535000", "raw": "begins with a thumbnail",
    "large": "more than 67 million pixels",
    "bomb": "more than 67 million pixels", "claims": "not a readable image",
    "text": "none of BMP", "video": "none of BMP",
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_rightly_is_refused(kind: str, tmp_path: Path) -> None:
    bad_image(kind, tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HedgeError, match=rf"a\.png: .*{BAD[kind]}") as caught:
            images.read_rgb(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_copies_of_less_resolution_are_no_pages(tmp_path: Path) -> None:
    thumbnail = Image.fromarray(scene()[::4, ::4])
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(scene()).save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail])
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 2
    assert off(images.read_rgb(tmp_path / "a.tif"), scene()) == 0


def test_the_other_views_of_a_photo_do_not_count(tmp_path: Path) -> None:
    left, right = Image.fromarray(scene()), Image.fromarray(scene()[:, ::-1])
    left.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[right], quality=100)
    assert off(images.read_rgb(tmp_path / "a.jpg"), scene()) <= 60  # of 4:2:0


def test_heic_needs_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"  # as some programs name what a phone sends
    pillow_heif.from_pillow(Image.fromarray(scene())).save(path, quality=95)
    assert np.abs(images.read_rgb(path).astype(int) - scene()).mean() < 3
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(HedgeError, match=r"a\.jpg: .*pip install 'hedge-seg\[heic\]'"):
        images.read_rgb(path)


def test_a_tiled_heic_is_whole(tmp_path: Path) -> None:
    """Phones store pictures as tiles of 512."""
    wide = cv2.resize(scene(), (1536, 1024), interpolation=cv2.INTER_NEAREST)
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.fromarray(wide)).save(path, quality=90, tile_size=512)
    assert path.read_bytes().count(b"hvc1") >= 6
    assert np.abs(images.read_rgb(path).astype(int) - wide).mean() < 3


def test_hdr_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(scene()).save(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"colrnclx") + 10
    assert off(images.read_rgb(path), scene()) < 60  # of 4:2:0
    data[at : at + 2] = b"\0\x10"  # the curve of BT.2100 PQ
    path.write_bytes(data)
    with pytest.raises(HedgeError, match=r"a\.avif: .*HDR \(PQ\)"):
        images.read_rgb(path)
