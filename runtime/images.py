"""Image files as upright 8-bit RGB, read strictly: what cannot be read rightly is refused by name.

PIL, not OpenCV: OpenCV returns a truncated JPEG without an error, and a palette PNG as colours
instead of ids. What a file holds says its content, not its suffix. Readable are:

- AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF and WebP; HEIC with the extra ``heic``.
- gray, palette, RGB and CMYK, with 1 to 16 bits (colours in JPEG 2000: 8), and floating point of
  0..1. 16 bits are scaled to 8. Integers without a known full scale are refused: 12 bits in 16
  would be black.
- EXIF orientations: the image comes upright, as viewers show it and as ``cv2.imread`` reads it.
- embedded colour profiles: colours are converted to sRGB, which networks are trained on. A damaged
  profile is ignored, as browsers do.
- alpha is dropped, as ``cv2.imread`` does: cameras have none, and no background is better.
- a single picture. Of an animation or a file of several pages none is *the* image; an animation
  is a source of frames, as a video is.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from runtime.errors import HedgeError

IMAGE_SUFFIXES = {
    ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
# Those of PIL's preinit first: to try any other it imports all that it knows (20 ms).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "AVIF", "JPEG2000", "TIFF", "WEBP")
MAX_PIXELS = 2**26  # 0.9 GB while it is read; a small file can claim any size

# Two lines each, on what is either refused here in one or harmless.
warnings.filterwarnings("ignore", module=r"PIL\.")

_TOO_LARGE = f"it has more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller or cut it"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_HDR = re.compile(rb"colrnclx..\0\x10|cICP.\x10", re.DOTALL)  # how AVIF, HEIC and PNG tell it
# A JPEG 2000's header (SIZ) with more than 8 bits: PIL makes black of the brightest such colours.
_DEEP_JPEG2000 = re.compile(rb"\xff\x4f\xff\x51.{38}[\x08-\x7f\x88-\xff]", re.DOTALL)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AS_BROWSERS_MS = 100  # a picture that says no time of its own
_SUBFILE_TYPE, _PHOTOMETRIC = 254, 262  # tags of a TIFF


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file, upright; HedgeError names one that is not readable."""
    with opened(path, "image") as image:
        return rgb(image)


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) that ``read_rgb`` would return, by the file's header where that says it."""
    with opened(path, "image", header=True) as image:
        turned = orientation(image) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def read_orientation(path: Path) -> int:
    """The EXIF orientation that ``read_rgb`` undoes, by the header; 1 where that has none."""
    with opened(path, "image", header=True) as image:
        if image.format == "PNG" and "exif" not in image.info:
            return 1  # PIL would decode the picture to look behind it
        return orientation(image)


def is_image(path: Path) -> bool:
    """Whether a file is an image rather than a video, by its suffix or its content."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    head = _head(path)
    return (head.startswith(_MAGIC) or _is_heif(head) or _is_avif(head)) and not is_jpegs(path)


def is_jpegs(path: Path) -> bool:
    """Whether a file is a video of one JPEG after another, as they are or as cameras send them.

    Its name says so: a photo begins in the same way.
    """
    named = path.suffix.lower() in {".mjpeg", ".mjpg"}
    return named and _head(path).lstrip().startswith((b"\xff\xd8\xff", b"--"))


def pictures(path: Path) -> int:
    """How many pictures an animation shows; 1 of any other image."""
    with opened(path, "image", animated=True, header=True) as image:
        return _pictures(image)


def animation(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """The (H, W, 3) uint8 RGB pictures of an animation, and the seconds that each is shown."""
    with opened(path, "animation", animated=True) as image:
        count = _pictures(image)
        # A PNG may begin with a picture for viewers that show only one.
        first = int(getattr(image, "default_image", False))
        for number in range(first, first + count):
            image.seek(number)
            yield rgb(image), (image.info.get("duration") or _AS_BROWSERS_MS) / 1000


@contextmanager
def opened(
    path: Path, what: str, animated: bool = False, header: bool = False
) -> Iterator[Image.Image]:
    """A single picture whose header is read; HedgeError for what does not decode in the block.

    what: how the error calls the file, "image"; animated: several pictures may be an animation;
    header: nothing but the header is asked for, so that the rest need not be whole.
    """
    try:
        with _open(path) as image:
            if image.format == "PNG" and not header:
                _check_sums(path)
            several = _several(image)
            if several and not (animated and _pictures(image) > 1):
                raise ValueError(f"{several}, and none of them is the image; save the one you mean")
            yield image
    except HedgeError:
        raise
    except Exception as error:  # the decoders raise whatever foreign bytes lead them to
        cause = str(error) or type(error).__name__
        raise HedgeError(f"{path}: not a readable {what}: {cause}") from error


def rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the picture that ``image`` stands at, upright."""
    deep = ";16" in raw_mode(image)
    flat = _eight_bits(image) if image.mode[0] in "IF" else image
    # Of 16-bit colours PIL keeps the upper 8.
    if deep and flat is image and 0 < np.asarray(image.convert("RGB")).max() < 16:
        raise ValueError("its brightest value is below 4096 of 65535; scale it to 0..65535")
    plain = _in_srgb(flat, image.info.get("icc_profile"))
    return np.asarray(upright(plain, orientation(image)))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8 of an image; 1, as it is stored, where nothing readable says so."""
    with suppress(Exception):
        if image.format != "TIFF":  # which PIL turns by itself
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    """An image whose EXIF orientation was ``turn`` as it is to be looked at."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def raw_mode(image: Image.Image) -> str:
    """How a file not yet decoded stores a pixel, in PIL's words: "L;4", "RGB;16B", "I;12"."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF stores white as 0."""
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _open(path: Path) -> Image.Image:
    formats: tuple[str, ...] = FORMATS
    head = _head(path)
    if _HDR.search(head):
        raise ValueError("HDR (PQ) is dim and gray without tone mapping; convert it to SDR first")
    if _is_heif(head):
        try:
            import pi_heif
        except ImportError:
            raise ValueError("HEIC needs a decoder: pip install 'hedge-seg[heic]'") from None
        pi_heif.register_heif_opener()
        formats = ("HEIF",)
    try:
        Image.preinit()
        image = Image.open(path, formats=formats)
    except Image.UnidentifiedImageError:
        raise ValueError(f"damaged, rare, or none of {', '.join(FORMATS)}, HEIC") from None
    except Image.DecompressionBombError:
        raise ValueError(_TOO_LARGE) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(_TOO_LARGE)
    if image.format == "JPEG2000" and image.mode[0] != "I" and _DEEP_JPEG2000.search(head):
        image.close()
        raise ValueError("JPEG 2000 in colour with more than 8 bits; save 8 bits, or a TIFF or PNG")
    return image


def _check_sums(path: Path) -> None:
    """ValueError unless a PNG's pixels have their checksums, which PIL passes over."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if name in (b"IDAT", b"fdAT"):
                crc = zlib.crc32(file.read(length), zlib.crc32(name))
                if crc.to_bytes(4, "big") != file.read(4):
                    raise ValueError("damaged: its pixels do not match their checksum")
            else:
                file.seek(length + 4, 1)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not _is_avif(head)


def _is_avif(head: bytes) -> bool:
    """AVIF may be the second of an ISO media file's brands."""
    brands = head[8 : int.from_bytes(head[:4], "big")]
    return head[4:8] == b"ftyp" and bool(re.search(b"^(....)*avi[fs]", brands, re.DOTALL))


def _several(image: Image.Image) -> str:
    """What is said of a file with more than one picture, nothing where one is the image."""
    if image.format == "TIFF":  # pages marked as copies of less resolution do not count
        if image.tag_v2.get(_SUBFILE_TYPE, 0) & 1:  # type: ignore[attr-defined]
            return "it begins with a thumbnail, as raw files of cameras do"
        with suppress(EOFError):
            for page in range(1, 100):
                image.seek(page)
                if not image.tag_v2.get(_SUBFILE_TYPE, 0) & 1:  # type: ignore[attr-defined]
                    return "it has several pages"
        image.seek(0)
        return ""
    count = _pictures(image)
    return f"it holds {count} pictures" if count > 1 else ""


def _pictures(image: Image.Image) -> int:
    """How many pictures a file shows; an MPO is a photo with its depth or other eye behind it."""
    if image.format in ("MPO", "TIFF"):
        return 1
    return getattr(image, "n_frames", 1) - bool(getattr(image, "default_image", False))


def _eight_bits(image: Image.Image) -> Image.Image:
    """A gray image of integers or floating point as 8 bits."""
    mode, white = raw_mode(image), white_is_zero(image)
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise ValueError(f"its values go from {low:g} to {high:g}; save 8 bits, or 0..1")
        gray = np.rint(values * 255).astype(np.uint8)
    else:
        full = 4095 if mode.startswith("I;12") else 65535
        if image.mode == "I" and image.format == "TIFF" and high <= 255:
            full = 255  # 32 bits that hold what 8 bits do
        if low < 0 or high > full:
            raise ValueError(f"its values go from {low} to {high}; save 8 bits, or 0..{full}")
        if 0 < high <= full >> 4:
            raise ValueError(f"its brightest value is {high} of {full}; scale it to 0..{full}")
        gray = np.rint(np.arange(full + 1) * (255 / full)).astype(np.uint8)[values]
    return Image.fromarray(255 - gray if white else gray)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """``image`` as RGB; its colours converted where a profile says that they are others."""
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode != "CMYK":
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                return converted or image
    return image.convert("RGB")
